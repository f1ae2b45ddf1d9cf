"""What a run on a Ray cluster is made of, without a cluster: addresses, nodes, storage, a worker's answers, claims."""

import os
import pickle
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from importlib import util
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.photo_folders import broken, photo, tree
from support.ray_network import SLOW, TOO_LARGE, InvertingOrder

from deblur_cli.batch.inputs import PhotoSearch, find_photos
from deblur_cli.batch.jobs import PixelsDone, Result
from deblur_cli.batch.naming import Layout
from deblur_cli.batch.plan import build_plan
from deblur_cli.batch.ray_cluster import Node, NodeCheck, check_address, share_out
from deblur_cli.batch.ray_crew import Crew, CrewMember
from deblur_cli.batch.ray_runner import RayRun
from deblur_cli.batch.ray_worker import Answer, RayWorker, Ready, WorkerOrder, find_obstacle, first_alone
from deblur_cli.batch.stages import WriteOrder
from deblur_cli.batch.stamp import Stamp
from deblur_cli.system import claims

pytestmark = pytest.mark.usefixtures("inverting")
STAMP = Stamp("inverts", {}, {})


@pytest.fixture
def deblur(command):
    return partial(command, "run")


def plan_all():
    found = find_photos(["in"], [], PhotoSearch(False, Path("out")))
    layout = Layout(Path("out"), False, "same", "{stem}{ext}", "inverts")
    return build_plan(found, layout, STAMP, overwrite=False).jobs


def hire():
    order = WorkerOrder(InvertingOrder(None, "cpu", "auto", None, 0), WriteOrder(STAMP), "f" * 16, str(Path.cwd()))
    worker = RayWorker(pickle.loads(pickle.dumps(order)), cores=1)
    assert worker.prepare().device == "cpu"
    return worker


@pytest.mark.parametrize("address", ["local", "auto", "10.0.0.7:6379", "head.example:6379", "[::1]:6379"])
def test_a_cluster_is_named_in_three_ways(address, monkeypatch):
    monkeypatch.setattr(util, "find_spec", lambda name: True)
    monkeypatch.setattr("deblur_cli.batch.ray_cluster.find_spec", lambda name: True)
    check_address(address)


@pytest.mark.parametrize("address", ["", "ray://head:10001", "head", "10.0.0.7:", "local:x"])
def test_any_other_address_is_refused_before_the_work(deblur, address):
    photo("in/a.png")
    status, out, err = deblur("in", "-o", "out", "--ray", address)
    assert (status, out) == (2, [])
    assert err == [f"deblur: error: --ray {address}: must be local, auto or HOST:PORT of the cluster's head"]


def test_without_ray_a_line_says_how_to_install_it(deblur, monkeypatch):
    photo("in/a.png")
    monkeypatch.setattr("deblur_cli.batch.ray_cluster.find_spec", lambda name: None)
    status, out, err = deblur("in", "-o", "out", "--ray", "local")
    assert (status, out) == (2, [])
    assert err == ["deblur: error: --ray local: Ray is not installed; pip install 'deblur-cli[ray]'"]


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_a_worker_takes_the_gpu_that_ray_gives_it(deblur, monkeypatch, device):
    monkeypatch.setattr("deblur_cli.batch.ray_cluster.find_spec", lambda name: True)
    photo("in/a.png")
    status, _, err = deblur("in", "-o", "out", "--ray", "local", "--device", device)
    assert (status, len(err)) == (2, 1)
    assert "with --ray each worker has a GPU of its own" in err[0]


def test_the_driver_and_the_modules_of_a_worker_load_no_ray_and_no_torch():
    names = "deblur_cli.batch.ray_worker, deblur_cli.batch.ray_runner, deblur_cli.commands.run_task"
    probe = f"import sys, {names}; sys.exit(bool({{'ray', 'torch'}} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", probe], check=True)


def test_workers_are_one_a_card_or_one_a_group_of_cores():
    plain, large = Node("a", "10.0.0.1", 4, 0), Node("b", "10.0.0.2", 20, 0)
    cards = Node("c", "10.0.0.3", 16, 4)
    assert share_out([plain, large], "auto") == [(plain, 4, 0), (large, 10, 0), (large, 10, 0)]
    assert share_out([plain, cards], "auto") == [(cards, 4, 1)] * 4
    assert share_out([plain, cards], "cuda") == [(cards, 4, 1)] * 4
    assert share_out([plain], "cuda") == []
    assert share_out([plain, cards], "cpu") == [(plain, 4, 0), (cards, 8, 0), (cards, 8, 0)]


def test_a_node_must_see_the_photos_and_the_results_and_have_the_version(tmp_path):
    photo("in/a.png")
    inspection = NodeCheck([], plan_all(), "run")
    inspection.begin()
    storage = inspection.storage
    answer = storage.marker.with_name(f"{storage.marker.name}.node")
    assert find_obstacle(storage, answer) == ""
    assert answer.read_text() == "run"
    assert "install the same version" in find_obstacle(replace(storage, version="0.0"), answer)
    (tmp_path / "elsewhere").mkdir()
    lost = find_obstacle(replace(storage, folder=str(tmp_path / "elsewhere")), answer)
    assert lost.startswith("does not share the folder ")
    unseen = find_obstacle(replace(storage, inputs=((Path("in/gone.png"), 9),)), answer)
    assert unseen == f"does not see {Path.cwd() / 'in/gone.png'}; photos must lie where all nodes read"
    other = find_obstacle(replace(storage, run="another"), answer)
    assert other.startswith("does not share the folder ")
    inspection.close()
    assert [path for path in tmp_path.rglob(".deblur*") if path.is_file()] == []


def test_a_worker_answers_with_results_and_lets_its_claims_go():
    photo("in/a.png", shade=90)
    broken("in/b.jpg")
    photo("in/c.png", shade=TOO_LARGE)
    good, bad, large = (pickle.loads(pickle.dumps(hire().work(job))) for job in plan_all())
    assert (good.result.status, good.notices, good.is_machine_at_fault) == ("done", ("was inverted",), False)
    assert (bad.result.status, bad.result.error_type, bad.is_machine_at_fault) == ("failed", "PhotoError", False)
    assert "Traceback" in bad.trace
    assert large.is_machine_at_fault
    assert tree("out") == ["a.png"]
    again = hire().work(plan_all()[0])
    assert again.result.status == "skipped"


def test_a_photo_of_another_run_is_left_to_it():
    photo("in/a.png")
    Path("out").mkdir()
    claim = claims.take(Path("out/a.png"))
    answer = hire().work(plan_all()[0])
    assert (answer.is_taken, answer.result, answer.holder) == (True, None, claims.holder(Path("out/a.png")))
    claim.release()
    assert hire().work(plan_all()[0]).result.status == "done"


def test_a_worker_that_is_halted_drops_the_photo_in_the_network():
    photo("in/a.png", shade=SLOW)
    worker = hire()
    threading.Timer(0.2, worker.halt).start()
    answer = worker.work(plan_all()[0])
    assert (answer.result, answer.is_taken) == (None, False)
    assert tree("out") == []


def test_a_worker_tells_how_far_the_photo_in_its_network_is():
    source = photo("in/a.png", shade=SLOW)
    worker = hire()
    assert worker.progress() is None
    thread = threading.Thread(target=worker.work, args=plan_all())
    thread.start()
    while worker.progress() is None:
        time.sleep(0.01)
    worker.halt()
    thread.join()
    found, pixels = worker.progress()
    assert (found, pixels > 0) == (source, True)


def test_one_worker_of_a_machine_loads_first_and_then_all_others_at_once():
    entered, may_leave, together = [], threading.Event(), threading.Barrier(2, timeout=30)

    def load():
        with first_alone("run"):
            entered.append(threading.current_thread())
            if len(entered) == 1:
                may_leave.wait()
            else:
                together.wait()

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    assert len(entered) == 1
    may_leave.set()
    for thread in threads:
        thread.join()
    assert (len(entered), together.broken) == (3, False)


class SlowRay:
    """In the place of Ray: nothing is answered before it is `open`."""

    exceptions = SimpleNamespace(RayTaskError=KeyError, RayError=OSError)

    def __init__(self):
        self.answers, self.open = {}, False

    def wait(self, references, timeout):
        return references[-1:] if self.open else [], []

    def get(self, reference):
        return self.answers[reference]

    def method(self, answer):
        """Of an actor's handle."""

        def remote(*arguments):
            reference = object()
            self.answers[reference] = answer(*arguments)
            return reference

        return SimpleNamespace(options=lambda concurrency_group: SimpleNamespace(remote=remote))


@pytest.fixture
def ray(monkeypatch):
    found = SlowRay()
    monkeypatch.setattr("deblur_cli.batch.ray_crew.import_ray", lambda: found)
    monkeypatch.setattr("deblur_cli.batch.ray_crew.list_nodes", list)
    return found


def crew_of(ray, ready):
    order = WorkerOrder(InvertingOrder(None, "cpu", "auto", None, 0), WriteOrder(STAMP), "f" * 16, str(Path.cwd()))
    crew = Crew(order, plan_all(), "cpu", print)
    handle = SimpleNamespace(
        work=ray.method(lambda job, leftovers: Answer(Result(job, "done", "", ""))),
        progress=ray.method(lambda: (crew.jobs[0].source, 40)),
    )
    for is_ready in ready:
        state = Ready("0badcafe", "cpu", "float32") if is_ready else None
        crew.members.append(CrewMember(Node("a", "10.0.0.1", 1, 0), 1, 0, handle, ready=state))
    return crew


@pytest.mark.parametrize(
    ("ready", "photos", "held"),
    [([True, True], 2, [1, 1]), ([True, True], 3, [2, 1]), ([True, False], 2, [1, 0]), ([True, False], 3, [2, 0])],
)
def test_nobody_has_two_photos_while_another_has_none(ray, ready, photos, held):
    for number in range(photos):
        photo(f"in/{number}.png")
    crew, seen = crew_of(ray, ready), []

    def look():
        seen.append([len(member.tasks) for member in crew.members])
        ray.open = len(seen) > 1
        return False

    assert len(RayRun(crew.jobs, crew).run(emit=print, stop=look).done) == photos
    assert seen[1] == held


def test_how_far_a_photo_is_reaches_the_driver(ray):
    photo("in/a.png")
    crew, told = crew_of(ray, [True]), []
    ray.open = True
    RayRun(crew.jobs, crew).run(emit=told.append, stop=bool)
    assert [event.pixels for event in told if isinstance(event, PixelsDone)] == [40]


def leave(output, signed):
    """What a worker on another machine left when it died, by the name of the marker that is made here."""
    claim = claims.take(output)
    marker = claim.marker
    claim.release()
    marker.write_text(signed)
    return marker


def test_the_claim_of_a_dead_worker_on_another_node_is_taken_over_by_the_same_run_only():
    Path("out").mkdir()
    output = Path("out/a.png")
    leave(output, "0badcafe" + "a" * 16)
    assert claims.take(output) is None
    assert claims.take(output, "b" * 16) is None
    assert claims.holder(output) == "0badcafe"
    claim = claims.take(output, "a" * 16)
    assert claim is not None
    assert claims.take(output, "a" * 16) is None  # this one lives
    claim.release()
    assert tree("out") == []


def test_a_claim_that_is_taken_over_loses_the_name_of_the_run_before():
    Path("out").mkdir()
    output = Path("out/a.png")
    marker = leave(output, "0badcafe" + "a" * 16)
    os.utime(marker, (time.time() - 7200,) * 2)
    claim = claims.take(output)
    assert marker.read_text() == claims.holder(output) != "0badcafe"
    claim.release()


def test_what_a_dead_worker_began_is_removed_when_the_photo_is_claimed_again():
    photo("in/a.png")
    Path("out").mkdir()
    left = Path("out/.a.png.deblur-0badcafe-0123456789abcdef.tmp")
    left.touch()
    assert hire().work(plan_all()[0], (left,)).result.status == "done"
    assert tree("out") == ["a.png"]

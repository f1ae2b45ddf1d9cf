"""Pulling from a Hub-like server by the real huggingface_hub client, in good weather and in bad."""

import errno
import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from support.deblur_process import call
from support.hub_server import REPOSITORY, REVISION, Answer, serve_hub
from support.hub_user import use_empty_home, use_server

from deblur_cli import weights
from deblur_cli.app import run_app
from deblur_cli.errors import WeightsError
from deblur_cli.weights import hub as hub_module
from deblur_cli.weights import store
from deblur_cli.weights.manifest import find_files

CONTENT = os.urandom(299_999) + b"."  # some tests change the last byte
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub with one file, which is the user's model `net`; its cache and settings are in `tmp_path`."""
    from huggingface_hub import constants

    use_empty_home(tmp_path, monkeypatch)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", constants.DOWNLOAD_CHUNK_SIZE)
    monkeypatch.setattr(hub_module, "CHUNK", 1 << 14)
    monkeypatch.setattr(hub_module, "WAITS", (0.01, 0.01, 0.01))
    real_sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: real_sleep(min(seconds, 0.01)))
    with serve_hub() as server:
        server.files["net.pth"] = CONTENT
        use_server(server.url, monkeypatch)
        add("net", "net.pth", SHA256)
        yield server


def add(name, file, sha256=None, *, repository=REPOSITORY, revision=REVISION):
    options = ["--sha256", sha256] if sha256 else []
    assert run_app(["weights", "add", name, f"hf://{repository}@{revision}/{file}", *options]) == 0


@pytest.fixture
def deblur(hub, capfd):
    """Run a command line: status, stdout, stderr."""
    capfd.readouterr()

    def run(*arguments):
        status = run_app(["weights", *arguments])
        return status, *capfd.readouterr()

    return run


def cached():
    """The files that lie in the Hub's cache, but for its own bookkeeping."""
    from huggingface_hub import constants

    paths = [path for path in store.Path(constants.HF_HUB_CACHE).rglob("*") if path.is_file()]
    return sorted(path.name for path in paths if path.suffix != ".lock" and path.name != "CACHEDIR.TAG")


def refused(deblur, *arguments):
    """The one line of an answer with status 1 that has left nothing behind."""
    status, out, err = deblur(*arguments)
    lines = [line for line in err.splitlines() if line.startswith("deblur: error: ")]
    assert (status, out, len(lines)) == (1, "", 1), err
    assert cached() == [] or "gone" in arguments
    return lines[0].removeprefix("deblur: error: ")


def test_pull_fetches_verifies_and_prints_the_path(hub, deblur):
    status, out, err = deblur("pull", "net")
    assert status == 0
    assert store.Path(out.strip()).read_bytes() == CONTENT
    assert "net: downloaded and verified" in err
    assert hub.gets() == [""], hub.requests


def test_pull_again_asks_the_server_nothing(hub, deblur):
    deblur("pull", "net")
    asked = len(hub.requests)
    status, _, err = deblur("pull", "net")
    assert (status, err) == (0, "deblur: net: was here, verified\n")
    assert len(hub.requests) == asked


def test_a_verified_file_is_not_read_again_until_it_changes(hub, deblur, monkeypatch):
    deblur("pull", "net")
    (file,) = find_files("net")
    monkeypatch.setattr(store, "hash_file", lambda path: pytest.fail("read for nothing"))
    path = weights.fetch(file).path
    monkeypatch.undo()
    path.resolve().write_bytes(CONTENT[:-1] + b"!")
    os.utime(path.resolve(), (1, 1))
    assert store.find_fault(file, path).startswith("sha256 is ")


def test_a_cut_connection_is_resumed_where_it_broke(hub, deblur):
    hub.trouble = [Answer(cut=100_000), Answer(cut=200_000)]
    status, out, _ = deblur("pull", "net")
    assert status == 0
    assert store.Path(out.strip()).read_bytes() == CONTENT
    spans = hub.gets()
    assert (spans[0], len(spans)) == ("", 3)
    assert all(span.startswith("bytes=") and int(span[6:-1]) > 80_000 for span in spans[1:])


def test_a_connection_that_always_breaks_ends_in_one_line(hub, deblur):
    hub.trouble = [Answer(cut=0) for _ in range(60)]
    line = refused(deblur, "pull", "net")
    assert line.startswith(f"net: cannot fetch it from {hub.url} (")
    assert "deblur weights import net FILE" in line


@pytest.mark.parametrize("token", [None, "wrong"])
def test_a_gated_repository_names_its_terms_and_the_next_command(hub, deblur, monkeypatch, token):
    hub.gate = "right"
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    line = refused(deblur, "pull", "net")
    assert line.startswith(f"net: {hub.url}/{REPOSITORY} is gated; accept its terms there, set HF_TOKEN or ")
    assert line.endswith("then deblur weights pull net")


def test_the_right_token_opens_the_gate(hub, deblur, monkeypatch):
    hub.gate = "right"
    monkeypatch.setenv("HF_TOKEN", "right")
    assert deblur("pull", "net")[0] == 0


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({"file": "other.pth"}, "has no other.pth at 0123456789ab; fetch it elsewhere"),
        ({"file": "net.pth", "revision": "f" * 40}, "has no net.pth at ffffffffffff; fetch it elsewhere"),
        ({"file": "net.pth", "repository": "nobody/nothing"}, "was not found, is private, or HF_TOKEN is not valid"),
    ],
)
def test_what_is_not_there_is_said(hub, deblur, capfd, place, text):
    add("gone", **place)
    capfd.readouterr()
    assert text in refused(deblur, "pull", "gone")


def test_a_forbidden_token_is_said(hub, deblur):
    hub.trouble = [Answer(403, method="HEAD")]
    assert "refuses this HF_TOKEN (403)" in refused(deblur, "pull", "net")


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_trouble_is_tried_again(hub, deblur, status, method):
    hub.trouble = [Answer(status, method=method), Answer(status, method=method)]
    assert deblur("pull", "net")[0] == 0
    assert hub.trouble == []


@pytest.mark.parametrize(("status", "text"), [(429, "asks for fewer requests"), (503, "is out of order")])
def test_a_lasting_trouble_ends_in_one_line(hub, deblur, status, text):
    hub.trouble = [Answer(status, method="*") for _ in range(60)]
    line = refused(deblur, "pull", "net")
    assert line == f"net: {hub.url} {text} ({status}); wait a little, then deblur weights pull net"


@pytest.mark.parametrize("sent", [CONTENT[:-1] + b"!", CONTENT + b"more", CONTENT[:-9]])
def test_wrong_bytes_are_removed_and_never_used(hub, deblur, sent):
    hub.sent["net.pth"] = sent
    line = refused(deblur, "pull", "net")
    assert line.startswith("net: ")
    assert f"{hub.url}" in line
    assert SHA256 not in cached()
    del hub.sent["net.pth"]
    assert deblur("pull", "net")[0] == 0


def test_a_damaged_cache_is_refused_offline_and_mended_online(hub, deblur):
    blob = store.Path(deblur("pull", "net")[1].strip()).resolve()
    blob.write_bytes(CONTENT[::-1])
    assert deblur("list")[1].splitlines()[-1].split()[:2] == ["net", "cached"]  # the right size, not read yet
    status, out, err = deblur("verify", "net")
    assert (status, out.splitlines()[1].split()[:2]) == (1, ["net", "damaged:"])
    assert "run deblur weights pull net" in err
    assert deblur("list")[1].splitlines()[-1].split()[:2] == ["net", "damaged"]
    assert deblur("pull", "net", "--offline")[0] == 1
    assert blob.exists()
    assert deblur("pull", "net")[0] == 0
    assert blob.read_bytes() == CONTENT


def test_offline_without_a_cache_names_the_next_command(hub, deblur):
    line = refused(deblur, "pull", "net", "--offline")
    assert line.startswith("net: not on this machine")
    assert "deblur weights pull net" in line
    assert hub.requests == []


def test_offline_with_a_cache_works(hub, deblur, monkeypatch):
    deblur("pull", "net")
    hub.requests.clear()
    monkeypatch.setenv("DEBLUR_OFFLINE", "1")
    assert deblur("pull", "net")[0] == 0
    assert weights.fetch(find_files("net")[0]).path.is_file()
    assert hub.requests == []


def test_no_network_ends_soon_in_one_line(hub, deblur, monkeypatch):
    dead = "http://127.0.0.1:9"
    use_server(dead, monkeypatch)
    line = refused(deblur, "pull", "net")
    assert line.startswith(f"net: cannot fetch it from {dead} (")
    assert "check the network" in line


def test_a_full_disk_is_said_before_the_download(hub, deblur, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    line = refused(deblur, "pull", "net")
    assert line.startswith("disk full: net takes ")
    assert hub.gets() == []


def test_a_disk_that_fills_up_on_the_way_is_said(hub, deblur, monkeypatch):
    import huggingface_hub

    def fill(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fill)
    assert refused(deblur, "pull", "net").startswith("disk full: ")


def test_several_files_come_together_and_one_fault_stops_no_other(hub, deblur, capfd):
    for name in ("a", "b", "c"):
        hub.files[f"{name}.pth"] = name.encode() * 1000
        add(name, f"{name}.pth")
    add("gone", "gone.pth")
    capfd.readouterr()
    status, out, err = deblur("pull", "a", "gone", "b", "c")
    assert status == 1
    assert [store.Path(line).name for line in out.splitlines()] == ["a.pth", "b.pth", "c.pth"]
    assert "has no gone.pth" in err.splitlines()[-1]


def test_a_file_without_a_published_hash_is_pinned_and_the_user_is_told(hub, deblur, capfd):
    add("new", "net.pth")
    capfd.readouterr()
    assert f"new: nobody has published its sha256; pinned to {SHA256}" in deblur("pull", "new")[2]
    assert "pinned" not in deblur("pull", "new")[2]
    (file,) = find_files("new")
    store.discard(store.locate(file))
    hub.files["net.pth"] = CONTENT[::-1]
    assert "sent other bytes" in refused(deblur, "pull", "new")


def test_run_fetches_by_itself_and_tells_the_size(hub, caplog):
    with caplog.at_level(logging.WARNING, logger="deblur_cli"):
        path = weights.fetch(find_files("net")[0]).path
    assert path.read_bytes() == CONTENT
    assert caplog.messages == [f"deblur: downloading net, from {hub.url}/{REPOSITORY}"]


def test_run_offline_says_what_to_pull(hub, monkeypatch):
    monkeypatch.setenv("DEBLUR_OFFLINE", "yes")
    with pytest.raises(WeightsError, match="deblur weights pull net"):
        weights.fetch(find_files("net")[0])


def write_model(hub, **more):
    """Make the Hub's repository a whole model with one file."""
    part = {"path": "net.pth", "bytes": len(CONTENT), "sha256": SHA256, "licence": "MIT"}
    table = {"format": 1, "name": "n", "summary": "Whole.", "backend": "expert", "files": {"expert": part}}
    hub.files["model.json"] = json.dumps({**table, **more}).encode()


@pytest.mark.parametrize("revision", ["", "@main", f"@{REVISION}", "/", "@main/"])
def test_a_whole_repository_is_added_at_its_commit_and_pulled(hub, deblur, revision):
    write_model(hub)
    assert deblur("add", "whole", f"hf://{REPOSITORY}{revision}")[0] == 0
    (file,) = find_files("whole")
    assert (file.revision, file.name, file.sha256, file.bytes) == (REVISION, "net.pth", SHA256, len(CONTENT))
    status, out, _ = deblur("pull", "whole")
    assert status == 0
    assert store.Path(out.strip()).read_bytes() == CONTENT


def test_a_whole_repository_with_other_bytes_than_it_promises_is_refused(hub, deblur):
    write_model(hub)
    deblur("add", "whole", f"hf://{REPOSITORY}")
    hub.sent["net.pth"] = CONTENT[:-1] + b"!"
    status, _, err = deblur("pull", "whole")
    assert status == 1
    assert "sent other bytes than the manifest promises" in err


WHOLE_FAULTS = [
    (Answer(401, "GatedRepo", method="*"), "is gated; accept its terms there, set HF_TOKEN or run 'hf auth login'"),
    (Answer(403, method="*"), "refuses this HF_TOKEN (403); give it read access, then add it again"),
    (Answer(404, "RepoNotFound", method="*"), "was not found, is private, or HF_TOKEN is not valid"),
    (Answer(429, method="*"), "asks for fewer requests (429); wait a little, then add it again"),
    (Answer(503, method="*"), "is out of order (503); wait a little, then add it again"),
    (Answer(cut=0, method="GET"), "cannot be reached"),
]


@pytest.mark.parametrize(("answer", "text"), WHOLE_FAULTS, ids=[row[1][:30] for row in WHOLE_FAULTS])
def test_a_repository_that_cannot_be_read_is_one_line(hub, deblur, answer, text):
    write_model(hub)
    hub.trouble = [answer] * 60
    assert text in refused(deblur, "add", "whole", f"hf://{REPOSITORY}")


def test_a_foreign_model_json_on_the_hub_names_its_commit(hub, deblur):
    hub.files["model.json"] = b'{"model_type": "bert"}'
    status, _, err = deblur("add", "whole", f"hf://{REPOSITORY}")
    assert (status, err.count("\n")) == (1, 1)
    assert f"hf://{REPOSITORY}@{REVISION}/model.json: is no model.json of this tool" in err


def test_adding_a_whole_repository_without_a_network_is_one_line(hub, deblur, monkeypatch):
    dead = "http://127.0.0.1:9"
    use_server(dead, monkeypatch)
    line = refused(deblur, "add", "whole", f"hf://{REPOSITORY}")
    assert line.startswith(f"{dead}/{REPOSITORY}: cannot be reached (")
    assert line.endswith("check the network, then add it again")


@pytest.fixture
def environment(hub, tmp_path):
    """What a process of its own needs to see the same Hub."""
    settings = str(tmp_path / "settings")
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "DEBLUR_CONFIG_HOME": settings}


def start(environment, *arguments):
    command = [sys.executable, "-m", "deblur_cli", "weights", *arguments]
    environment = {**os.environ, **environment, "PYTHONPATH": str(store.PACKAGE.parent)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_two_processes_fetch_the_same_file_once(hub, environment):
    import threading

    hub.delay = threading.Event()
    with start(environment, "pull", "net") as first, start(environment, "pull", "net") as second:
        assert hub.waiting.wait(20)
        while sum(method == "HEAD" for method, _, _ in hub.requests) < 4:  # both are about to fetch
            time.sleep(0.01)
        hub.delay.set()
        answers = [process.communicate(timeout=30) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), answers
    assert answers[0][0] == answers[1][0] != ""
    assert hub.gets() == [""], hub.requests


@pytest.mark.parametrize("names", [["net"], ["net", "other"]])
def test_an_interrupted_pull_leaves_nothing_half_installed(hub, environment, names):
    import threading

    hub.files["other.pth"] = b"other" * 1000
    add("other", "other.pth", hashlib.sha256(hub.files["other.pth"]).hexdigest())
    hub.delay = threading.Event()
    with start(environment, "pull", *names) as process:
        assert hub.waiting.wait(20)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    hub.delay.set()
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert cached() == []


def test_the_environment_of_the_hub_is_honoured(hub, environment):
    answer = call(["weights", "pull", "net"], **environment)
    assert answer.returncode == 0
    assert answer.stdout.startswith(environment["HF_HOME"])
    hub.requests.clear()
    answer = call(["weights", "path", "net"], **environment, HF_HUB_OFFLINE="1")
    assert (answer.returncode, hub.requests) == (0, [])
    answer = call(
        ["weights", "pull", "net"], **{**environment, "HF_HOME": environment["HF_HOME"] + "2"}, HF_HUB_OFFLINE="1"
    )
    assert (answer.returncode, hub.requests) == (1, [])
    assert answer.stderr.count("\n") == 1

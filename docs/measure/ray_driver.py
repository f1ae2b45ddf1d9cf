"""What a driver of `deblur run --ray` costs: tiny photos, a network that does nothing, raylets on this machine.

    python docs/measure/ray_driver.py --photos 10000 --workers 1,2,3

prints for each number of workers, one a raylet: photos a second, the driver's processor time a photo, and its memory on
the way. `--seconds 0.1` lets the network wait as if a GPU was at work.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
os.environ |= {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
sys.path.insert(0, str(ROOT))

from deblur_cli.batch.inputs import PhotoSearch, find_photos  # noqa: E402 - the workers need the path, too
from deblur_cli.batch.jobs import Event, Job, PhotoFinished  # noqa: E402
from deblur_cli.batch.naming import Layout  # noqa: E402
from deblur_cli.batch.plan import build_plan  # noqa: E402
from deblur_cli.batch.ray_runner import RayTask, opened_ray  # noqa: E402
from deblur_cli.batch.selection import Place  # noqa: E402
from deblur_cli.batch.stages import WriteOrder  # noqa: E402
from deblur_cli.batch.stamp import Stamp  # noqa: E402
from deblur_cli.restoration.watch import Pixels, Watch  # noqa: E402

STAMP = Stamp("identity", {}, {})


@dataclass(frozen=True)
class Identity:
    """A network that is loaded, and its own order to load it."""

    seconds: float
    device: str = "cpu"
    dtype: str = "float32"

    def load(self, cores: int | None = None) -> "Identity":
        return self

    def __call__(self, blurry: Pixels, watch: Watch, place: Place | None = None) -> Pixels:
        time.sleep(self.seconds)
        return blurry if place is None else blurry[place]


@contextmanager
def raylets(count: int) -> Iterator[str]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        for _ in range(count - 1):
            cluster.add_node(wait=False, **NODE)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


def make_photos(count: int) -> None:
    Path("in").mkdir()
    for number in range(count):
        Image.new("RGB", (12, 8), (10 + number % 200, 80, 70)).save(f"in/{number:05}.png")


def plan_all(output: str) -> tuple[Job, ...]:
    found = find_photos(["in"], [], PhotoSearch(False, Path(output)))
    return build_plan(
        found, Layout(Path(output), False, "same", "{stem}{ext}", "identity"), STAMP, overwrite=False
    ).todo


def memory() -> float:
    """Resident megabytes of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def measure(workers: int, seconds: float) -> str:
    started = time.process_time()
    jobs = plan_all(f"out{workers}")
    planned = (time.process_time() - started) / len(jobs) * 1000
    finished, marks = 0, []

    def see(event: Event) -> None:
        nonlocal finished
        finished += isinstance(event, PhotoFinished)
        if isinstance(event, PhotoFinished) and finished in (len(jobs) // 10, len(jobs) // 2, len(jobs)):
            marks.append(f"{memory():.1f} MB at {finished}")

    with raylets(workers) as address:
        task = RayTask(jobs, Identity(seconds), WriteOrder(STAMP), "cpu", print)
        with opened_ray(address, task) as run:
            while len(run.crew.ready) < workers:
                list(run.crew.listen())
            busy, begun = time.process_time(), time.perf_counter()
            outcome = run.run(emit=see, stop=bool)
            busy, wall = time.process_time() - busy, time.perf_counter() - begun
    return (
        f"{workers} workers: {len(outcome.done)} of {len(jobs)} written, {len(jobs) / wall:.0f} a second; driver "
        f"{busy / len(jobs) * 1000:.2f} ms a photo and {planned:.2f} ms for the plan; memory {', '.join(marks)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--workers", default="1,2,3")
    parser.add_argument("--seconds", type=float, default=0.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_photos(options.photos)
        for text in options.workers.split(","):
            sys.stdout.write(measure(int(text), options.seconds) + "\n")
            sys.stdout.flush()
        os.chdir(ROOT)


if __name__ == "__main__":
    main()

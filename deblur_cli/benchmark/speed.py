"""Where the time of a restoration goes: by part, by size of the photo, by number of photos. Streams, prints nothing.

Photos are made for it. Parts are timed in this process; start and whole folders in processes of their own, as a user
starts them. Seconds are given on the clock and of the processors: on a machine with other work only the latter count.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deblur_cli.backends import Backend, load_model
from deblur_cli.benchmark.cost import count_macs, read_peak
from deblur_cli.errors import BackendError
from deblur_cli.image_io import Metadata, Photo, read_photo, write_photo
from deblur_cli.metrics.sample import Rgb
from deblur_cli.restoration.contract import Cut, Enhancing, Order, Pixels
from deblur_cli.restoration.pipeline import restore_image
from deblur_cli.system.version import __version__
from deblur_cli.system.wording import count
from deblur_cli.weights.model_spec import ResolvedModel

PARTS = ("decode", "network", "flow", "merge", "encode")
MATRIX_SIDE = 2048  # of the matrices whose product tells the machine's rate
_ROUNDS = 5  # of that product, of which the median counts
_TINY = 0.004  # megapixels of the photo whose whole process is nearly all start
_ASPECT = 1.5
_POLL = 0.02  # seconds


@dataclass(frozen=True, slots=True)
class SpeedPlan:
    """What is to be measured.

    Attributes:
        megapixels: sizes of single photos.
        photos: numbers of photos of the first size that one process restores.
        device, dtype: as for `load_model`.
    """

    models: tuple[ResolvedModel, ...]
    megapixels: tuple[float, ...]
    photos: tuple[int, ...]
    device: str
    dtype: str

    @property
    def total(self) -> int:
        """Rows that `measure_speed` yields."""
        return len(self.models) * (1 + len(self.megapixels) + len(self.photos))


@dataclass(slots=True)
class Spent:
    """Seconds on the clock, and of all processors."""

    wall: float = 0.0
    cpu: float = 0.0


@dataclass(frozen=True, slots=True)
class SpeedRow:
    """One measurement.

    Attributes:
        kind: "photo" (parts of one photo), "start" (the process of a tiny photo) or "folder" (a whole process).
        parts: of a photo, by the names in `PARTS`.
        share: of the machine's rate of multiplication that network and flow reach together.
        peak_mb: 10^6 bytes of a whole process.
    """

    model: str
    kind: str
    megapixels: float
    photos: int
    whole: Spent
    dtype: str = ""
    parts: dict[str, Spent] = field(default_factory=dict)
    share: float | None = None
    peak_mb: float | None = None


def measure_speed(plan: SpeedPlan) -> Iterator[SpeedRow]:
    """Model by model: start, single photos, folders.

    Raises:
        BackendError, WeightsError: a model cannot run.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in plan.models:
            _time_process(plan, model, folder, _TINY, 1, "start")  # what is done once and kept is done here
            yield _time_process(plan, model, folder, _TINY, 1, "start")
            yield from _time_photos(plan, model, folder)
            for count in plan.photos:
                yield _time_process(plan, model, folder, plan.megapixels[0], count, "folder")


def describe_speed(plan: SpeedPlan, rows: Sequence[SpeedRow]) -> dict[str, Any]:
    """Plain values for JSON."""
    machine = {"device": plan.device, "threads": torch.get_num_threads(), "cpus": os.cpu_count()}
    return {"schema": 1, "version": __version__, **machine, "rows": [asdict(row) for row in rows]}


def speed_rows(rows: Sequence[SpeedRow]) -> tuple[list[str], list[list[str]]]:
    """Heading and one row per measurement: seconds per megapixel of the parts, seconds of the whole."""
    heading = ["model", "what", "MP", "format", *(f"{part} s/MP" for part in PARTS), "s", "CPU s", "CPU s/MP", "share"]
    return [*heading, "RAM MB"], [_to_cells(row) for row in rows]


def _to_cells(row: SpeedRow) -> list[str]:
    what = f"{count(row.photos, 'photo')}, whole process" if row.kind == "folder" else row.kind
    parts = [f"{row.parts[part].wall / row.megapixels:.3f}" if row.parts else "-" for part in PARTS]
    per_megapixel = "-" if row.kind == "start" else f"{row.whole.cpu / row.megapixels:.3f}"
    whole = [f"{row.whole.wall:.2f}", f"{row.whole.cpu:.2f}", per_megapixel]
    share = "-" if row.share is None else f"{row.share:.2f}"
    peak = "-" if row.peak_mb is None else f"{row.peak_mb:.0f}"
    return [row.model, what, f"{row.megapixels:g}", row.dtype, *parts, *whole, share, peak]


def make_photo(megapixels: float, seed: int = 0) -> Rgb:
    """(H, W, 3), uint8, 3:2: noise of every coarseness, the coarser the stronger, as photos have it."""
    height = max(8, round((megapixels * 1e6 / _ASPECT) ** 0.5))
    width = max(8, round(megapixels * 1e6 / height))
    generator = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128, dtype=np.float32)
    for step in (1, 4, 16, 64):
        cells = generator.normal(0, 4 * step**0.5, (-(-height // step), -(-width // step), 3)).astype(np.float32)
        picture += np.repeat(np.repeat(cells, step, 0), step, 1)[:height, :width]
    return picture.clip(0, 255).astype(np.uint8)


def measure_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Multiplications a second of one large matrix product; on a CPU a second of the processors counts."""
    left, right = (torch.rand(MATRIX_SIDE, MATRIX_SIDE, device=device).to(dtype) for _ in range(2))
    spent = []
    for _ in range(_ROUNDS + 1):
        seconds = Spent()
        with _clock(seconds, device):
            torch.mm(left, right)
        spent.append(seconds.cpu if device.type == "cpu" else seconds.wall)
    return float(MATRIX_SIDE**3 / median(spent[1:]))


def _time_photos(plan: SpeedPlan, model: ResolvedModel, folder: Path) -> Iterator[SpeedRow]:
    """The first restoration counts operations and warms everything up."""
    backend = load_model(model, device=plan.device, dtype=plan.dtype)
    macs = None
    for megapixels in plan.megapixels:
        path = folder / f"{megapixels}.jpg"
        _write(make_photo(megapixels), path)
        if macs is None:
            warm = read_photo(path).pixels
            found = count_macs(partial(restore_image, warm, backend))
            macs = found and found / megapixels
        yield _time_photo(backend, str(model.spec), path, megapixels, macs)


def _time_photo(backend: Backend, name: str, path: Path, megapixels: float, macs: float | None) -> SpeedRow:
    parts = {part: Spent() for part in PARTS}
    rate = measure_rate(backend.device, backend.dtype)
    whole, restoring = Spent(), Spent()
    clocked = _Clocked(backend, parts) if not isinstance(backend, Enhancing) else _ClockedEnhancing(backend, parts)
    with _clock(whole):
        with _clock(parts["decode"]):
            photo = read_photo(path)
        with _clock(restoring):
            restored = restore_image(photo.pixels, clocked)
        with _clock(parts["encode"]):
            _write(restored, path.with_name("restored.jpg"))
    networks = (parts["network"], parts["flow"])
    parts["merge"].wall = restoring.wall - sum(part.wall for part in networks)
    parts["merge"].cpu = restoring.cpu - sum(part.cpu for part in networks)
    busy = sum(part.cpu if backend.device.type == "cpu" else part.wall for part in networks)
    share = None if macs is None or not busy else macs * megapixels / busy / rate
    dtype = str(backend.dtype).removeprefix("torch.")
    return SpeedRow(name, "photo", megapixels, 1, whole, dtype, parts, share)


class _Clocked:
    """A backend whose seconds are counted; see `Backend`."""

    def __init__(self, backend: Backend, parts: dict[str, Spent]) -> None:
        self._backend, self._parts = backend, parts
        self.name, self.device, self.dtype = backend.name, backend.device, backend.dtype
        self._inside, self._turning, self._clock = 0, threading.Lock(), ExitStack()

    @property
    def tiling(self) -> Cut:
        return self._backend.tiling

    @property
    def module(self) -> nn.Module:
        return self._backend.module

    def restore(self, blurry: Tensor) -> Tensor:
        with self._clocked():
            return self._backend.restore(blurry)

    @contextmanager
    def _clocked(self) -> Iterator[None]:
        """Threads may come at the same time: the clock runs from the first that comes to the last that goes."""
        with self._turning:
            self._inside += 1
            if self._inside == 1:
                self._clock.enter_context(_clock(self._parts["network"], self.device))
        yield
        with self._turning:
            self._inside -= 1
            if self._inside == 0:
                self._clock.close()


class _ClockedEnhancing(_Clocked):
    """The same of one with a second stage; it spares no photo its first one (`Sparing`), so that all cost the same."""

    def __init__(self, backend: Any, parts: dict[str, Spent]) -> None:
        super().__init__(backend, parts)
        self.share: float = backend.share
        self._enhance: Callable[[Pixels, Tensor, Order], Tensor] = backend.enhance

    def enhance(self, blurry: Pixels, estimate: Tensor, order: Order) -> Tensor:
        with _clock(self._parts["flow"], self.device):
            return self._enhance(blurry, estimate, order)


@contextmanager
def _clock(spent: Spent, device: torch.device | None = None) -> Iterator[None]:
    """Adds the seconds of the block, and of the card's work in it."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    spent.wall += time.perf_counter() - wall
    spent.cpu += time.process_time() - cpu


def _time_process(
    plan: SpeedPlan, model: ResolvedModel, folder: Path, megapixels: float, count: int, kind: str
) -> SpeedRow:
    """A whole `deblur run`, from the command line to its last photo."""
    source = folder / f"{kind}-{count}"
    source.mkdir(exist_ok=True)
    for index in range(count):
        path = source / f"{index}.jpg"
        if not path.exists():
            _write(make_photo(megapixels, index), path)
    out = ["-o", str(source / "out"), "--overwrite", "--quiet"]
    command = [sys.executable, "-m", "deblur_cli", "run", str(source), *out, *_name_options(plan, model)]
    started = time.perf_counter()
    with tempfile.TemporaryFile() as told, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told) as process:
        used = _wait(process)
        if process.returncode:
            told.seek(0)
            lines = told.read().decode(errors="replace").strip().splitlines()
            raise BackendError(
                f"deblur run --model {model.spec} has failed: {lines[-1] if lines else 'without a word'}"
            )
    wall = time.perf_counter() - started
    dtype = plan.dtype
    return SpeedRow(str(model.spec), kind, megapixels * count, count, Spent(wall, used[0]), dtype, peak_mb=used[1])


def _wait(process: "subprocess.Popen[bytes]") -> tuple[float, float | None]:
    """Processor seconds and peak memory of a process, at its end; nothing where the system does not tell.

    The peak is asked for again and again: what the system tells of a dead child counts its parent's memory too.
    """
    if not hasattr(os, "wait4"):
        process.wait()
        return 0.0, None
    peak = None
    while True:
        peak = read_peak(process.pid) or peak
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage.ru_utime + usage.ru_stime, peak
        time.sleep(_POLL)


def _name_options(plan: SpeedPlan, model: ResolvedModel) -> list[str]:
    spec = model.spec
    knobs = {"model": spec.name, "expert": spec.expert, "steps": spec.steps, "strength": spec.strength}
    given = {**knobs, "engine": spec.engine, "device": plan.device, "dtype": plan.dtype}
    return [word for key, value in given.items() if value not in (None, "") for word in (f"--{key}", str(value))]


def _write(pixels: Rgb, path: Path) -> None:
    photo = Photo(pixels, None, False, Metadata(), "jpeg")
    write_photo(photo, path, file_format="jpeg", quality=92, stamp=None, times_of=None)

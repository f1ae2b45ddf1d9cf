"""One pair: read it, restore it, score it. Knows the files of one pair and nothing of the run around it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from deblur_cli.backends import load_model
from deblur_cli.benchmark.bench_plan import BenchPlan
from deblur_cli.benchmark.cost import PeakMemory, count_macs, count_parameters
from deblur_cli.benchmark.datasets import Pair
from deblur_cli.benchmark.journal import Cost
from deblur_cli.benchmark.perceptual import load_perceptual
from deblur_cli.benchmark.records import Scores
from deblur_cli.errors import PhotoError
from deblur_cli.image_io import read_photo
from deblur_cli.metrics import Metric, Sample
from deblur_cli.metrics.alignment import AlignmentError, psnr_koehler
from deblur_cli.metrics.sample import Rgb
from deblur_cli.restoration.pipeline import restore_image
from deblur_cli.system.devices import is_out_of_memory

BoundMetric = Callable[[Sample], float | None]

OUT_OF_MEMORY = "out of memory"  # the note of a metric that another try may have a value of


@dataclass(frozen=True, slots=True)
class Photos:
    """The pixels of a pair."""

    blurry: Rgb
    sharp: Rgb | None  # of several truths the first; `pick_truth` reads the others


@dataclass(frozen=True, slots=True)
class Restored:
    """A model's answer and what it cost; `seconds` is None for doing nothing."""

    pixels: Rgb
    seconds: float | None
    cost: Cost


class Restorer:
    """One loaded model. The first photo is restored twice: the warm-up counts operations and is not timed.

    Args:
        model: the name of a row of the plan.
        warm: true leaves the warm-up out, where nobody looks at time and cost.
    Raises:
        BackendError, WeightsError: the model cannot run.
    """

    def __init__(self, plan: BenchPlan, model: str, device: str, *, warm: bool = False) -> None:
        self._options = plan.options
        self._backend = load_model(plan.models[model], device=device, dtype=plan.options.dtype)
        self._memory = PeakMemory(self._backend.device)
        self._macs: float | None = None
        self._warm = warm

    @property
    def device(self) -> torch.device:
        """Where the model runs; metrics are computed there too."""
        return self._backend.device

    def __call__(self, blurry: Rgb) -> Restored:
        """The photo restored, timed from pixels to pixels.

        Raises:
            PhotoError, BackendError: see `restore_image`.
        """
        if not self._warm:
            macs = count_macs(lambda: self._restore(blurry))
            self._macs = macs and macs / megapixels(blurry)
            self._warm = True
        self._memory.reset()
        started = time.perf_counter()
        restored = self._restore(blurry)
        seconds = time.perf_counter() - started
        return Restored(restored, seconds, self._describe_cost())

    def _restore(self, blurry: Rgb) -> Rgb:
        return restore_image(blurry, self._backend, tile=self._options.tile, seed=self._options.seed)

    def _describe_cost(self) -> Cost:
        return Cost(
            parameters=count_parameters(getattr(self._backend, "module", None)),
            macs_per_megapixel=self._macs,
            peak_ram_mb=self._memory.ram(),
            peak_vram_mb=self._memory.vram(),
            device=str(self._backend.device),
            dtype=str(self._backend.dtype).removeprefix("torch."),
        )


def read_pair(pair: Pair) -> Photos:
    """The blurry photo and its first truth.

    Raises:
        PhotoError: a file is no photo, damaged, or the two have different sizes.
    """
    blurry = read_photo(pair.blurry).pixels
    if not pair.truths:
        return Photos(blurry, None)
    sharp = blurry if pair.truths[0] == pair.blurry else read_photo(pair.truths[0]).pixels
    if sharp.shape != blurry.shape:
        raise PhotoError(f"{pair.blurry} and its truth {pair.truths[0]} have different sizes")
    return Photos(blurry, sharp)


def pick_truth(pair: Pair, photos: Photos, restored: Rgb) -> Rgb | None:
    """Of a trajectory's frames the one that the restored photo is nearest to; frames are read one by one."""
    if len(pair.truths) < 2:
        return photos.sharp
    frames = (photos.sharp if index == 0 else read_photo(path).pixels for index, path in enumerate(pair.truths))
    return max(frames, key=lambda frame: psnr_koehler(Sample(restored, restored, frame)))


def bind_metrics(metrics: Sequence[Metric], device: torch.device | str) -> dict[str, BoundMetric]:
    """Name -> function, with the weights of those that have some on the device."""
    functions: dict[str, BoundMetric] = {}
    for metric in metrics:
        if metric.network is not None:
            functions[metric.name] = load_perceptual(metric.network, device)
        elif metric.function is not None:
            functions[metric.name] = metric.function
    return functions


def score(sample: Sample, functions: Mapping[str, BoundMetric]) -> tuple[Scores, str]:
    """Every metric of one sample, and why some have no value."""
    scores: Scores = {}
    notes = {}
    for name, function in functions.items():
        try:
            scores[name] = function(sample)
        except (ValueError, AlignmentError) as fault:
            scores[name] = None
            notes[name] = str(fault)
        except (RuntimeError, MemoryError) as fault:
            if not is_out_of_memory(fault):
                raise
            scores[name] = None
            notes[name] = OUT_OF_MEMORY
    return scores, "; ".join(f"{name}: {why}" for name, why in notes.items())


def megapixels(pixels: Rgb) -> float:
    """Size of a photo."""
    height, width, _ = pixels.shape
    return float(height * width) / 1e6

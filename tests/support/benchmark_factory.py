"""A whole run of the benchmark with a network of three lines: its photos, its plan, its scores."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from deblur_cli import weights
from deblur_cli.benchmark import scoring
from deblur_cli.benchmark.bench_plan import Options, build_bench_plan
from deblur_cli.benchmark.datasets import PairSearch
from deblur_cli.benchmark.journal import Journal
from deblur_cli.benchmark.measuring import run_plan
from deblur_cli.benchmark.summary import build_report
from deblur_cli.errors import BackendError
from deblur_cli.restoration.tiling import Tiling
from deblur_cli.weights import ModelEntry, WeightsFile
from deblur_cli.weights.model_spec import ModelSpec, ResolvedModel
from support.fake_backend import FakeBackend

HASHES = {"weights": "ab" * 32}
FILE = WeightsFile(key="weights", licence="MIT", source="s", sha256="ab" * 32)
FAST = ("psnr", "ssim")


def load_fake(model: ResolvedModel, *, device: str, dtype: str) -> FakeBackend:
    """Adds a grey level a step, ten where it has no steps, none if it is `lazy`; a convolution is there to count."""
    module = nn.Conv2d(3, 4, 3, padding=1)
    levels = 0 if model.name == "lazy" else model.settings.get("steps", 10)

    @torch.inference_mode()
    def brighten(blurry: Tensor) -> Tensor:
        module(blurry)
        return blurry + levels / 255

    return FakeBackend(brighten, model.name, tiling=Tiling(64, 8, 4, 4), module=module)


def load_broken(model, *, device, dtype):
    raise BackendError("the device is missing")


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_pairs(root: Path, **levels: int) -> Path:
    """Photos that are so many levels too dark: a by 5, b by 10 and c by 20, or as told."""
    generator = np.random.default_rng(0)
    for name, step in (levels or {"a": 5, "b": 10, "c": 20}).items():
        blurry = generator.integers(40, 200, (40, 48, 3), dtype=np.uint8)
        write(root / "blur" / f"{name}.png", blurry)
        write(root / "sharp" / f"{name}.png", blurry + np.uint8(step))
    return root


def make_plan(*roots, search=None, **options):
    """The plan of a run with models of these names, which need not be in any manifest."""
    chosen = {"models": ("fake",), "metrics": FAST, "devices": ("cpu",), **options}
    specs = (ModelSpec.parse(model) if isinstance(model, str) else model for model in chosen["models"])
    settings = Options(**{**chosen, "models": tuple(specs)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "find_model", find_entry)
        return build_bench_plan(roots, settings, search or PairSearch())


def find_entry(name):
    return ModelEntry(name, "fake", "s", {"weights": FILE})


@contextmanager
def loading_with(load):
    """Backends of this process come from `load`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "load_model", load)
        yield


def run(plan, folder=None, load=load_fake):
    with loading_with(load):
        records = run_plan(plan, Journal(folder), lambda _: None)
    return build_report(plan, records, "deblur bench photos"), records


def scores(report, model, metric="psnr"):
    return {row.image: row.scores[metric] for row in report.images if row.model == model}

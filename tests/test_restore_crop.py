"""A crop that is restored alone is the same place of the whole result, to the last bit."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from support.dual_expert_factory import build, lively, photo
from support.fake_backend import FakeBackend
from torch import nn

from deblur_cli.backends import restore_crop
from deblur_cli.backends.blended import BlendedBackend
from deblur_cli.backends.expert import ExpertBackend
from deblur_cli.networks.dense_unet import DenseUNet, DenseUNetConfig
from deblur_cli.networks.maxim import Maxim, MaximConfig
from deblur_cli.networks.version_blend import BlendConfig, VersionBlend
from deblur_cli.restoration.pipeline import restore_image
from deblur_cli.restoration.tiling import Tiling, Windows
from deblur_cli.restoration.watch import Pixels, Watch

CPU = torch.device("cpu")
SIZE = (70, 90)  # height and width
CROPS = [(0, 0, 20, 16), (69, 50, 21, 20), (25, 30, 30, 20), (60, 1, 1, 1)]


def windowed() -> ExpertBackend:
    network = lively(Maxim(MaximConfig(stages=1, width=8, side=4, window=32)))
    return ExpertBackend("windows", network, CPU, torch.float32)


def tiled() -> ExpertBackend:
    network = lively(DenseUNet(DenseUNetConfig(widths=(8, 12), encoder_blocks=(1, 1), decoder_blocks=(1,))))
    return ExpertBackend("tiles", network, CPU, torch.float32, Tiling(48, 8, 8, 16))


@pytest.fixture(scope="module", params=["windows", "tiles"])
def pair(request: pytest.FixtureRequest) -> tuple[ExpertBackend, np.ndarray]:
    """A backend, and what it makes of the whole photo."""
    backend = tiled() if request.param == "tiles" else windowed()
    return backend, restore_image(photo(*SIZE), backend)


@pytest.mark.parametrize("crop", CROPS)
def test_a_crop_equals_the_same_place_of_the_whole_result(
    pair: tuple[ExpertBackend, np.ndarray], crop: tuple[int, int, int, int]
) -> None:
    backend, whole = pair
    left, top, width, height = crop
    rows, columns = slice(top, top + height), slice(left, left + width)
    part = restore_crop(photo(*SIZE), backend, rows, columns)
    assert part.dtype == whole.dtype
    assert np.array_equal(part, whole[rows, columns])
    assert not np.array_equal(part, photo(*SIZE)[rows, columns]) or part.size == 3


def test_only_the_tiles_that_reach_into_the_crop_are_restored() -> None:
    backend = FakeBackend(tiling=Windows(64, 16, 64, 64, 16))
    restore_crop(photo(600, 800), backend, slice(300, 310), slice(400, 410))
    assert 1 <= len(backend.shapes) <= 4


@dataclass(frozen=True, slots=True)
class Halved:
    """A blend that looks at a photo in halves, what it makes of all of it, and with how many of its expert's tiles."""

    backend: BlendedBackend
    expert: FakeBackend
    blurry: Pixels
    whole: Pixels
    tiles: int


@pytest.fixture(scope="module")
def halved() -> Halved:
    smooth = partial(nn.functional.avg_pool2d, kernel_size=5, stride=1, padding=2)
    expert = FakeBackend(smooth, tiling=Tiling(160, 8, 8, 16))
    blend = lively(VersionBlend(BlendConfig(width=6, dilations=(4, 2, 1), coarser=True))).eval()
    backend, blurry = BlendedBackend(expert, blend, 100.0), photo(600, 1300)
    return Halved(backend, expert, blurry, restore_image(blurry, backend), len(expert.shapes))


@pytest.mark.parametrize("crop", [(0, 0, 90, 60), (700, 430, 100, 170), (390, 310, 8, 200)])
def test_a_crop_of_a_photo_that_is_looked_at_in_halves_is_that_of_the_whole(
    halved: Halved, crop: tuple[int, int, int, int]
) -> None:
    left, top, width, height = crop
    rows, columns = slice(top, top + height), slice(left, left + width)
    halved.expert.shapes.clear()
    part = restore_crop(halved.blurry, halved.backend, rows, columns)
    assert np.array_equal(part, halved.whole[rows, columns])
    assert not np.array_equal(part, halved.blurry[rows, columns])
    assert 0 < len(halved.expert.shapes) < halved.tiles * 0.7


def test_a_tile_size_counts_as_for_the_whole_photo() -> None:
    smooth = partial(nn.functional.avg_pool2d, kernel_size=5, stride=1, padding=2)
    whole = restore_image(photo(), FakeBackend(smooth), tile=80)
    part = restore_crop(photo(), FakeBackend(smooth), slice(60, 90), slice(60, 90), tile=80)
    assert np.array_equal(part, whole[60:90, 60:90])


def test_a_crop_goes_on_with_smaller_tiles_when_memory_runs_out() -> None:
    def answer(blurry: torch.Tensor) -> torch.Tensor:
        if blurry.shape[-1] > 64:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return blurry

    backend, told = FakeBackend(answer), []
    part = restore_crop(photo(), backend, slice(9, 20), slice(9, 20), tile=128, watch=Watch(on_event=told.append))
    assert np.array_equal(part, photo()[9:20, 9:20])
    assert told == ["out of memory with tiles of 128 pixels; going on with 64"]


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_a_flow_sees_the_whole_photo_and_without_strength_its_expert_sees_the_crop_alone(strength: float) -> None:
    expert = FakeBackend(lambda blurry: blurry / 2, tiling=Tiling(64, 8, 8, 16))
    backend = build(expert=expert, strength=strength, guard=True)
    whole = restore_image(photo(), backend, seed=4)
    tiles = len(expert.shapes)
    part = restore_crop(photo(), backend, slice(20, 50), slice(100, 140), seed=4)
    assert np.array_equal(part, whole[20:50, 100:140])
    assert (len(expert.shapes) - tiles < tiles) == (strength == 0)

"""Blind deconvolution of whole photos: windows on the photo's grid, in any batch."""

import dataclasses

import pytest
import torch
from torch import Tensor

from deblur_cli.networks.deconvolution import convolve
from deblur_cli.networks.deconvolver import Attempt, DeconvolutionConfig, Deconvolutions, Deconvolver
from deblur_cli.networks.kernel_estimation import KernelSearch

FAST = KernelSearch(reach=8, turns=(1,), splitting=(2.0, 2e3, 8.0))
NEAR = KernelSearch(reach=8, from_estimate=True, turns=(1,), splitting=(2.0, 2e3, 8.0))
TINY = DeconvolutionConfig(128, 64, (Attempt(FAST, ((1.0, 0.02), (2.2, 0.05))), Attempt(NEAR, ((1.0, 0.1),))))


@pytest.fixture
def deconvolver() -> Deconvolver:
    return Deconvolver(TINY)


def photo(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(5))


def sharpen(blurry: Tensor) -> Tensor:
    return (2 * blurry - torch.nn.functional.avg_pool2d(blurry, 3, 1, 1)).clamp(0, 1)


def deconvolve(deconvolver: Deconvolver, blurry: Tensor) -> Deconvolutions:
    return deconvolver.deconvolve(blurry, sharpen(blurry))


def assert_close(found: Deconvolutions, expected: Deconvolutions, tolerance: float) -> None:
    assert torch.allclose(found.versions, expected.versions, atol=tolerance)
    assert torch.allclose(found.misfits, expected.misfits, atol=tolerance)


def test_versions_cover_the_photo_and_stay_in_range(deconvolver: Deconvolver) -> None:
    found = deconvolve(deconvolver, photo(128, 192))
    assert found.versions.shape == (1, TINY.versions, 3, 128, 192)
    assert found.misfits.shape == (1, 2, 128, 192)
    assert 0 <= float(found.versions.min()) <= float(found.versions.max()) <= 1


def test_a_part_of_a_photo_on_the_grid_is_deconvolved_as_in_the_whole(deconvolver: Deconvolver) -> None:
    whole = photo(384, 64)
    part = deconvolve(deconvolver, whole[..., 64:, :])
    inside = deconvolve(deconvolver, whole)[..., 160:288, :]  # no window of these rows reaches beyond the part
    assert_close(part[..., 96:224, :], inside, 1e-5)


def test_photos_are_deconvolved_the_same_alone_and_in_a_batch(deconvolver: Deconvolver) -> None:
    """Up to rounding, which a deconvolution enlarges: a fortieth of a level of 8 bit."""
    photos = torch.cat((photo(64, 64), photo(64, 64).flip(-1)))
    assert_close(deconvolve(deconvolver, photos)[1:,], deconvolve(deconvolver, photos[1:]), 1e-4)


def test_a_shaken_photo_comes_nearer_to_the_sharp_one() -> None:
    """Blocks of one colour each, moved along a line of nine pixels."""
    blocks = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(3))
    sharp = torch.nn.functional.interpolate(blocks, scale_factor=8)
    kernel = torch.zeros(1, 9, 9)
    kernel[0, 4, :] = 1 / 9
    blurry = convolve(sharp, kernel)
    searches = KernelSearch(reach=8), KernelSearch(reach=8, from_estimate=True, edge_penalty=0.004)
    config = DeconvolutionConfig(192, 160, tuple(Attempt(search, ((1.0, 0.01),)) for search in searches))
    blind, near = Deconvolver(config).deconvolve_windows(blurry, torch.lerp(blurry, sharp, 0.5)).versions.unbind(1)
    inside = (..., slice(32, -32), slice(32, -32))
    before, *after = ((image[inside] - sharp[inside]).square().mean() for image in (blurry, blind, near))
    assert max(after) < before / 2


def test_the_last_window_sees_the_photo_and_not_its_repeated_border() -> None:
    """It moves back until as little is padded as at the other borders: half a window of padding has no kernel."""
    config = DeconvolutionConfig(96, 64, (Attempt(FAST, ((1.0, 0.02),)),))
    blurry, deconvolver = photo(80, 64), Deconvolver(config)
    padded = torch.nn.functional.pad(blurry, (0, 0, 0, 48), mode="replicate")  # 128 rows, two windows
    alone = torch.nn.functional.pad(blurry, (16, 16, 16, 16), mode="replicate")[..., 16:, :]  # its last 96 rows
    expected = deconvolver.deconvolve_windows(alone, alone)[..., 64:80, 16:80]
    found = deconvolver.deconvolve(padded, padded)[..., 64:80, :]
    assert_close(found, expected, 2e-3)  # where windows meet, the other counts by a thousandth


def test_a_kernel_that_is_not_the_blur_leaves_a_misfit() -> None:
    """Moved blocks, of which the search finds the motion; the same with fine rows, which that would have blurred."""
    blocks = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(3))
    kernel = torch.zeros(1, 9, 9)
    kernel[0, :, 4] = 1 / 9
    blurry = convolve(torch.nn.functional.interpolate(blocks, scale_factor=8), kernel)
    rows = 0.05 * torch.tensor((1.0, 1.0, -1.0, -1.0)).repeat(48)[:, None]
    deconvolver = Deconvolver(DeconvolutionConfig(192, 160, (Attempt(KernelSearch(reach=8), ((1.0, 0.01),)),)))
    fits, misfits = (deconvolver.deconvolve_windows(image, image).misfits for image in (blurry, blurry + rows))
    inside = (..., slice(32, -32), slice(32, -32))
    assert float(misfits[inside].abs().mean()) > 5 * float(fits[inside].abs().mean())


def test_a_fence_is_not_made_something_else() -> None:
    """In patterns that repeat a search finds kernels of many peaks; what these make of a fence is no fence."""
    place = torch.arange(192)
    wires = ((place[:, None] + place) % 14 < 2) | ((place[:, None] - place) % 14 < 2)
    fence = torch.where(wires, 0.15, 0.85).expand(1, 3, -1, -1)
    deconvolver = Deconvolver(DeconvolutionConfig(192, 128, (Attempt(KernelSearch(reach=12), ((1.0, 0.03),)),)))
    versions = deconvolver.deconvolve_windows(fence, fence).versions
    assert float((versions[:, 0] - fence)[..., 32:-32, 32:-32].square().mean().sqrt()) < 0.15


def test_a_frame_of_one_colour_comes_back_as_it_is(deconvolver: Deconvolver) -> None:
    framed = photo(128, 128)
    framed[..., 70:, :] = 1.0
    versions = deconvolve(deconvolver, framed).versions
    assert torch.allclose(versions[..., 112:, :], torch.ones(()), atol=0.02)
    assert bool(versions.isfinite().all())


def test_a_config_survives_json() -> None:
    assert DeconvolutionConfig.from_json(dataclasses.asdict(TINY)) == TINY

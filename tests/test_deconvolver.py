"""Blind deconvolution of whole photos: windows on the photo's grid, in any batch."""

import dataclasses

import pytest
import torch
from support.shaken_blocks import shake_blocks
from support.small_deconvolution import DECONVOLUTION as TINY
from torch import Tensor
from torch.nn import functional

from deblur_cli.networks.deconvolver import BlindKernels, DeconvolutionConfig, Deconvolver
from deblur_cli.networks.kernel_estimation import KernelFit, KernelSearch
from deblur_cli.system.typed_tables import read_table


@pytest.fixture
def deconvolver() -> Deconvolver:
    return Deconvolver(TINY)


def photo(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(5))


def test_a_part_of_a_photo_on_the_grid_is_deconvolved_as_in_the_whole(deconvolver: Deconvolver) -> None:
    whole = photo(384, 64)
    estimate = whole * 0.9
    part = deconvolver.deconvolve(whole[..., 64:, :], estimate[..., 64:, :])
    inside = deconvolver.deconvolve(whole, estimate)[..., 160:288, :]  # no window of these rows reaches beyond the part
    assert torch.allclose(part[..., 96:224, :], inside, atol=1e-5)


def test_photos_are_deconvolved_the_same_alone_and_in_a_batch(deconvolver: Deconvolver) -> None:
    """Up to rounding, which a deconvolution enlarges: a fortieth of a level of 8 bit."""
    photos = torch.cat((photo(64, 64), photo(64, 64).flip(-1)))
    estimates = photos.flip(-2)
    alone = deconvolver.deconvolve(photos[1:], estimates[1:])
    assert torch.allclose(deconvolver.deconvolve(photos, estimates)[1:], alone, atol=1e-4)


def error(picture: Tensor, sharp: Tensor) -> float:
    """Mean square inside."""
    return float((picture - sharp)[..., 32:-32, 32:-32].square().mean())


def deconvolve_blindly(blurry: Tensor, estimate: Tensor, gamma: float = 1.0) -> Tensor:
    search = KernelSearch(reach=8)
    config = DeconvolutionConfig(192, 160, search, search, ((gamma, 0.001),), (), of_estimate=((1.0, 1.0), (2.2, 1.0)))
    return Deconvolver(config).deconvolve_windows(blurry, estimate)[:, 0]


@pytest.mark.parametrize("gamma", [1.0, 2.2])
def test_a_shaken_photo_comes_nearer_to_the_sharp_one(gamma: float) -> None:
    sharp, blurry = shake_blocks(gamma)
    estimate = torch.lerp(blurry, sharp, 0.6)  # a network that did not go all the way
    assert error(deconvolve_blindly(blurry, estimate, gamma), sharp) < error(blurry, sharp) / 3


def test_a_shaken_photo_lies_where_its_estimate_lies() -> None:
    """A blind kernel may be moved: a photo that lies elsewhere fits its kernel as well."""
    sharp, blurry = shake_blocks()
    moved = sharp.roll(2, -1)
    estimate = torch.lerp(blurry, moved, 0.6)
    restored = deconvolve_blindly(blurry, estimate)
    assert error(restored, moved) < error(estimate, moved) / 1.5
    assert error(restored, moved) < error(restored, sharp) / 4


def test_the_kernel_is_fitted_again_where_the_estimate_lies() -> None:
    """With the kernel as it was found blindly the first is worse than the estimate, the second hardly better."""
    sharp, blurry = shake_blocks()
    estimate = torch.lerp(blurry, sharp, 0.6)
    search = KernelSearch(reach=8)
    config = DeconvolutionConfig(192, 160, search, search, ((1.0, 0.0005),), (), corrections=((1.0, 0.1),))
    versions = Deconvolver(config).deconvolve_windows(blurry, estimate)
    assert config.names[:2] == ("short, 1.0, 0.0005", "short corrected, 1.0, 0.1")
    assert error(versions[:, 0], sharp) < error(estimate, sharp) / 2
    assert error(versions[:, 1], sharp) < error(estimate, sharp) / 1.5


@pytest.mark.parametrize(("agreement", "is_used"), [(0.65, True), (0.999, False)])
def test_a_kernel_that_the_estimate_does_not_bear_out_is_not_used(agreement: float, is_used: bool) -> None:
    """What is found blindly is like the kernel to the estimate here, but not the same."""
    sharp, blurry = shake_blocks()
    estimate = torch.lerp(blurry, sharp, 0.6)
    search = KernelSearch(reach=8)
    config = DeconvolutionConfig(192, 160, search, search, ((1.0, 0.001),), (), agreement=agreement)
    restored = Deconvolver(config).deconvolve_windows(blurry, estimate)[:, 0]
    assert torch.equal(restored, estimate) is not is_used


def test_light_that_explains_a_photo_much_worse_corrects_nothing() -> None:
    sharp, blurry = shake_blocks()
    estimate = torch.lerp(blurry, sharp, 0.9)
    config = DeconvolutionConfig(192, 160, of_short=(), of_long=(), of_estimate=((1.0, 0.1), (2.2, 0.1)))
    corrected = Deconvolver(config).deconvolve_windows(blurry, estimate)
    assert not torch.equal(corrected[:, 0], estimate)
    assert torch.equal(corrected[:, 1], estimate)


def test_a_photo_is_searched_once_however_often_it_is_deconvolved(monkeypatch: pytest.MonkeyPatch) -> None:
    sharp, blurry = shake_blocks()
    estimates = [torch.lerp(blurry, sharp, share) for share in (0.5, 0.8)]
    search = KernelSearch(reach=8)
    way = Deconvolver(DeconvolutionConfig(128, 96, search, search, ((1.0, 0.001),), ()))
    expected = [way.deconvolve(blurry, estimate) for estimate in estimates]
    blind = BlindKernels()
    assert torch.equal(way.deconvolve(blurry, estimates[0], blind=blind), expected[0])
    monkeypatch.setattr("deblur_cli.networks.deconvolver.find_kernels", None)
    assert torch.equal(way.deconvolve(blurry, estimates[1], blind=blind), expected[1])
    assert not torch.equal(*expected)


def test_light_that_explains_a_photo_much_worse_is_not_searched() -> None:
    sharp, blurry = shake_blocks()
    estimate = torch.lerp(blurry, sharp, 0.9)
    assert torch.equal(deconvolve_blindly(blurry, estimate, 2.2), estimate)
    assert not torch.equal(deconvolve_blindly(blurry, estimate, 1.0), estimate)


def test_a_window_that_the_estimate_leaves_alone_is_left_alone() -> None:
    _, blurry = shake_blocks()
    assert torch.equal(deconvolve_blindly(blurry, blurry), blurry)


@pytest.mark.parametrize("gamma", [1.0, 2.2])
def test_an_estimate_is_corrected_by_what_it_leaves_unexplained(gamma: float) -> None:
    sharp, blurry = shake_blocks(gamma)
    estimate = torch.lerp(blurry, sharp, 0.6)  # a network that did not go all the way
    config = DeconvolutionConfig(192, 160, of_short=(), of_long=(), of_estimate=((gamma, 0.05), (gamma, 100.0)))
    corrected = Deconvolver(config).deconvolve_windows(blurry, estimate)
    assert error(corrected[:, 0], sharp) < error(estimate, sharp) / 1.2
    assert torch.allclose(corrected[:, 1], estimate, atol=0.05)  # a penalty that leaves nothing of it


def test_an_estimate_that_explains_its_photo_stays() -> None:
    sharp, blurry = shake_blocks()
    fit = KernelFit(slack=0.02)
    config = DeconvolutionConfig(192, 160, of_short=(), of_long=(), fit=fit, of_estimate=((1.0, 0.05),))
    corrected = Deconvolver(config).deconvolve_windows(blurry, sharp)[:, 0]
    assert error(corrected, sharp) < error(blurry, sharp) / 50


def test_a_fence_is_not_made_something_else() -> None:
    """In patterns that repeat a search finds kernels of many peaks; what these make of a fence is no fence."""
    place = torch.arange(192)
    wires = ((place[:, None] + place) % 14 < 2) | ((place[:, None] - place) % 14 < 2)
    fence = torch.where(wires, 0.15, 0.85).expand(1, 3, -1, -1)
    search = KernelSearch(reach=12, turns=5, splitting=(2.0, 2e3, 4.0))
    config = DeconvolutionConfig(192, 128, search, search, ((1.0, 0.001),), (), agreement=-1.0)
    versions = Deconvolver(config).deconvolve_windows(fence, 0.5 + 1.05 * (fence - 0.5))
    assert float((versions[:, 0] - fence)[..., 32:-32, 32:-32].square().mean().sqrt()) < 0.15


def test_a_config_survives_json() -> None:
    assert read_table(DeconvolutionConfig, dataclasses.asdict(TINY)) == TINY


def test_the_last_windows_end_where_the_photo_ends() -> None:
    """Of 200 columns, in windows of 160: the second would see 40 of them, and a repeated border."""
    sharp, blurry = (torch.cat((picture, picture), -1)[..., :160, :200] for picture in shake_blocks())
    pair = (blurry, torch.lerp(blurry, sharp, 0.6))
    search = KernelSearch(reach=8)
    deconvolver = Deconvolver(DeconvolutionConfig(192, 160, search, search, ((1.0, 0.001),), ()))
    windows = (functional.pad(picture, (16, 16, 16, 16), mode="replicate")[..., 40:] for picture in pair)
    last = deconvolver.deconvolve(*pair)[..., 176:]
    assert torch.allclose(last, deconvolver.deconvolve_windows(*windows)[..., 16:176, 152:176], atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(30, 70), (64, 65), (200, 129)])
def test_photos_of_any_size_are_deconvolved(deconvolver: Deconvolver, height: int, width: int) -> None:
    versions = deconvolver.deconvolve(photo(height, width), photo(height, width) * 0.9)
    assert versions.shape == (1, TINY.versions, 3, height, width)
    assert 0 <= float(versions.min()) <= float(versions.max()) <= 1

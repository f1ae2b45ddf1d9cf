"""The search for kernels: exact where it can be, and found blindly on a picture of edges."""

import pytest
import torch
from torch import Tensor

from deblur_cli.networks.deconvolution import convolve
from deblur_cli.networks.kernel_estimation import KernelSearch, compare_kernels, find_kernels, fit_kernels, keep_edges
from deblur_cli.system.typed_tables import read_table

FAST = KernelSearch(reach=8, turns=3, splitting=(2.0, 2e3, 4.0))


def blocks(seed: int, side: int = 160) -> Tensor:
    """(1, 1, side, side): rectangles of different grey, as a town has them."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.full((1, 1, side, side), 0.5)
    for _ in range(40):
        top, left = (int(torch.randint(side - 20, (), generator=generator)) for _ in range(2))
        height, width = (int(torch.randint(8, 50, (), generator=generator)) for _ in range(2))
        picture[..., top : top + height, left : left + width] = torch.rand((), generator=generator)
    return picture


def stroke(reach: int) -> Tensor:
    """A bent path from one side to the other."""
    side = 2 * reach + 1
    kernel = torch.zeros(1, side, side)
    for step in range(-5, 6):
        kernel[0, reach + step // 3, reach + step] = 1
    return kernel / kernel.sum()


def likeness(found: Tensor, wanted: Tensor) -> float:
    """Largest correlation over all shifts by up to two pixels."""
    shifts = [wanted.roll((down, right), (-2, -1)) for down in range(-2, 3) for right in range(-2, 3)]
    return max(float((found * one).sum() / (found.norm() * one.norm())) for one in shifts)


def test_fit_finds_the_kernel_between_two_pictures() -> None:
    kernel = torch.rand(2, 9, 9, generator=torch.Generator().manual_seed(1))
    sharp = torch.randn(2, 1, 40, 48, generator=torch.Generator().manual_seed(3))
    found = fit_kernels(sharp, convolve(sharp, kernel), 4, slack=1e-6)
    found, kernel = (k - k.mean((-2, -1), keepdim=True) for k in (found, kernel))  # gradients do not tell the mean
    assert float((found - kernel).norm() / kernel.norm()) < 0.05


def test_a_motion_is_found_blindly() -> None:
    sharp, kernel = blocks(1), stroke(8)
    found = find_kernels(convolve(sharp, kernel), FAST)
    assert found.shape == (1, 17, 17)
    assert likeness(found, kernel) > 0.65
    assert likeness(found, kernel) > likeness(found, kernel.transpose(-2, -1)) + 0.3


def test_kernels_are_compared_wherever_they_lie() -> None:
    kernel = torch.cat((stroke(8), stroke(8)))
    other = torch.cat((stroke(8).roll((2, -3), (-2, -1)), stroke(8).transpose(-2, -1)))
    same, turned = compare_kernels(kernel, other).tolist()
    assert same == pytest.approx(1, abs=1e-5)
    assert turned < 0.5


def test_a_sharp_picture_has_a_kernel_near_a_dot() -> None:
    found = find_kernels(blocks(2), FAST)[0]
    assert float(found[7:10, 7:10].sum()) > 0.75


@pytest.mark.parametrize("reduction", [1, 2])
def test_kernels_are_positive_sum_to_one_and_are_centred(reduction: int) -> None:
    search = KernelSearch(reach=8, reduction=reduction, turns=2, splitting=FAST.splitting)
    found = find_kernels(torch.cat((blocks(3), blocks(4))), search)
    assert found.shape == (2, 17, 17)
    assert float(found.min()) >= 0
    assert torch.allclose(found.sum((-2, -1)), torch.ones(2), atol=1e-5)
    place = torch.arange(17) - 8.0
    for axis in (-1, -2):
        assert float((found.sum(axis) @ place).abs().max()) <= 1


def test_windows_of_a_batch_do_not_see_each_other() -> None:
    windows = torch.cat([blocks(seed) for seed in (5, 6, 7)])
    together = find_kernels(windows, FAST)
    alone = torch.cat([find_kernels(window[None], FAST) for window in windows])
    assert torch.allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_flat_window_has_a_finite_kernel(value: float) -> None:
    found = find_kernels(torch.full((1, 1, 64, 64), value), FAST)
    assert bool(found.isfinite().all())
    assert float(found.sum()) == pytest.approx(1)


def test_brightness_and_contrast_of_a_window_do_not_matter() -> None:
    window = convolve(blocks(8), stroke(8))
    assert torch.allclose(find_kernels(window, FAST), find_kernels(0.3 * window + 0.4, FAST), atol=0.02)


def test_the_penalty_leaves_the_strong_edges_only() -> None:
    window = blocks(9) + 0.01 * torch.randn(1, 1, 160, 160, generator=torch.Generator().manual_seed(2))
    dot = torch.zeros(1, 3, 3)
    dot[0, 1, 1] = 1
    kept = keep_edges(window, dot, 0.004, (2.0, 1e5, 2.0))
    assert float((kept.diff(dim=-1).abs() > 1e-3).float().mean()) < 0.2
    assert float((window.diff(dim=-1).abs() > 1e-3).float().mean()) > 0.9


def test_the_settings_survive_json() -> None:
    assert read_table(KernelSearch, {"reach": 3, "splitting": [1.0, 2.0, 3.0]}).splitting == (1.0, 2.0, 3.0)

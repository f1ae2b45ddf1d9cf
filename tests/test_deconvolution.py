"""Convolution by FFT, its inverse, and borders that do not ring: closed forms."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from deblur_cli.networks.deconvolution import convolve, deconvolve, deconvolve_tv, fade, taper


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def dot(size: int) -> Tensor:
    kernel = torch.zeros(1, size, size)
    kernel[0, size // 2, size // 2] = 1
    return kernel


def test_a_dot_changes_nothing() -> None:
    photo = draw(1, 3, 24, 30)
    assert torch.allclose(convolve(photo, dot(7)), photo, atol=1e-6)
    assert torch.allclose(deconvolve(photo, dot(7), 0.0), photo, atol=1e-6)


def test_a_convolution_is_the_sum_over_the_kernel() -> None:
    photo, kernel = draw(1, 1, 16, 18), draw(1, 3, 3, seed=1)
    shifted = [
        kernel[0, row, column] * photo.roll((row - 1, column - 1), (-2, -1)) for row in range(3) for column in range(3)
    ]
    assert torch.allclose(convolve(photo, kernel), torch.stack(shifted).sum(0), atol=1e-5)


def test_every_photo_of_a_batch_has_its_own_kernel() -> None:
    photos, kernels = draw(2, 3, 16, 16), draw(2, 5, 5, seed=1)
    both = convolve(photos, kernels)
    assert torch.allclose(both[1:], convolve(photos[1:], kernels[1:]), atol=1e-6)


def test_deconvolution_undoes_convolution() -> None:
    photo = draw(1, 3, 32, 32)
    kernel = dot(5) * 0.6
    kernel[0, 2, 3] = 0.4
    assert torch.allclose(deconvolve(convolve(photo, kernel), kernel, 1e-6), photo, atol=1e-3)


def test_a_penalty_on_total_variation_rings_less() -> None:
    """Blocks with noise, moved along seven pixels: each penalty at its best of many strengths."""
    blocks = torch.nn.functional.interpolate(draw(1, 1, 8, 8), scale_factor=8)
    kernel = torch.zeros(1, 7, 7)
    kernel[0, 3] = 1 / 7
    noise = 0.01 * torch.randn(blocks.shape, generator=torch.Generator().manual_seed(2))
    blurry = convolve(blocks, kernel) + noise
    strengths = [10**exponent for exponent in (-4.0, -3.5, -3.0, -2.5, -2.0, -1.5, -1.0)]

    def least(way: Callable[[Tensor, Tensor, float], Tensor]) -> float:
        return min(float((way(blurry, kernel, strength) - blocks).square().mean()) for strength in strengths)

    assert least(deconvolve_tv) < least(deconvolve) / 2


def test_a_stronger_penalty_gives_a_smoother_photo() -> None:
    photo = draw(1, 1, 32, 32)
    slopes = [float(deconvolve(photo, dot(5), strength).diff(dim=-1).abs().mean()) for strength in (0.0, 0.1, 1.0)]
    assert slopes[0] > slopes[1] > slopes[2]


def test_taper_leaves_the_inside_and_joins_the_borders() -> None:
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64).contiguous()
    tapered = taper(ramp, 12)
    assert torch.equal(tapered[..., 12:-12, 12:-12], ramp[..., 12:-12, 12:-12])
    jump = (tapered[..., 0] - tapered[..., -1]).abs().max()
    assert float(jump) < 0.1 < float((ramp[..., 0] - ramp[..., -1]).abs().max())


@pytest.mark.parametrize("length", [1, 7, 64])
def test_fade_is_symmetric_and_between_0_and_1(length: int) -> None:
    weights = fade(length, 8, torch.device("cpu"))
    assert torch.allclose(weights, weights.flip(0))
    assert 0 < float(weights.min()) <= float(weights.max()) <= 1

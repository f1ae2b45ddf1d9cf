"""Truths about synthesised blur: energy, sharp middles, seeds, and untouched photos."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from deblur_cli.networks.deconvolution import convolve
from deblur_cli.training.blur_synthesis import (
    blur_by_motion,
    blur_by_shake,
    draw_blobs,
    draw_shake_kernels,
    margin,
    synthesise,
)
from deblur_cli.training.dice import Dice
from deblur_cli.training.jpeg_noise import compress_as_jpeg
from deblur_cli.training.synthesis_config import SynthesisConfig

PLAIN = SynthesisConfig(max_length=12.0, noise_share=0.0, jpeg_share=0.0, highlight_share=0.0, unblurred_share=0.0)


def dice(seed: int = 0) -> Dice:
    return Dice(torch.Generator().manual_seed(seed))


def photos(count: int = 2, side: int = 96) -> Tensor:
    coarse = torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("length", [2.0, 9.0, 40.0])
def test_shake_kernels_sum_to_one_and_are_centred(length: float) -> None:
    kernels = draw_shake_kernels(16, length, dice())
    size = kernels.shape[-1]
    axis = torch.arange(size) - size // 2
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(16))
    assert (kernels.sum(1) @ axis.float()).abs().max() < 0.05
    assert (kernels.sum(2) @ axis.float()).abs().max() < 0.05


def test_shake_kernels_are_as_long_as_asked() -> None:
    kernels = draw_shake_kernels(16, 30.0, dice())
    for kernel in kernels:
        rows, columns = (kernel > 1e-4).nonzero().amax(0) - (kernel > 1e-4).nonzero().amin(0)
        assert float((rows**2 + columns**2) ** 0.5) == pytest.approx(30.0, abs=3.0)


def test_convolution_equals_the_sum_over_shifted_photos() -> None:
    light = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(2))
    kernels = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(3))
    expected = torch.zeros_like(light)
    for row in range(5):
        for column in range(5):
            expected += kernels[:, row, column, None, None, None] * light.roll((row - 2, column - 2), (2, 3))
    torch.testing.assert_close(convolve(light, kernels), expected)


@pytest.mark.parametrize("length", [2.0, 12.0])
def test_blur_keeps_the_mean_light(length: float) -> None:
    light = photos()
    for blurred in (blur_by_shake(light, length, dice()), blur_by_motion(light, length, dice(), 0.0)[1]):
        torch.testing.assert_close(blurred.mean((2, 3)), light.mean((2, 3)), atol=0.03, rtol=0)


def test_the_middle_frame_of_a_scene_without_object_is_the_photo_itself() -> None:
    light = photos()
    middle, mixed = blur_by_motion(light, 10.0, dice(), 0.0)
    assert torch.equal(middle, light)
    assert (mixed - light).abs().mean() > 0.003


def test_a_longer_motion_blurs_more() -> None:
    light = photos()
    errors = [float((blur_by_motion(light, length, dice(4), 0.5)[1] - light).square().mean()) for length in (2, 6, 18)]
    assert errors == sorted(errors)


def test_blobs_cover_about_a_third_and_can_be_hard() -> None:
    blobs = draw_blobs(32, 64, 64, softness=0.0, dice=dice())
    assert 0.2 < float(blobs.mean()) < 0.4
    assert float(((blobs > 0.01) & (blobs < 0.99)).float().mean()) < 0.01


def test_synthesise_is_reproducible_cuts_its_margin_and_stays_in_range() -> None:
    sharp = photos(4, 128)
    first = synthesise(sharp, torch.Generator().manual_seed(7), SynthesisConfig(max_length=20.0))
    second = synthesise(sharp, torch.Generator().manual_seed(7), SynthesisConfig(max_length=20.0))
    side = 128 - 2 * margin(SynthesisConfig(max_length=20.0))
    for blurry, again in zip(first, second, strict=True):
        assert torch.equal(blurry, again)
        assert blurry.shape == (4, 3, side, side)
        assert 0 <= float(blurry.min()) <= float(blurry.max()) <= 1


def test_unblurred_photos_come_out_as_they_are() -> None:
    config = SynthesisConfig(max_length=12.0, unblurred_share=1.0)
    sharp = photos(4, 96)
    border = margin(config)
    for seed in range(4):
        blurry, clean = synthesise(sharp, torch.Generator().manual_seed(seed), config)
        torch.testing.assert_close(blurry, clean, atol=2e-3, rtol=0)
        if seed:  # a scene with an object has another sharp picture
            continue
        assert clean.shape[-1] == 96 - 2 * border


def test_without_noise_the_sharp_patch_of_a_shaken_photo_is_the_photo() -> None:
    config = SynthesisConfig(**{**{f: getattr(PLAIN, f) for f in PLAIN.__dataclass_fields__}, "shake_share": 1.0})
    sharp = photos(2, 96)
    border = margin(config)
    _, clean = synthesise(sharp, torch.Generator().manual_seed(3), config)
    torch.testing.assert_close(clean, sharp[..., border:-border, border:-border], atol=1e-3, rtol=0)


@pytest.mark.parametrize("quality", [60, 75, 90])
def test_jpeg_noise_is_as_strong_as_a_real_jpeg(quality: int) -> None:
    pixels = (photos(1, 96)[0].permute(1, 2, 0) * 255).round()
    pixels = (pixels + torch.randn(pixels.shape, generator=torch.Generator().manual_seed(5)) * 8).clamp(0, 255).round()
    stream = io.BytesIO()
    Image.fromarray(pixels.byte().numpy()).save(stream, "JPEG", quality=quality, subsampling="4:2:0")
    real = torch.from_numpy(np.array(Image.open(stream))).float()
    ours = compress_as_jpeg(pixels.permute(2, 0, 1)[None] / 255, torch.tensor([float(quality)]))[0]
    ours = ours.permute(1, 2, 0) * 255
    real_error, our_error = (real - pixels).square().mean(), (ours - pixels).square().mean()
    assert float(our_error) == pytest.approx(float(real_error), rel=0.15)
    assert float((ours - real).square().mean()) < 0.35 * float(real_error)

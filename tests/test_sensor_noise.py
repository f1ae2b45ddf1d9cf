"""Truths about the noise of a sensor: a clean mosaic gives the picture back, and noise is as strong as it is told."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli.training.dice import Dice
from deblur_cli.training.sensor_noise import (
    add_white_noise,
    decode_srgb,
    demosaic,
    draw_sensor,
    encode_srgb,
    to_mosaic,
)


def dice(seed: int = 0) -> Dice:
    return Dice(torch.Generator().manual_seed(seed))


def soft_photos(count: int = 2, side: int = 96) -> Tensor:
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1) * 0.7 + 0.15


def noisy_grey(strength: float, white: bool = False, side: int = 192) -> Tensor:
    light = decode_srgb(torch.full((4, 3, side, side), 0.5))
    strengths = torch.full((4,), strength)
    if white:
        noisy = add_white_noise(light, strengths, dice())
    else:
        noisy = draw_sensor(4, dice(1)).add_noise(light, strengths, dice())
    return encode_srgb(noisy.clamp(0, 1))


def correlation(first: Tensor, second: Tensor) -> float:
    return float(torch.corrcoef(torch.stack((first.flatten(), second.flatten())))[0, 1])


def test_the_srgb_curve_and_its_inverse_are_a_round_trip() -> None:
    values = torch.linspace(0, 1, 257)
    torch.testing.assert_close(encode_srgb(decode_srgb(values)), values, atol=1e-5, rtol=0)
    assert float(decode_srgb(torch.tensor(0.5))) == pytest.approx(0.21404, abs=1e-5)


@pytest.mark.parametrize("detail", [0.0, 0.5, 1.0])
def test_a_demosaic_keeps_what_the_sensor_saw_and_every_plane_of_grey(detail: float) -> None:
    picture = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(2))
    mosaic = to_mosaic(picture)
    assert torch.equal(to_mosaic(demosaic(mosaic, detail)), mosaic)
    slope = torch.arange(20.0).expand(1, 3, 16, 20) + 2 * torch.arange(16.0)[:, None]
    inner = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(demosaic(to_mosaic(slope), detail)[inner], slope[inner])


def test_without_noise_a_soft_picture_comes_through_the_mosaic_as_it_was() -> None:
    light = decode_srgb(soft_photos())
    developed = draw_sensor(2, dice()).add_noise(light, torch.zeros(2), dice())
    error = (encode_srgb(developed.clamp(0, 1)) - soft_photos()).abs()
    assert float(error.mean()) < 2 / 255
    assert float(error.quantile(0.99)) < 8 / 255


@pytest.mark.parametrize("white", [False, True])
@pytest.mark.parametrize("strength", [2, 5, 15, 25])
def test_noise_on_mid_grey_is_as_strong_as_asked(strength: int, white: bool) -> None:
    noisy = noisy_grey(strength / 255, white) * 255
    for measured in noisy.var((2, 3)).mean(1).sqrt():
        assert float(measured) == pytest.approx(strength, rel=0.1)


def test_noise_through_a_demosaic_is_coarse_and_most_in_red_and_blue() -> None:
    noise = noisy_grey(5 / 255) - 0.5
    red, green, blue = noise.std((0, 2, 3))
    assert red > 1.2 * green
    assert blue > 1.2 * green
    assert correlation(noise[:, 0, :, 1:], noise[:, 0, :, :-1]) > 0.3


def test_white_noise_is_neither_coarse_nor_coloured() -> None:
    noise = noisy_grey(5 / 255, white=True) - 0.5
    red, green, blue = (float(value) for value in noise.std((0, 2, 3)))
    assert red == pytest.approx(green, rel=0.05)
    assert blue == pytest.approx(green, rel=0.05)
    assert abs(correlation(noise[..., 1:], noise[..., :-1])) < 0.02


def test_bright_light_has_more_shot_noise_than_dark_light() -> None:
    for brighter, darker in ((0.5, 0.1), (0.1, 0.01)):
        light = torch.cat((torch.full((1, 3, 64, 64), brighter), torch.full((1, 3, 64, 64), darker)), 3)
        noise = draw_sensor(1, dice(3)).add_noise(light, torch.tensor([0.02]), dice()) - light
        assert noise[..., :60].std() > 1.5 * noise[..., 68:].std()

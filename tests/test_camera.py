"""Truths about the camera: what is left alone, what stays clean, and what every wear does."""

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli.training.blur_synthesis import margin, synthesise
from deblur_cli.training.camera import (
    Shot,
    add_sensor_noise,
    compress_off_grid,
    photograph,
    resize,
    sharpen,
    smooth_colour,
)
from deblur_cli.training.dice import Dice
from deblur_cli.training.jpeg_noise import compress_as_jpeg
from deblur_cli.training.recipe import read_common_recipe
from deblur_cli.training.synthesis_config import SynthesisConfig

IDLE = SynthesisConfig(noise_share=0.0, jpeg_share=0.0)
NOISY = dataclasses.replace(IDLE, sensor_share=1.0)
MAXIM = dataclasses.replace(read_common_recipe("maxim").synthesis, max_length=16.0)
BLURRED, STILL = torch.zeros(4, 1, 1, 1), torch.ones(4, 1, 1, 1)


def dice(seed: int = 0) -> Dice:
    return Dice(torch.Generator().manual_seed(seed))


def photos(count: int = 4, side: int = 64) -> Tensor:
    coarse = torch.rand(count, 3, side // 6, side // 6, generator=torch.Generator().manual_seed(1))
    return functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)


def take(config: SynthesisConfig, still: Tensor = BLURRED, side: int | None = None) -> tuple[Tensor, Tensor]:
    return photograph(photos(), photos(), dice(), config, Shot(still, side))


def test_a_camera_without_shares_gives_the_photo_itself() -> None:
    assert not IDLE.has_camera
    blurry, clean = take(IDLE)
    assert torch.equal(blurry, photos())
    assert torch.equal(clean, photos())


@pytest.mark.parametrize(
    "wear", [{"sensor_share": 1.0}, {"halo_share": 1.0}, {"jpeg_share": 1.0}, {"sensor_share": 1.0, "halo_share": 1.0}]
)
def test_every_wear_changes_the_blurred_picture_alone(wear: dict[str, float]) -> None:
    blurry, clean = take(dataclasses.replace(IDLE, **wear))
    assert (blurry - clean).abs().flatten(1).mean(1).min() > 1e-3
    assert torch.equal(clean, photos())
    assert 0 <= float(blurry.min()) <= float(blurry.max()) <= 1


def test_unblurred_photos_stay_as_they_are_or_get_noise_over_a_clean_target() -> None:
    untouched, _ = take(NOISY, STILL)
    assert torch.equal(untouched, photos())
    noisy, clean = take(dataclasses.replace(NOISY, unblurred_noise_share=1.0), STILL)
    assert (noisy - clean).square().mean((1, 2, 3)).sqrt().min() > 0.003
    assert torch.equal(clean, photos())


def test_the_noise_of_a_grey_photo_is_grey() -> None:
    grey = photos()[:, :1].expand(-1, 3, -1, -1)
    noisy, _ = add_sensor_noise(grey, dice(), NOISY)
    assert not torch.equal(noisy, grey)
    torch.testing.assert_close(noisy[:, 0], noisy[:, 2])


def test_odd_sides_keep_their_size() -> None:
    odd = photos(2, 63)[..., :61]
    assert add_sensor_noise(odd, dice(), NOISY)[0].shape == odd.shape


def test_smoothed_colour_keeps_the_luma() -> None:
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    noisy, _ = add_sensor_noise(photos(), dice(), NOISY)
    smoothed = smooth_colour(noisy, torch.full((4,), 2.0))
    torch.testing.assert_close((smoothed * weights).sum(1), (noisy * weights).sum(1))
    difference = (noisy - noisy.mean(1, keepdim=True)).diff(dim=3).abs().mean()
    assert (smoothed - smoothed.mean(1, keepdim=True)).diff(dim=3).abs().mean() < 0.7 * difference


def test_sharpening_draws_halos_on_both_sides_of_an_edge_and_none_on_flat_parts() -> None:
    edge = torch.full((1, 3, 32, 32), 0.3)
    edge[..., 16:] = 0.7
    halo = sharpen(edge, torch.ones(1, 1, 1, 1), dice())
    assert halo[..., 15].max() < 0.28
    assert halo[..., 16].min() > 0.72
    torch.testing.assert_close(halo[..., :8], edge[..., :8])
    torch.testing.assert_close(sharpen(edge, torch.zeros(1, 1, 1, 1), dice()), edge)


def test_a_second_jpeg_on_another_grid_adds_its_own_error() -> None:
    quality = torch.full((4,), 50.0)
    once = compress_as_jpeg(photos(), quality)
    twice = compress_off_grid(once, quality, dice())
    assert twice.shape == once.shape
    assert (twice - once).abs().mean() > 2 * (compress_as_jpeg(once, quality) - once).abs().mean()
    config = dataclasses.replace(IDLE, jpeg_share=1.0, min_jpeg_quality=50)
    both = dataclasses.replace(config, jpeg_twice_share=1.0)
    assert not torch.equal(take(config)[0], take(both)[0])


def test_both_pictures_of_a_pair_are_made_smaller_alike() -> None:
    blurry, clean = take(IDLE, side=40)
    assert blurry.shape == clean.shape == (4, 3, 40, 40)
    assert torch.equal(blurry, clean)
    assert torch.equal(clean, resize(photos(), 40))


@pytest.mark.parametrize("factor", [0.0, 1.5])
def test_a_factor_of_size_that_makes_no_photo_smaller_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="min_resize"):
        SynthesisConfig(min_resize=factor)


def test_synthesis_with_a_camera_is_reproducible_and_as_large_as_asked() -> None:
    side = 48 + 2 * margin(MAXIM)
    for seed in range(6):
        first, second = (synthesise(photos(4, side), torch.Generator().manual_seed(seed), MAXIM, 40) for _ in range(2))
        for picture, again in zip(first, second, strict=True):
            assert picture.shape == (4, 3, 40, 40)
            assert torch.equal(picture, again)
            assert 0 <= float(picture.min()) <= float(picture.max()) <= 1


def test_the_sharp_patch_of_a_shaken_photo_is_the_photo_whatever_the_camera_does() -> None:
    config = dataclasses.replace(MAXIM, shake_share=1.0, roll_share=1.0, depth_share=1.0, highlight_share=0.0)
    border = margin(config)
    sharp = photos(4, 64 + 2 * border)
    _, clean = synthesise(sharp, torch.Generator().manual_seed(3), config)
    torch.testing.assert_close(clean, sharp[..., border:-border, border:-border], atol=1e-3, rtol=0)

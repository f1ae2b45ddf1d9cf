"""How blurred a photo is said to be, on photos that were blurred in a known way."""

import numpy as np
import pytest
import torch
from support.blurred_scene import blur, disc, line, scene

from deblur_cli.restoration.blur_measure import estimate_noise, measure_blur, to_luma
from deblur_cli.restoration.blur_places import find_blurry
from deblur_cli.restoration.blur_spectrum import ANGLES, RINGS, SIDE, polar_spectra, ring_frequencies


@pytest.mark.parametrize("name", ["coffee", "astronaut"])
def test_a_sharp_photo_is_sharp(name):
    found = measure_blur(scene(name))
    assert (found.verdict, found.length) == ("sharp", 0)
    assert not found.is_moved
    assert found.shares[0] > 0.5
    assert sum(found.shares) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("length", "degrees"), [(10, 0), (16, 90), (24, 45), (24, 120), (40, 20)])
def test_direction_and_length_of_a_motion_are_found(length, degrees):
    found = measure_blur(blur(scene(), line(length, degrees)))
    assert found.verdict == "motion"
    assert abs((found.direction - degrees + 90) % 180 - 90) < 12
    assert found.length == pytest.approx(length, rel=0.3)


def test_sharpness_falls_as_blur_grows():
    found = [measure_blur(scene()).sharpness] + [
        measure_blur(blur(scene(), line(n, 30))).sharpness for n in (6, 20, 50)
    ]
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.5 > found[2]


def test_a_lens_out_of_focus_is_no_motion():
    assert not measure_blur(blur(scene(), disc(14))).is_moved


def test_the_map_tells_the_moved_half_from_the_sharp_one():
    sharp = scene("astronaut")
    half = sharp.copy()
    half[:, 256:] = blur(sharp, line(20, 0))[:, 256:]
    weights = find_blurry(measure_blur(half), *half.shape[:2])
    assert weights.shape == half.shape[:2]
    assert 0 <= float(weights.min()) <= float(weights.max()) <= 1
    assert float(weights[:, :100].mean()) < 0.2
    assert float(weights[:, -100:].mean()) > 0.8
    assert float(weights.diff(dim=1).abs().max()) < 0.1, "the border is soft"


def test_sixteen_bits_say_the_same_as_eight():
    pixels = blur(scene(), line(16, 60))
    eight, sixteen = measure_blur(pixels), measure_blur(pixels.astype(np.uint16) * 257)
    assert eight.length == pytest.approx(sixteen.length, rel=1e-3)
    assert eight.verdict == sixteen.verdict


@pytest.mark.parametrize("size", [(1, 1), (8, 12), (40, 1000), (300, 200)])
def test_where_there_is_nothing_to_tell_by_nothing_is_told(size):
    found = measure_blur(np.full((*size, 3), 90, np.uint8))
    assert (found.verdict, found.length, found.shares) == ("empty", 0, (0, 0, 0))
    assert find_blurry(found, *size).shape == size
    assert not find_blurry(found, *size).any()


@pytest.mark.parametrize("sigma", [2, 6, 15])
def test_noise_is_measured_in_the_smooth_places(sigma):
    dice = np.random.default_rng(1)
    noisy = blur(scene(), disc(10)) + sigma * dice.standard_normal((*scene().shape[:2], 1))
    luma = to_luma(noisy.round().clip(0, 255).astype(np.uint8))
    assert estimate_noise(luma) == pytest.approx(sigma, rel=0.25)


def test_a_wave_lies_in_the_cell_of_its_frequency_and_direction():
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    for step in (0, 5, 16, 27):
        angle = torch.tensor(step * torch.pi / ANGLES)
        wave = (0.5 * (x * angle.cos() - y * angle.sin())).sin()
        ring, turn = divmod(int(polar_spectra(wave[None])[0].argmax()), ANGLES)
        assert turn == step
        assert float(ring_frequencies()[ring]) == pytest.approx(0.5 / 2 / torch.pi, rel=0.13)
    white = polar_spectra(torch.randn(40, SIDE, SIDE, generator=torch.Generator().manual_seed(0)))
    assert white.shape == (40, RINGS, ANGLES)
    assert white.mean(0)[:20].mean() == pytest.approx(1, rel=0.05)

"""Every figure against a public formula or a closed form."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import blur_effect
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from deblur_cli.errors import InputError
from deblur_cli.metrics import METRICS, Sample, choose_metrics, default_metrics
from deblur_cli.metrics.alignment import best_shift
from deblur_cli.metrics.fidelity import gaussian_window

SIZES = [(11, 12), (16, 16), (31, 33), (64, 47), (65, 131), (97, 20)]
Picture = NDArray[np.uint8]


def random_pair(height: int, width: int, noise: float = 25.0) -> tuple[Picture, Picture]:
    generator = np.random.default_rng(height * 1000 + width)
    sharp = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    restored = np.clip(sharp + generator.normal(0, noise, sharp.shape), 0, 255).astype(np.uint8)
    return restored, sharp


def smooth_picture(height: int = 120, width: int = 160, seed: int = 0) -> Picture:
    """Structure at several scales, band-limited, so that resampling it loses next to nothing."""
    generator = np.random.default_rng(seed)
    layers = [
        ndimage.gaussian_filter(generator.normal(size=(height, width, 3)), (sigma, sigma, 0)) for sigma in (3, 6, 15)
    ]
    picture = sum(layer / layer.std() for layer in layers)
    return np.clip(128 + 28 * picture, 0, 255).astype(np.uint8)


def value(name: str, restored: NDArray, sharp: NDArray | None, blurry: NDArray | None = None) -> float | None:
    function = METRICS[name].function
    assert function is not None
    return function(Sample(restored, restored if blurry is None else blurry, sharp))


def basicsr_ssim_3d(first: Picture, second: Picture) -> float:
    """The published formula, literally: a full 11x11x11 kernel, replicated edges, float64."""
    weights = torch.tensor(gaussian_window(), dtype=torch.float64)
    kernel = weights[:, None, None] * weights[:, None] * weights
    x, y = (torch.from_numpy(image).double() for image in (first, second))

    def blur(volume: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(volume[None, None], (5,) * 6, mode="replicate")
        return torch.nn.functional.conv3d(padded, kernel[None, None])[0, 0]

    mu_x, mu_y = blur(x), blur(y)
    var_x, var_y, cov = blur(x * x) - mu_x**2, blur(y * y) - mu_y**2, blur(x * y) - mu_x * mu_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ssim = (2 * mu_x * mu_y + c1) * (2 * cov + c2) / ((mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2))
    return float(ssim.mean())


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_psnr_and_ssim_equal_scikit_image(height, width):
    restored, sharp = random_pair(height, width)
    assert value("psnr", restored, sharp) == pytest.approx(
        peak_signal_noise_ratio(sharp, restored, data_range=255), abs=1e-4
    )
    expected = structural_similarity(
        sharp, restored, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2, data_range=255
    )
    assert value("ssim", restored, sharp) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_psnr_and_ssim3d_equal_the_basicsr_formulas(height, width):
    restored, sharp = random_pair(height, width)
    difference = restored.astype(np.float64) - sharp.astype(np.float64)
    assert value("psnr", restored, sharp) == pytest.approx(
        20 * math.log10(255 / np.sqrt(np.mean(difference**2))), abs=1e-4
    )
    assert value("ssim3d", restored, sharp) == pytest.approx(basicsr_ssim_3d(restored, sharp), abs=1e-5)


@pytest.mark.parametrize("level", [0, 3, 252])
def test_ssim_keeps_its_digits_on_nearly_flat_pictures(level):
    generator = np.random.default_rng(level)
    sharp = (level + generator.integers(0, 4, (40, 41, 3))).astype(np.uint8)
    restored = (level + generator.integers(0, 4, (40, 41, 3))).astype(np.uint8)
    assert value("ssim3d", restored, sharp) == pytest.approx(basicsr_ssim_3d(restored, sharp), abs=1e-5)
    expected = structural_similarity(
        sharp, restored, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2, data_range=255
    )
    assert value("ssim", restored, sharp) == pytest.approx(expected, abs=1e-5)


def test_a_dark_8_bit_picture_whose_maximum_is_one_is_judged_on_255_levels():
    sharp = np.zeros((32, 32, 3), dtype=np.uint8)
    restored = sharp.copy()
    restored[::2, ::2] = 1
    assert restored.max() == 1
    assert value("psnr", restored, sharp) == pytest.approx(10 * math.log10(255**2 / 0.25), abs=1e-9)
    assert value("ssim", restored, sharp) > 0.98  # with a range of 1 it would be about 0


def test_a_16_bit_truth_is_rounded_to_8_bit():
    restored, sharp = random_pair(33, 35)
    deep = sharp.astype(np.uint16) * 257
    jitter = np.random.default_rng(0).integers(-128, 129, deep.shape)  # below half of one 8-bit level
    deep = np.clip(deep.astype(np.int64) + jitter, 0, 65535).astype(np.uint16)
    for name in ("psnr", "ssim", "ssim3d", "detail"):
        assert value(name, restored, deep) == value(name, restored, sharp)
    assert value("psnr", restored.astype(np.uint16) * 257, deep) == value("psnr", restored, sharp)


def test_16_bit_extremes_keep_their_place():
    deep = np.array([0, 128, 129, 32768, 65406, 65407, 65535], dtype=np.uint16).reshape(1, 7, 1).repeat(3, axis=2)
    assert Sample(deep, deep, None).restored[0, :, 0].tolist() == [0, 0, 1, 128, 254, 255, 255]


def test_floats_are_refused_because_their_range_would_be_a_guess():
    with pytest.raises(TypeError, match="uint8 or uint16"):
        Sample(np.zeros((8, 8, 3), dtype=np.float32), np.zeros((8, 8, 3), dtype=np.float32), None)


def test_equal_pictures_score_perfectly():
    picture = smooth_picture()
    assert value("psnr", picture, picture) == math.inf
    assert value("ssim", picture, picture) == pytest.approx(1, abs=1e-6)
    assert value("ssim3d", picture, picture) == pytest.approx(1, abs=1e-6)
    assert value("detail", picture, picture) == 0


@pytest.mark.parametrize("name", ["ssim", "ssim3d", "detail", "psnr-shift", "blur_effect"])
def test_a_picture_that_is_too_small_is_an_error_and_no_number(name):
    tiny = np.zeros((8, 40, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="pixels a side"):
        value(name, tiny, tiny)


@pytest.mark.parametrize(("height", "width"), [(24, 31), (65, 48)])
@pytest.mark.parametrize("sigma", [0, 1.5, 4])
def test_blur_effect_equals_scikit_image_and_grows_with_blur(height, width, sigma):
    picture = (
        ndimage.gaussian_filter(random_pair(height, width)[1], (sigma, sigma, 0))
        if sigma
        else random_pair(height, width)[1]
    )
    assert value("blur_effect", picture, None) == pytest.approx(blur_effect(picture, channel_axis=2), abs=1e-5)


def test_blur_effect_orders_pictures_by_their_blur():
    picture = smooth_picture()
    scores = [value("blur_effect", ndimage.gaussian_filter(picture, (s, s, 0)), None) for s in (0, 2, 4)]
    assert scores == sorted(scores)


def test_detail_measures_the_ratio_of_gradient_energy():
    sharp = random_pair(65, 65)[1] // 2
    half = sharp // 2
    assert value("detail", half, sharp) == pytest.approx(math.log(4), abs=0.05)
    assert value("detail", sharp, half) == pytest.approx(value("detail", half, sharp), abs=1e-6)


def test_detail_correlation_is_one_for_the_truth_and_low_for_noise():
    generator = np.random.default_rng(1)
    sharp = smooth_picture(240, 320).astype(np.float64)
    sharp[:, 160:] += generator.normal(0, 25, (240, 160, 3)) * np.linspace(0, 1, 160)[:, None]
    sharp = np.clip(sharp, 0, 255).astype(np.uint8)
    blurry = ndimage.gaussian_filter(sharp, (2, 2, 0))
    noisy = np.clip(blurry + generator.normal(0, 10, blurry.shape), 0, 255).astype(np.uint8)
    assert value("detail_corr", sharp, sharp, blurry) == pytest.approx(1)
    assert abs(value("detail_corr", noisy, sharp, blurry)) < 0.2
    assert value("detail_corr", blurry, sharp, blurry) is None


@pytest.mark.parametrize("move", [(0, 0), (2, -3), (-5, 5), (5, 1)])
def test_the_shift_protocol_finds_the_shift_and_cuts_the_border(move):
    sharp = smooth_picture()
    moved = np.roll(sharp, move, axis=(0, 1))
    assert best_shift(moved, sharp) == move
    assert value("psnr-shift", moved, sharp) == math.inf
    assert value("ssim-shift", moved, sharp) == pytest.approx(1, abs=1e-6)


def test_the_shift_protocol_equals_a_search_by_hand():
    restored, sharp = random_pair(40, 51, noise=60)
    centre = sharp[5:-5, 5:-5].astype(np.float64)
    best = max(
        10 * math.log10(255**2 / np.mean((restored[5 + y : 35 + y, 5 + x : 46 + x] - centre) ** 2))
        for y in range(-5, 6)
        for x in range(-5, 6)
    )
    assert value("psnr-shift", restored, sharp) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("gain", [0.8, 1.1])
def test_realblur_alignment_recovers_the_psnr_of_the_unwarped_pair(gain):
    cv2 = pytest.importorskip("cv2")
    sharp = smooth_picture(240, 320, seed=3) // 2 + 30
    # A smooth error of its own, everywhere alike: neither resampling, the gain nor the lost border changes it.
    error = smooth_picture(240, 320, seed=4).astype(np.float64) - 128
    restored = np.clip(sharp + 0.2 * (error - error.mean()), 0, 255).round().astype(np.uint8)
    matrix = np.array([[1.004, 0.006, 2.3], [-0.005, 0.997, -1.7], [1e-5, -8e-6, 1]], dtype=np.float32)
    warped = cv2.warpPerspective(
        restored.astype(np.float32) * gain, matrix, (320, 240), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    warped = np.clip(np.round(warped), 0, 255).astype(np.uint8)
    unwarped = value("psnr", restored, sharp)
    assert value("psnr", warped, sharp) < unwarped - 5
    assert value("psnr-realblur", warped, sharp) == pytest.approx(unwarped, abs=0.05)
    assert value("ssim-realblur", warped, sharp) == pytest.approx(value("ssim", restored, sharp), abs=0.005)


def test_realblur_alignment_on_a_flat_picture_says_so():
    pytest.importorskip("cv2")
    from deblur_cli.metrics.alignment import AlignmentError

    flat = np.full((64, 64, 3), 90, dtype=np.uint8)
    with pytest.raises(AlignmentError, match="converge"):
        value("psnr-realblur", flat, flat)


def test_koehler_undoes_gain_and_whole_pixel_shift():
    sharp = smooth_picture() // 2
    dark = np.round(sharp * 0.5).astype(np.uint8)
    assert value("psnr-koehler", dark, sharp) > 50  # the rounding of the darker picture remains
    moved = np.roll(dark, (4, -7), axis=(0, 1))
    # As in the authors' code the gain is found before the shift, so a little of it remains.
    assert value("psnr-koehler", moved, sharp) > value("psnr", moved, sharp) + 12


def test_a_protocol_replaces_the_metrics_it_defines_and_keeps_the_others():
    names = [row.name for row in choose_metrics(("psnr", "lpips", "detail-corr"), "shift", True)]
    assert names == ["psnr-shift", "lpips", "detail_corr-shift"]
    assert [row.name for row in choose_metrics(("psnr", "ssim3d"), "realblur", True)] == ["psnr-realblur", "ssim3d"]


def test_without_truth_only_the_no_reference_metrics_remain():
    assert default_metrics(False) == ("blur_effect",)
    assert choose_metrics(("psnr",), "full", False) == []


@pytest.mark.parametrize(("names", "protocol"), [(("psnrr",), "full"), ((), "fulll")])
def test_a_mistyped_metric_or_protocol_is_named_with_the_known_ones(names, protocol):
    with pytest.raises(InputError, match="known are"):
        choose_metrics(names, protocol, True)


def test_every_metric_says_how_to_read_it():
    for metric in METRICS.values():
        assert metric.direction in {"higher", "lower"}
        assert metric.protocol
        assert (metric.function is None) == (metric.network is not None)

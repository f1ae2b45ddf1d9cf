"""What a camera and the ways of a photo after it do to a blurred picture: noise, smoothed colour, halos, JPEG, size.

Batches of sRGB-encoded pictures, (B, 3, H, W) in [0, 1]. The sharp picture of a pair stays clean.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli.training.dice import Dice
from deblur_cli.training.jpeg_noise import compress_as_jpeg
from deblur_cli.training.sensor_noise import add_white_noise, decode_srgb, draw_sensor, encode_srgb
from deblur_cli.training.synthesis_config import SynthesisConfig

_LUMA = (0.299, 0.587, 0.114)
_LEAST_NOISE = 0.004  # one step of 8 bits
_BEST_QUALITY = 98


@dataclass(frozen=True, slots=True)
class Shot:
    """What is known of a batch before it is photographed.

    Attributes:
        still: (B, 1, 1, 1) of 0.0 and 1.0, which pictures are not blurred.
        side: the size of the finished picture; None for the size of the given one.
    """

    still: Tensor
    side: int | None = None


def photograph(blurry: Tensor, clean: Tensor, dice: Dice, config: SynthesisConfig, shot: Shot) -> tuple[Tensor, Tensor]:
    """The pair as it is when somebody has the photo: the blurred picture worn, the clean one of the same size."""
    count = len(blurry)
    taken = torch.maximum(1 - shot.still, dice.chance(count, config.unblurred_noise_share))
    noisy, strength = add_sensor_noise(blurry, dice, config)
    worn = sharpen(noisy, _halo(count, strength, dice, config), dice)
    compressed = taken * dice.chance(count, config.jpeg_share)
    worn = _choose(taken, worn, blurry)
    worn = _choose(compressed, compress_as_jpeg(worn, _quality(count, dice, config)), worn)
    if shot.side is not None and shot.side != blurry.shape[-1]:
        worn, clean = (resize(picture, shot.side) for picture in (worn, clean))
    again = compressed * dice.chance(count, config.jpeg_twice_share)
    if again.any():
        worn = _choose(again, compress_off_grid(worn, _quality(count, dice, config), dice), worn)
    return worn.clamp(0, 1), clean.contiguous()


def add_sensor_noise(picture: Tensor, dice: Dice, config: SynthesisConfig) -> tuple[Tensor, Tensor]:
    """Pictures with the noise of a sensor by the shares of `config`, and how strong it is, (B,)."""
    count, _, height, width = picture.shape
    highest = max(config.max_sensor_noise, _LEAST_NOISE)
    strength = dice.log_uniform(count, low=_LEAST_NOISE, high=highest)
    strength = strength * dice.chance(count, config.sensor_share).view(-1)
    grey = (picture.amax(1) - picture.amin(1)).amax((1, 2)) < 1e-4
    light = decode_srgb(functional.pad(picture, (0, width % 2, 0, height % 2), mode="replicate"))
    developed = draw_sensor(count, dice).add_noise(light, strength, dice)
    white = add_white_noise(light, strength, dice)
    noisy = _choose(dice.chance(count, config.mosaic_share), developed, white)
    noisy = encode_srgb(noisy.clamp(0, 1))[..., :height, :width]
    smoothed = smooth_colour(noisy, dice.uniform(count, low=0.6, high=2.5))
    noisy = _choose(dice.chance(count, config.colour_smoothing_share), smoothed, noisy)
    noisy = _choose(grey[:, None, None, None].float(), noisy.mean(1, keepdim=True).expand_as(noisy), noisy)
    return _choose((strength > 0)[:, None, None, None].float(), noisy, picture), strength


def smooth_colour(picture: Tensor, radius: Tensor) -> Tensor:
    """The same luma, its colour smoothed by Gaussians of the standard deviations `radius`, (B,), in pixels."""
    luma = _luma(picture)
    return luma + _smooth(picture - luma, radius)


def sharpen(picture: Tensor, amount: Tensor, dice: Dice) -> Tensor:
    """An unsharp mask on the luma, as cameras do it: `amount` (B, 1, 1, 1) of the detail within a pixel or two."""
    luma = _luma(picture)
    radius = dice.uniform(len(picture), low=0.6, high=1.8)
    return (picture + amount * (luma - _smooth(luma, radius))).clamp(0, 1)


def compress_off_grid(picture: Tensor, quality: Tensor, dice: Dice) -> Tensor:
    """JPEG whose blocks of 8 x 8 lie elsewhere: the photo was cropped before."""
    left, top = (int(dice.number(1, 8)) for _ in range(2))
    shifted = functional.pad(picture, (left, 0, top, 0), mode="replicate")
    return compress_as_jpeg(shifted, quality)[..., top:, left:]


def resize(picture: Tensor, side: int) -> Tensor:
    """Both sides made `side`, without aliasing."""
    return functional.interpolate(picture, size=(side, side), mode="bilinear", antialias=True)


def _halo(count: int, strength: Tensor, dice: Dice, config: SynthesisConfig) -> Tensor:
    """Amounts of sharpening, (B, 1, 1, 1), smaller in noisy photos, as cameras choose them."""
    amount = config.max_halo * dice.uniform(count, 1, 1, 1, low=0.1, high=1.0) * dice.chance(count, config.halo_share)
    return amount / (1 + 30 * strength)[:, None, None, None]


def _quality(count: int, dice: Dice, config: SynthesisConfig) -> Tensor:
    return dice.uniform(count, low=config.min_jpeg_quality, high=_BEST_QUALITY)


def _luma(picture: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, device=picture.device).view(1, 3, 1, 1)
    return (picture * weights).sum(1, keepdim=True)


def _smooth(planes: Tensor, radius: Tensor, reach: int = 6) -> Tensor:
    """Gaussians of the standard deviations `radius`, (B,), one for each picture; borders are repeated."""
    count, channels, height, width = planes.shape
    offset = torch.arange(-reach, reach + 1, device=planes.device)
    row = (-0.5 * (offset / radius[:, None]).square()).softmax(1).repeat_interleave(channels, 0)
    padded = functional.pad(planes, (reach, reach, reach, reach), mode="replicate")
    padded = padded.view(1, count * channels, height + 2 * reach, width + 2 * reach)
    across = functional.conv2d(padded, row[:, None, None], groups=count * channels)
    return functional.conv2d(across, row[:, None, :, None], groups=count * channels).view(planes.shape)


def _choose(chosen: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(chosen > 0, yes, no)

"""Noise of a camera's sensor as it looks in the finished picture: coarse-grained and coloured by the demosaic.

The picture is taken back to what the sensor saw (linear light, before white balance and colour matrix, one colour per
photosite), gets shot and read noise there, and is developed again. Pure tensor operations; pictures are (B, 3, H, W).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli.training.dice import Dice

_GREY = 0.5  # sRGB-encoded level at which the strength of noise is told
_GREEN = ((0, 0, 0, 0, 0), (0, 0, 2, 0, 0), (0, 2, 0, 2, 0), (0, 0, 2, 0, 0), (0, 0, 0, 0, 0))
_ROW = ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 4, 0, 4, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0))
_DIAGONAL = ((0, 0, 0, 0, 0), (0, 2, 0, 2, 0), (0, 0, 0, 0, 0), (0, 2, 0, 2, 0), (0, 0, 0, 0, 0))
_GREEN_DETAIL = ((0, 0, -1, 0, 0), (0, 0, 0, 0, 0), (-1, 0, 4, 0, -1), (0, 0, 0, 0, 0), (0, 0, -1, 0, 0))
_ROW_DETAIL = ((0, 0, 0.5, 0, 0), (0, -1, 0, -1, 0), (-1, 0, 5, 0, -1), (0, -1, 0, -1, 0), (0, 0, 0.5, 0, 0))
_DIAGONAL_DETAIL = ((0, 0, -1.5, 0, 0), (0, 0, 0, 0, 0), (-1.5, 0, 6, 0, -1.5), (0, 0, 0, 0, 0), (0, 0, -1.5, 0, 0))


@dataclass(frozen=True, slots=True)
class Sensor:
    """A camera's way from photosites to linear sRGB.

    Attributes:
        gains: (B, 3, 1, 1), white balance; that of green is 1.
        matrix: (B, 3, 3), from the camera's colours to linear sRGB; rows sum to 1.
        detail: (B, 1, 1, 1), of the other colours' detail in the demosaic: 0 is bilinear, 1 Malvar, He and Cutler's.
        read: (B, 1, 1, 1), share of the read noise in the variance at mid grey; shot noise is the rest.
    """

    gains: Tensor
    matrix: Tensor
    detail: Tensor
    read: Tensor

    def develop(self, mosaic: Tensor) -> Tensor:
        """Linear sRGB of a mosaic, (B, 1, H, W)."""
        return torch.einsum("boc,bchw->bohw", self.matrix, demosaic(mosaic, self.detail) * self.gains)

    def expose(self, light: Tensor) -> Tensor:
        """The mosaic that the sensor sees of linear sRGB, with even sides."""
        seen = torch.einsum("boc,bchw->bohw", torch.linalg.inv(self.matrix), light) / self.gains
        return to_mosaic(seen)

    def add_noise(self, light: Tensor, strength: Tensor, dice: Dice) -> Tensor:
        """Linear light as developed from a noisy mosaic.

        Args:
            light: linear sRGB, sides even.
            strength: (B,), standard deviation at mid grey in sRGB-encoded units, in the mean square over the colours.
        """
        mosaic = self.expose(light)
        level = mosaic.clamp_min(0) / decode_srgb(torch.tensor(_GREY, device=light.device))
        variance = self.read + (1 - self.read) * level
        scale = find_scale(strength, self.amplification())[:, None, None, None]
        return self.develop(mosaic + scale * variance.sqrt() * dice.normal(*mosaic.shape))

    def amplification(self) -> Tensor:
        """(B, 3): deviation of the developed colours of a mid grey, over that of a photosite as bright as it.

        The development is linear, so the answers to single photosites tell all of it.
        """
        count = len(self.gains)
        read = self.read.view(count, 1)
        red, green, blue = (1 / self.gains).view(count, 3, 1).unbind(1)  # levels of grey on the sensor
        total = self.gains.new_zeros(count, 3)
        for (row, column), level in zip(((0, 0), (0, 1), (1, 0), (1, 1)), (red, green, green, blue), strict=True):
            impulse = self.gains.new_zeros(count, 1, 16, 16)
            impulse[..., 8 + row, 8 + column] = 1
            total += (read + (1 - read) * level) * self.develop(impulse).square().sum((2, 3))
        return (total / 4).sqrt()  # each of the four photosites is there once in 2 x 2 pixels


def find_scale(strength: Tensor, amplification: Tensor) -> Tensor:
    """(B,): the linear deviation that looks like `strength` on an sRGB-encoded mid grey.

    The curve bends within strong noise, so a few steps correct the first guess.

    Args:
        strength: (B,), in the mean square over the colours.
        amplification: (B, 3), deviation of each colour over the one that is asked for.
    """
    grey = decode_srgb(torch.tensor(_GREY, device=strength.device))
    parts = torch.special.ndtri((torch.arange(64, device=strength.device) + 0.5) / 64)
    scale = strength
    for _ in range(5):
        levels = encode_srgb((grey + (scale[:, None] * amplification)[..., None] * parts).clamp(0, 1))
        seen = levels.var(-1, correction=0).mean(1).sqrt()
        scale = scale * strength / seen.clamp_min(1e-6)
    return scale


def draw_sensor(count: int, dice: Dice) -> Sensor:
    """White balance from lamplight to shade, and what usual cameras have of the rest."""
    warmth = dice.uniform(count, 1, 1)
    gains = torch.cat((1.3 + 0.9 * warmth, torch.ones_like(warmth), 2.4 - 0.9 * warmth), 1)[..., None]
    mixed = dice.uniform(count, 1, 1, low=0.0, high=0.5)
    matrix = torch.eye(3, device=dice.device) * (1 + mixed) - mixed / 3
    read = dice.log_uniform(count, 1, 1, 1, low=0.01, high=0.15)
    return Sensor(gains, matrix, dice.uniform(count, 1, 1, 1, low=0.4, high=1.0), read)


def add_white_noise(light: Tensor, strength: Tensor, dice: Dice) -> Tensor:
    """Shot noise of linear light, each pixel and colour by itself; see `Sensor.add_noise`."""
    level = light.clamp_min(0) / decode_srgb(torch.tensor(_GREY, device=light.device))
    scale = find_scale(strength, strength.new_ones(len(strength), 3))[:, None, None, None]
    return light + scale * (level + 0.02).sqrt() * dice.normal(*light.shape)


def to_mosaic(picture: Tensor) -> Tensor:
    """The photosites of an RGGB sensor, (B, 1, H, W) of (B, 3, H, W) with even sides."""
    mosaic = picture[:, 1:2].clone()
    mosaic[..., ::2, ::2] = picture[:, :1, ::2, ::2]
    mosaic[..., 1::2, 1::2] = picture[:, 2:, 1::2, 1::2]
    return mosaic


def demosaic(mosaic: Tensor, detail: Tensor | float = 1.0) -> Tensor:
    """All three colours at every photosite of an RGGB sensor.

    Args:
        mosaic: (B, 1, H, W), sides even.
        detail: how much of the detail of the colour that is known is given to those that are not.
    Source: Malvar, He and Cutler 2004, "High-quality linear interpolation for demosaicing of Bayer-patterned color
        images", figure 2; without the detail it is the bilinear interpolation.
    """
    filters = torch.tensor((_GREEN, _ROW, _DIAGONAL, _GREEN_DETAIL, _ROW_DETAIL, _DIAGONAL_DETAIL)) / 8
    column, column_detail = filters[1].T, filters[4].T
    plain = torch.stack((filters[0], filters[1], column, filters[2]))
    detailed = torch.stack((filters[3], filters[4], column_detail, filters[5]))
    bank = torch.cat((plain, detailed))[:, None].to(mosaic.device)
    smooth, added = functional.conv2d(functional.pad(mosaic, (2, 2, 2, 2), mode="reflect"), bank).chunk(2, 1)
    green, along, across, opposite = torch.tensor_split(smooth + detail * added, 4, 1)
    green[..., ::2, 1::2], green[..., 1::2, ::2] = mosaic[..., ::2, 1::2], mosaic[..., 1::2, ::2]
    red, blue = opposite.clone(), opposite
    red[..., ::2, ::2], blue[..., 1::2, 1::2] = mosaic[..., ::2, ::2], mosaic[..., 1::2, 1::2]
    red[..., ::2, 1::2], red[..., 1::2, ::2] = along[..., ::2, 1::2], across[..., 1::2, ::2]
    blue[..., 1::2, ::2], blue[..., ::2, 1::2] = along[..., 1::2, ::2], across[..., ::2, 1::2]
    return torch.cat((red, green, blue), 1)


def decode_srgb(encoded: Tensor) -> Tensor:
    """Linear light of sRGB-encoded values, [0, 1]. Source: IEC 61966-2-1."""
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def encode_srgb(light: Tensor) -> Tensor:
    """sRGB-encoded values of linear light, [0, 1]. Source: IEC 61966-2-1."""
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(1e-4) ** (1 / 2.4) - 0.055)

"""Paths of a camera that is held by hand, from smooth to jittery, as points in time with the light of each.

Blur by a path is centred: its light has its centroid at zero, so that the sharp photo lies in the middle of its blur.
Source of the idea that variety of the paths decides: GS-Blur (Lee et al. 2024) and Boracchi and Foi 2012.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli.training.dice import Dice

REACH = 0.75  # no path goes further from its centroid than this part of its length


@dataclass(frozen=True, slots=True)
class HandPath:
    """Where the scene is at each of P points in time.

    Attributes:
        shift: (B, 2, P), x and y in pixels; the dwell-weighted mean is 0.
        dwell: (B, P), share of the exposure; sums to 1.
        roll: (B, P), turn of the camera in radians; the dwell-weighted mean is 0.
        pivot: (B, 2), the point about which it turns, x and y; -1 and 1 are the borders of the picture.
    """

    shift: Tensor
    dwell: Tensor
    roll: Tensor
    pivot: Tensor


def draw_hand_path(lengths: Tensor, dice: Dice, points: int = 192) -> HandPath:
    """One path for each length, without roll.

    A path is a heading that bends slowly, with quicker wobbles and jerks in a third of the hands, and with unequal
    times of stay.

    Args:
        lengths: (B,), diagonals of the bounding boxes in pixels.
    """
    count = len(lengths)
    rough = dice.uniform(count, 1, 1) ** 2 * 1.6
    heading = dice.normal(count, 2, 1) * dice.uniform(count, 1, 1, low=0.2, high=2.0)
    bends = _wave(dice, count, 2, 3, points) * dice.uniform(count, 1, 1, low=0.1, high=1.3)
    wobbles = _wave(dice, count, 2, 12, points) + 1.5 * _wave(dice, count, 2, 32, points)
    jerks = dice.normal(count, 2, points)
    shift = (heading + bends + rough * (wobbles + jerks)).cumsum(-1)
    unevenness = dice.uniform(count, 1, low=0.0, high=1.3)
    dwell = (unevenness * _wave(dice, count, 1, 7, points)[:, 0]).softmax(1)
    still = torch.zeros_like(dwell)
    return HandPath(_scale(_centre(shift, dwell), lengths), dwell, still, torch.zeros(count, 2, device=dice.device))


def draw_roll(path: HandPath, lengths: Tensor, size: tuple[int, int], dice: Dice) -> HandPath:
    """The same path of a camera that also turns about any point, in the picture or beside it.

    Args:
        lengths: (B,); the turn moves the furthest corner by up to 0.7 of these.
        size: height and width of the picture.
    """
    count, points = path.dwell.shape
    pivot = dice.uniform(count, 2, low=-1.5, high=1.5)
    half = torch.tensor([size[1] / 2, size[0] / 2], device=dice.device)
    furthest = ((pivot.abs() + 1) * half).norm(dim=1)
    turn = (_wave(dice, count, 1, 1, points) + 0.5 * _wave(dice, count, 1, 6, points)).cumsum(-1)
    turn = _centre(turn, path.dwell)[:, 0]
    extent = (turn.amax(1) - turn.amin(1)).clamp_min(1e-6)
    moved = lengths * dice.uniform(count, low=0.1, high=0.7)
    return HandPath(path.shift, path.dwell, turn * (moved / furthest / extent)[:, None], pivot)


def to_kernels(path: HandPath, size: int) -> Tensor:
    """The shifts of a path as kernels for `convolve`, (B, size, size), each summing to 1."""
    return splat(path.shift, size, path.dwell)


def splat(path: Tensor, size: int, dwell: Tensor | None = None) -> Tensor:
    """Bilinear drops along paths (B, 2, P) that are centred on 0, of equal weight or `dwell`, into (B, size, size)."""
    count = path.shape[0]
    position = path + size // 2
    corner = position.floor().clamp(0, size - 2)
    part = (position - corner).clamp(0, 1)
    kernels: Tensor = path.new_zeros(count, size * size)
    for down in (0, 1):
        for right in (0, 1):
            weight = (part[:, 0] if right else 1 - part[:, 0]) * (part[:, 1] if down else 1 - part[:, 1])
            weight = weight if dwell is None else weight * dwell
            index = (corner[:, 1] + down) * size + corner[:, 0] + right
            kernels.scatter_add_(1, index.long(), weight)
    kernels /= kernels.sum(1, keepdim=True)
    return kernels.view(count, size, size)


def average_along(light: Tensor, path: HandPath, near: Tensor | None = None, factor: Tensor | None = None) -> Tensor:
    """The exposure of a scene that moves along a path, by the average of its views.

    Args:
        light: (B, 3, H, W).
        near: (B, 1, H, W), how much of a pixel belongs to the near layer, which moves over the other.
        factor: (B,), how far the near layer shifts while the other shifts by 1.
    """
    total = torch.zeros_like(light)
    for index in range(path.dwell.shape[1]):
        view = _look(light, path, index)
        if near is not None and factor is not None:
            layer = _look(torch.cat((light, near), 1), path, index, factor)
            view = torch.lerp(view, layer[:, :3], layer[:, 3:])
        total += view * path.dwell[:, index, None, None, None]
    return total


def _look(image: Tensor, path: HandPath, index: int, factor: Tensor | float = 1.0) -> Tensor:
    """`image` at one point in time. The turn is that of a small angle, so that its mean over time moves no pixel."""
    height, width = image.shape[-2:]
    move_x, move_y = (path.shift[:, axis, index] * factor for axis in (0, 1))
    roll, (pivot_x, pivot_y) = path.roll[:, index], path.pivot.unbind(1)
    one, slant, slope = torch.ones_like(roll), roll * height / width, -roll * width / height
    x = torch.stack((one, slant, -2 * move_x / width - slant * pivot_y), 1)
    y = torch.stack((slope, one, -2 * move_y / height - slope * pivot_x), 1)
    grid = functional.affine_grid(torch.stack((x, y), 1), list(image.shape), align_corners=False)
    return functional.grid_sample(image, grid, padding_mode="reflection", align_corners=False)


def _wave(dice: Dice, count: int, channels: int, knots: int, points: int) -> Tensor:
    """Smooth noise through `knots` random values, (count, channels, points)."""
    values = dice.normal(count, channels, knots)
    return functional.interpolate(values, size=points, mode="linear", align_corners=True)


def _centre(values: Tensor, dwell: Tensor) -> Tensor:
    return values - (values * dwell[:, None]).sum(-1, keepdim=True)


def _scale(shift: Tensor, lengths: Tensor) -> Tensor:
    """To bounding boxes of these diagonals, and smaller where a path would reach too far from its centroid."""
    extent = (shift.amax(-1) - shift.amin(-1)).norm(dim=1).clamp_min(1e-6)
    furthest = shift.norm(dim=1).amax(1).clamp_min(1e-6)
    scale = torch.minimum(lengths / extent, REACH * lengths / furthest)
    return shift * scale[:, None, None]

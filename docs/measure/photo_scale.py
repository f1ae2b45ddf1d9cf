"""Pairs at the scale of a photo: sharp photos of 6 to 24 megapixels, shaken by up to 160 pixels.

    python docs/measure/photo_scale.py PHOTOS... -o OUT

makes OUT/blur and OUT/sharp, one pair for each photo and length. The paths are not those of the training: a hand here
is a velocity that wanders, with a tremor on top and moments of rest.
"""

import argparse
from pathlib import Path

import numpy as np
from camera import (
    Floats,
    add_camera_noise,
    decode_srgb,
    dice_for,
    encode_srgb,
    read_photo,
    through_jpeg,
    to_pixels,
    write_pair,
)
from numpy.typing import NDArray
from scipy import ndimage, signal

Array = NDArray[np.float64]

_MOMENTS = 4000  # points in time of an exposure
_CLIPPED = 0.94  # linear light from which on a photo may have lost what was brighter
_BEYOND = 2.5  # times brighter than white that a clipped highlight was


def draw_path(length: float, dice: np.random.Generator) -> Array:
    """(2, moments): where the scene is in pixels, rows and columns, with its mean at 0.

    Args:
        length: diagonal of the path's bounding box in pixels.
    """
    time = np.linspace(0, 1, _MOMENTS)
    wander = ndimage.gaussian_filter1d(dice.standard_normal((2, _MOMENTS)), _MOMENTS / dice.uniform(4, 10), axis=1)
    velocity = wander / wander.std() + dice.uniform(0, 1.5) * dice.standard_normal((2, 1))
    rest = ndimage.gaussian_filter1d(dice.standard_normal(_MOMENTS), _MOMENTS / 20)
    velocity *= 1 / (1 + np.exp(-4 * (rest / rest.std() + 0.8)))  # near 0 for about a fifth of the time
    path: Array = velocity.cumsum(1) / _MOMENTS
    for cycles in dice.uniform(1, 5, 3):  # hands tremble at 8 to 12 Hz, and photos that shake take 1/10 to 1/2 second
        turn = 2 * np.pi * (cycles * time + dice.uniform(size=(2, 1)))
        path += dice.uniform(0, 0.02) * dice.standard_normal((2, 1)) * np.sin(turn)
    path *= length / np.hypot(*np.ptp(path, axis=1))
    path -= path.mean(1, keepdims=True)
    return path


def to_kernel(path: Array) -> Array:
    """(2 reach + 1, 2 reach + 1): the path's light on a grid of pixels; its centroid is the middle, it sums to 1."""
    reach = int(np.ceil(np.abs(path).max())) + 1
    place = path + reach
    corner = np.floor(place).astype(int)
    part = place - corner
    kernel: Array = np.zeros((2 * reach + 1, 2 * reach + 1))
    for down in (0, 1):
        for right in (0, 1):
            share = (part[0] if down else 1 - part[0]) * (part[1] if right else 1 - part[1])
            np.add.at(kernel, (corner[0] + down, corner[1] + right), share)
    kernel /= kernel.sum()
    return kernel


def find_detail(encoded: Floats, height: int, width: int, margin: int) -> tuple[int, int]:
    """Top and left of the crop with the most fine detail that has a margin on all sides."""
    if encoded.shape[0] < height + 2 * margin or encoded.shape[1] < width + 2 * margin:
        raise SystemExit(f"a photo of {encoded.shape[1]}x{encoded.shape[0]} is too small for the crop and its margin")
    detail = np.abs(
        ndimage.laplace(ndimage.gaussian_filter(encoded.mean(2), 1.5))
    )  # edges, not the sharp photo's grain
    total = np.pad(detail.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    inner = total[margin : total.shape[0] - margin, margin : total.shape[1] - margin]
    sums = inner[height:, width:] - inner[:-height, width:] - inner[height:, :-width] + inner[:-height, :-width]
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    return int(top) + margin, int(left) + margin


def expose(light: Floats, kernel: Array, sigma: float, dice: np.random.Generator) -> Floats:
    """sRGB-encoded picture of linear light that moves, without the margin that the kernel reaches into."""
    bright = light.max(2, keepdims=True)
    excess = ((bright - _CLIPPED) / (1 - _CLIPPED)).clip(0, 1)
    scene = light * (1 + (_BEYOND - 1) * excess)
    moved = signal.fftconvolve(scene, kernel[..., None], mode="valid", axes=(0, 1)).clip(0)
    clipped = moved.astype(np.float32).clip(0, 1)
    return encode_srgb(add_camera_noise(clipped, sigma, dice))


def make_pairs(path: Path, options: argparse.Namespace) -> None:
    """All pairs of one photo, from one crop."""
    encoded = read_photo(path)
    width, height = options.crop
    margin = max(options.lengths) + 2
    top, left = find_detail(encoded, height, width, margin)
    sharp = to_pixels(encoded[top : top + height, left : left + width])
    for length in options.lengths:
        dice = dice_for(path.stem, length)
        kernel = to_kernel(draw_path(length, dice))
        reach = kernel.shape[0] // 2
        around = encoded[top - reach : top + height + reach, left - reach : left + width + reach]
        blurry = to_pixels(expose(decode_srgb(around), kernel, dice.uniform(1, 2), dice))
        write_pair(options.out, f"{path.stem}_{length:03d}", through_jpeg(blurry, int(dice.integers(92, 96))), sharp)


def main() -> None:
    """Read the command line and make the pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("-o", "--out", required=True, type=Path)
    parser.add_argument("--lengths", nargs="+", type=int, default=[20, 60, 160], help="of the shake, in pixels")
    parser.add_argument("--crop", nargs=2, type=int, default=[1600, 1152], help="width and height")
    options = parser.parse_args()
    for path in options.photos:
        make_pairs(path, options)


if __name__ == "__main__":
    main()

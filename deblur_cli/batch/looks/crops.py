"""Crops of photos for a page: where they lie, and how they are shown. Pure but for the colour profile's library."""

import io
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from deblur_cli.errors import InputError
from deblur_cli.image_io import Photo
from deblur_cli.system.page_pictures import find_busiest

SIZE = (384, 288)  # of a crop that nobody asked for, in pixels: a window or two of the networks that see windows
_BLOCK = 4  # pixels whose mean is looked at: noise is finer, and the texture that motion leaves is not
_CLIPPED = (4, 251)  # levels of 255 beyond which nothing can be brought back
_STRONG = 24.0  # levels from one block to the next: an edge, and no more texture than any other edge


@dataclass(frozen=True, slots=True)
class Crop:
    """A rectangle of a photo as it is displayed, in its pixels."""

    left: int
    top: int
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.left},{self.top},{self.width},{self.height}"

    @property
    def rows(self) -> slice:
        """Where it lies from top to bottom."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """Where it lies from left to right."""
        return slice(self.left, self.left + self.width)

    def holds(self, other: "Crop") -> bool:
        """Whether all of the other one lies in it."""
        left, top = other.left - self.left, other.top - self.top
        return min(left, top) >= 0 and left + other.width <= self.width and top + other.height <= self.height


def parse_crop(text: str) -> Crop:
    """`X,Y,W,H` in pixels.

    Raises:
        InputError: it has another form, or no size.
    """
    if not re.fullmatch(r"\d{1,6}(,\d{1,6}){3}", text, re.ASCII) or min(map(int, text.split(",")[2:])) < 1:
        raise InputError(f"--crop {text}: must be X,Y,W,H in pixels of the photo, as in 1200,800,384,288")
    return Crop(*map(int, text.split(",")))


def choose_crop(pixels: NDArray[Any], size: tuple[int, int] = SIZE) -> Crop:
    """The richest place of a blurred photo: the window with the most texture that is not clipped.

    Args:
        pixels: (H, W, 3), uint8 or uint16.
        size: width and height that are wanted; a smaller photo gives all it has.
    """
    height, width = pixels.shape[:2]
    size = min(size[0], width), min(size[1], height)
    if min(height, width) < 2 * _BLOCK:
        return Crop(0, 0, *size)
    means = _block_means(pixels)
    down, across = (np.abs(np.diff(means, axis=axis, append=np.take(means, [-1], axis))) for axis in (0, 1))
    texture = np.minimum(down + across, _STRONG)
    texture[(means < _CLIPPED[0]) | (means > _CLIPPED[1])] = 0
    blocks = max(1, size[0] // _BLOCK), max(1, size[1] // _BLOCK)
    left, top = find_busiest(texture, (min(blocks[0], texture.shape[1]), min(blocks[1], texture.shape[0])), step=4)
    return Crop(min(left * _BLOCK, width - size[0]), min(top * _BLOCK, height - size[1]), *size)


def choose_change(before: NDArray[Any], after: NDArray[Any], size: tuple[int, int]) -> Crop:
    """The place where two versions of a photo, (H, W, 3) of one size, differ most."""
    height, width = before.shape[:2]
    size = min(size[0], width), min(size[1], height)
    if min(height, width) < 2 * _BLOCK:
        return Crop(0, 0, *size)
    change = np.abs(_block_means(before) - _block_means(after))
    blocks = (max(1, min(size[0] // _BLOCK, change.shape[1])), max(1, min(size[1] // _BLOCK, change.shape[0])))
    left, top = find_busiest(change, blocks, step=4)
    return Crop(min(left * _BLOCK, width - size[0]), min(top * _BLOCK, height - size[1]), *size)


def describe_change(before: NDArray[Any], after: NDArray[Any]) -> str:
    """How far two versions of a crop lie apart, and how much stronger the edges of the second are, in words."""
    first, second = (to_levels(pixels).astype(np.float32).mean(axis=2) for pixels in (before, after))
    if min(first.shape) < 2:
        return ""
    edges = [
        float(np.abs(np.diff(plane, axis=0)).mean() + np.abs(np.diff(plane, axis=1)).mean())
        for plane in (first, second)
    ]
    mean = float(np.abs(second - first).mean())
    return f"changed by {mean:.1f} of 255 levels, edges {edges[1] / max(edges[0], 1e-3):.2f} times as strong"


def to_picture(photo: Photo, crop: Crop, pixels: NDArray[Any] | None = None) -> Image.Image:
    """A crop of a photo in 8 bit and sRGB.

    Args:
        pixels: (crop.height, crop.width, 3), in the place of the photo's own.
    """
    part = photo.pixels[crop.rows, crop.columns] if pixels is None else pixels
    return to_srgb(Image.fromarray(np.ascontiguousarray(to_levels(part))), photo.metadata.icc)


def to_srgb(picture: Image.Image, icc: bytes | None) -> Image.Image:
    """The colours that the profile means, for a screen that is told of none; as they are where it is no RGB profile."""
    if icc is None:
        return picture
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        return ImageCms.profileToProfile(picture, profile, ImageCms.createProfile("sRGB"), outputMode="RGB") or picture
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture


def to_levels(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """8 bit; 16-bit pixels are rounded."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _block_means(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """(H // 4, W // 4), levels of 255: means of green over blocks, a strip at a time."""
    height, width = (length // _BLOCK for length in pixels.shape[:2])
    green = pixels[: height * _BLOCK, : width * _BLOCK, 1].reshape(height, _BLOCK, width, _BLOCK)
    means: NDArray[np.float32] = green.mean(axis=(1, 3), dtype=np.float32)
    return means * np.float32(255 / np.iinfo(pixels.dtype).max)

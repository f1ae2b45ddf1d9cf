"""What a camera does to the light of a scene: the curve, the noise of its sensor, JPEG.

Pictures are (H, W, 3), float32, [0, 1], sRGB-encoded or linear light as the names say.
"""

import io
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, special

Floats = NDArray[np.float32]

_GREY = 0.21404  # linear light of the sRGB-encoded 0.5, the level at which the strength of noise is told
_READ = 0.05  # share of the read noise in the variance at that level; shot noise is the rest
_DEMOSAICED = (
    9 / 16 + 5 / 8 + 9 / 16
) / 3  # variance that bilinear interpolation leaves of white noise, mean of colours
_CROSS = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4  # green from its four neighbours
_SQUARE = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4  # red and blue from their two or four


def decode_srgb(encoded: Floats) -> Floats:
    """Linear light. Source: IEC 61966-2-1."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4).astype(np.float32)


def encode_srgb(light: Floats) -> Floats:
    """sRGB-encoded, clipped to [0, 1]. Source: IEC 61966-2-1."""
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055).astype(np.float32)


def add_camera_noise(light: Floats, sigma: float, dice: np.random.Generator) -> Floats:
    """Linear light with shot and read noise, made coarse and coloured by a bilinear demosaic of an RGGB sensor.

    Only the noise goes through the demosaic: the picture has been through one already.

    Args:
        light: (H, W, 3), linear light.
        sigma: standard deviation at mid grey in the sRGB-encoded picture, of 255.
    """
    scale = find_scale(_GREY, sigma / 255) / _DEMOSAICED**0.5
    variance = _READ + (1 - _READ) * to_mosaic(light) / _GREY
    mosaic = scale * np.sqrt(variance) * dice.standard_normal(light.shape[:2])
    return light + demosaic(mosaic)


def find_scale(grey: float, sigma: float) -> float:
    """The deviation in linear light that looks like `sigma` on an sRGB-encoded grey: strong noise sees the curve bend.

    Args:
        grey: linear light.
        sigma: in the range [0, 1].
    """
    scales = np.linspace(0, 0.3, 61)
    parts = special.ndtri((np.arange(200) + 0.5) / 200)
    seen = encode_srgb((grey + scales[:, None] * parts).astype(np.float32)).std(1)
    return float(np.interp(sigma, seen, scales))


def to_mosaic(picture: Floats) -> Floats:
    """(H, W): one colour per photosite, red at even rows and columns."""
    mosaic = picture[..., 1].copy()
    mosaic[::2, ::2] = picture[::2, ::2, 0]
    mosaic[1::2, 1::2] = picture[1::2, 1::2, 2]
    return mosaic


def demosaic(mosaic: NDArray[np.float64]) -> Floats:
    """(H, W, 3): all three colours, each interpolated from its own photosites."""
    red, blue = np.zeros_like(mosaic), np.zeros_like(mosaic)
    red[::2, ::2], blue[1::2, 1::2] = mosaic[::2, ::2], mosaic[1::2, 1::2]
    planes = ((red, _SQUARE), (mosaic - red - blue, _CROSS), (blue, _SQUARE))
    return np.stack([ndimage.convolve(plane, weights, mode="mirror") for plane, weights in planes], -1).astype(
        np.float32
    )


def through_jpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """The picture after it was saved as JPEG with halved colours."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=2)
    return np.asarray(Image.open(buffer))


def read_photo(path: Path) -> Floats:
    """sRGB-encoded."""
    with Image.open(path) as photo:
        return np.asarray(photo.convert("RGB")).astype(np.float32) / np.float32(255)


def to_pixels(encoded: Floats) -> NDArray[np.uint8]:
    """8 bits, rounded."""
    return (encoded * 255).round().clip(0, 255).astype(np.uint8)


def write_pair(out: Path, name: str, blurry: NDArray[np.uint8], sharp: NDArray[np.uint8]) -> None:
    """OUT/blur/NAME.png and OUT/sharp/NAME.png."""
    for folder, pixels in (("blur", blurry), ("sharp", sharp)):
        (out / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(out / folder / f"{name}.png")


def dice_for(*names: object) -> np.random.Generator:
    """Random numbers that depend on these names alone, not on the order of the work."""
    return np.random.default_rng(zlib.crc32("/".join(map(str, names)).encode()))

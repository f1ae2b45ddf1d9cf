"""The examples' sharp photos, blurred in a known way."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples/sharp"
Kernel = NDArray[np.float64]


def scene(name: str = "coffee") -> NDArray[np.uint8]:
    """(H, W, 3)."""
    with Image.open(EXAMPLES / f"{name}.jpg") as photo:
        return np.asarray(photo.convert("RGB"))


def line(length: float, degrees: float) -> Kernel:
    """A straight motion, against the clock from the side."""
    reach = math.ceil(length / 2) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for step in np.linspace(-length / 2, length / 2, 400):
        x, y = reach + step * math.cos(math.radians(degrees)), reach - step * math.sin(math.radians(degrees))
        left, top = math.floor(x), math.floor(y)
        for row, share in ((top, 1 - y + top), (top + 1, y - top)):
            kernel[row, left] += share * (1 - x + left)
            kernel[row, left + 1] += share * (x - left)
    return kernel / kernel.sum()


def disc(diameter: float) -> Kernel:
    """A lens out of focus."""
    reach = math.ceil(diameter / 2) + 1
    place = np.arange(-reach, reach + 1)
    kernel = ((diameter / 2 + 0.5) - np.hypot(place, place[:, None])).clip(0, 1)
    return kernel / kernel.sum()


def blur(pixels: NDArray[np.uint8], kernel: Kernel) -> NDArray[np.uint8]:
    """In light of gamma 2.2; borders are mirrored."""
    reach = kernel.shape[0] // 2
    light = np.pad((pixels / 255) ** 2.2, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    size = [light.shape[0] + 2 * reach, light.shape[1] + 2 * reach]
    spectrum = np.fft.rfft2(light, size, (0, 1)) * np.fft.rfft2(kernel, size)[..., None]
    height, width = pixels.shape[:2]
    blurred = np.fft.irfft2(spectrum, size, (0, 1))[2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width]
    return (blurred.clip(0, 1) ** (1 / 2.2) * 255).round().astype(np.uint8)


def portrait() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The sharp scene in an oval before another one out of focus, (H, W, 3); and where the oval is, (H, W)."""
    before = scene()
    height, width = before.shape[:2]
    behind = np.asarray(Image.fromarray(blur(scene("astronaut"), disc(14))).resize((width, width)))[:height]
    y, x = np.mgrid[:height, :width]
    oval = ((y / height - 0.55) / 0.35) ** 2 + ((x / width - 0.5) / 0.22) ** 2 < 1
    return np.where(oval[..., None], before, behind), oval


def save(pixels: NDArray[np.uint8], path: str) -> Path:
    """As PNG or what the suffix says; its folder is made."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(place)
    return place

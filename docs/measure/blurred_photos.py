"""Photos blurred in a known way: motion of a hand or along a line, a lens out of focus, or nothing at all.

For fitting and for measuring `deblur inspect`. Luma only, float32; everything depends on the photo's name and a number.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from camera import Floats, dice_for, through_jpeg
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, signal

from deblur_cli.training.blur_synthesis import draw_shake_kernels
from deblur_cli.training.dice import Dice
from deblur_cli.training.hand_paths import REACH, draw_hand_path, splat, to_kernels

HELD_OUT = 4  # every fourth photo is for measuring only
_SUFFIXES = {".webp", ".jpg", ".jpeg", ".png"}


@dataclass(frozen=True, slots=True)
class Blur:
    """What was done to a photo.

    Attributes:
        kind: "sharp", "motion" or "defocus".
        length: of a motion the diagonal of the bounding box of its path, of a lens out of focus the diameter of its
            disc, in pixels.
        kernel: (K, K), sums to 1; None for a sharp photo.
    """

    kind: str
    length: float = 0.0
    kernel: Floats | None = None

    @property
    def axis(self) -> tuple[float, float, float]:
        """Direction in radians, against the clock from the side; spread along it in pixels; share that is across."""
        assert self.kernel is not None
        place = np.arange(self.kernel.shape[0]) - self.kernel.shape[0] // 2
        x, y = np.meshgrid(place, -place)
        points = np.stack((x.ravel(), y.ravel()))
        weights = self.kernel.ravel() / self.kernel.sum()
        points = points - (points * weights).sum(1, keepdims=True)
        values, vectors = np.linalg.eigh((points * weights) @ points.T)
        angle = math.atan2(vectors[1, 1], vectors[0, 1]) % math.pi
        return angle, math.sqrt(12 * max(values[1], 0)), math.sqrt(max(values[0], 0) / max(values[1], 1e-9))


def find_photos(folder: Path, *, held_out: bool) -> list[Path]:
    """Photos below a folder for measuring, or the others for fitting: by a number made of the name alone."""
    photos = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in _SUFFIXES]
    return [path for path in photos if (dice_for(path.stem, "part").integers(HELD_OUT) == 0) == held_out]


def read_luma(path: Path) -> Floats:
    """(H, W), sRGB-encoded, [0, 1]."""
    with Image.open(path) as photo:
        pixels = np.asarray(photo.convert("RGB"), np.float32) / 255
    return pixels @ np.array([0.299, 0.587, 0.114], np.float32)


def is_crisp(luma: Floats) -> bool:
    """Whether its best places have detail down to the pixel; some photos of every collection are soft."""
    return fine_share(luma) > 0.15


def fine_share(luma: Floats) -> float:
    """Energy of differences of neighbours over that of differences four pixels wide, in the tenth of best blocks."""
    fine = blocks_of(luma - ndimage.gaussian_filter(luma, 0.8))
    wide = blocks_of(ndimage.gaussian_filter(luma, 0.8) - ndimage.gaussian_filter(luma, 4))
    busy = wide >= np.quantile(wide, 0.7)
    return float(np.quantile((fine / (wide + 1e-5))[busy], 0.9))


def blocks_of(plane: Floats, side: int = 32) -> NDArray[np.float64]:
    """Mean squares of blocks."""
    height, width = (length // side * side for length in plane.shape)
    return (plane[:height, :width].astype(np.float64) ** 2).reshape(height // side, side, -1, side).mean((1, 3))


def draw_motion(length: float, seed: int, manner: str) -> Blur:
    """A motion of this length: "hand" and "shake" are the paths of the training's synthesis, "line" is straight."""
    dice = Dice(torch.Generator().manual_seed(seed))
    if manner == "hand":
        path = draw_hand_path(torch.tensor([length]), dice)
        kernel = to_kernels(path, 2 * math.ceil(length * REACH) + 3)[0].numpy()
    elif manner == "shake":
        kernel = draw_shake_kernels(1, length, dice)[0].numpy()
    else:
        angle, half = dice.number(0, math.pi), length / 2
        steps = torch.linspace(-half, half, 8 * math.ceil(length) + 1)
        path = torch.stack((steps * math.cos(angle), -steps * math.sin(angle)))[None]
        kernel = splat(path, 2 * math.ceil(half) + 3)[0].numpy()
    return Blur("motion", length, kernel)


def draw_disc(diameter: float) -> Blur:
    """A lens out of focus."""
    reach = math.ceil(diameter / 2) + 1
    fine = np.arange((2 * reach + 1) * 4) / 4 - reach - 0.375
    inside = (fine[:, None] ** 2 + fine**2 <= (diameter / 2) ** 2).astype(np.float32)
    kernel = inside.reshape(2 * reach + 1, 4, -1, 4).mean((1, 3))
    return Blur("defocus", diameter, kernel / kernel.sum())


def expose(luma: Floats, blur: Blur, softness: float, seed: int) -> Floats:
    """The photo as light moved over the sensor, with highlights brighter than white; same size, borders mirrored.

    Args:
        softness: standard deviation in pixels of what lens and sensor take from every photo.
    """
    dice = np.random.default_rng(seed)
    gamma = dice.uniform(1.8, 2.4)
    light = luma.clip(0, 1) ** gamma
    if dice.uniform() < 0.5:
        light = light * (1 + dice.uniform(0.5, 4) * ((light - 0.92) / 0.08).clip(0, 1))
    if blur.kernel is not None:
        reach = blur.kernel.shape[0] // 2
        light = signal.fftconvolve(np.pad(light, reach, mode="reflect"), blur.kernel, mode="valid")
    if softness:
        light = ndimage.gaussian_filter(light, softness)
    return (light.clip(0, 1) ** (1 / gamma)).astype(np.float32)


def photograph(luma: Floats, sigma: float, quality: int | None, seed: int) -> Floats:
    """With noise of this deviation at mid grey, of 255, stronger in the light; rounded to 8 bits, perhaps as JPEG."""
    dice = np.random.default_rng(seed)
    noise = sigma / 255 * np.sqrt(0.3 + 1.4 * luma) * dice.standard_normal(luma.shape)
    pixels = ((luma + noise) * 255).round().clip(0, 255).astype(np.uint8)
    if quality is not None:
        pixels = through_jpeg(np.repeat(pixels[..., None], 3, 2), quality)[..., 0]
    return pixels.astype(np.float32) / 255

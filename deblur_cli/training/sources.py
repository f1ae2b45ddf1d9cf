"""Where pairs of blurred and sharp patches come from: synthesis on photos, averages of frames, real pairs, a mixture.

Pictures are held in memory as 8-bit RGB.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli.training.blur_synthesis import margin, synthesise
from deblur_cli.training.camera import Shot, photograph, resize
from deblur_cli.training.dice import Dice
from deblur_cli.training.recipe import DataConfig
from deblur_cli.training.synthesis_config import SynthesisConfig

Rgb8 = NDArray[np.uint8]  # (H, W, 3)


class Source(Protocol):
    """Something that gives pairs of patches."""

    def draw(self, count: int, size: int) -> tuple[Tensor, ...]:
        """Blurred and sharp patches, (count, 3, size, size), [0, 1], on the device of the source."""


@dataclass(frozen=True, slots=True)
class Generators:
    """The two random generators of a source: places on the host, pixels on the device."""

    places: np.random.Generator
    pixels: torch.Generator

    @classmethod
    def seeded(cls, seed: int, device: torch.device) -> "Generators":
        """Both from one seed."""
        return cls(np.random.default_rng(seed), torch.Generator(device).manual_seed(seed))


class PhotoSource:
    """Sharp photos, blurred by synthesis."""

    def __init__(
        self, photos: Sequence[Rgb8], data: DataConfig, synthesis: SynthesisConfig, generators: Generators
    ) -> None:
        self._photos, self._data, self._synthesis, self._generators = photos, data, synthesis, generators

    def draw(self, count: int, size: int) -> tuple[Tensor, Tensor]:
        blurred = self._blurred_side(size)
        side = blurred + 2 * margin(self._synthesis)
        photos = self._photos if self._data.enlarge_photos else self._at_least(side)
        patches = [self._sharp_patch(photos, side) for _ in range(count)]
        return synthesise(torch.stack(patches), self._generators.pixels, self._synthesis, size)

    def _blurred_side(self, size: int) -> int:
        """The side before the camera's resizing, if there is one."""
        places, synthesis = self._generators.places, self._synthesis
        if not synthesis.resize_share or places.random() >= synthesis.resize_share:
            return size
        return round(size / places.uniform(synthesis.min_resize, 1.0))

    def _at_least(self, side: int) -> Sequence[Rgb8]:
        """The photos that fill a patch; all if none does."""
        return [photo for photo in self._photos if min(photo.shape[:2]) >= side] or self._photos

    def _sharp_patch(self, photos: Sequence[Rgb8], side: int) -> Tensor:
        places = self._generators.places
        photo = photos[int(places.integers(len(photos)))]
        fits = min(photo.shape[:2])
        wanted = min(round(side / places.uniform(self._data.min_scale, 1.0)), fits)
        window = _draw_rich_window(photo, wanted, places)
        return _resize(_to_tensor(photo[window], self._generators.pixels.device)[None], side)[0]


class FrameSource:
    """High-speed frames, blurred by averaging consecutive ones; the middle frame is the sharp one."""

    def __init__(
        self, sequences: Sequence[Sequence[Rgb8]], data: DataConfig, synthesis: SynthesisConfig, generators: Generators
    ) -> None:
        self._sequences, self._data, self._synthesis, self._generators = sequences, data, synthesis, generators

    def draw(self, count: int, size: int) -> tuple[Tensor, Tensor]:
        drawn = torch.stack([self._pair(size) for _ in range(count)])
        return drawn[:, 0], drawn[:, 1]

    def _pair(self, size: int) -> Tensor:
        places, data = self._generators.places, self._data
        frames = self._sequences[int(places.integers(len(self._sequences)))]
        half = int(places.integers(data.min_frames // 2, data.max_frames // 2 + 1))
        middle = int(places.integers(half, len(frames) - half))
        window = _draw_rich_window(frames[middle], round(size / places.uniform(data.min_scale, 1.0)), places)
        stack = np.stack([frame[window] for frame in frames[middle - half : middle + half + 1]])
        gamma = 1.0 if places.random() < 0.5 else 2.2
        light = (torch.from_numpy(stack).to(self._generators.pixels.device).float() / 255) ** gamma
        blurry = light.mean(0) ** (1 / gamma)
        pair = torch.stack((blurry, light[half] ** (1 / gamma))).permute(0, 3, 1, 2)
        return _finish(pair, size, self._generators, self._synthesis)


class PairSource:
    """Real pairs, cropped."""

    def __init__(
        self, pairs: Sequence[tuple[Rgb8, Rgb8]], data: DataConfig, synthesis: SynthesisConfig, generators: Generators
    ) -> None:
        self._pairs, self._data, self._synthesis, self._generators = pairs, data, synthesis, generators

    def draw(self, count: int, size: int) -> tuple[Tensor, Tensor]:
        drawn = torch.stack([self._pair(size) for _ in range(count)])
        return drawn[:, 0], drawn[:, 1]

    def _pair(self, size: int) -> Tensor:
        places = self._generators.places
        blurry, sharp = self._pairs[int(places.integers(len(self._pairs)))]
        wanted = round(size / places.uniform(self._data.min_scale, 1.0))
        window = _draw_rich_window(sharp, wanted, places)
        device = self._generators.pixels.device
        pair = torch.stack([_to_tensor(image[window], device) for image in (blurry, sharp)])
        return _finish(pair, size, self._generators, self._synthesis)


class Mix:
    """Several sources as one: every draw is from one of them, by its share."""

    def __init__(self, sources: Sequence[tuple[float, Source]], places: np.random.Generator) -> None:
        self._sources, self._places = [source for _, source in sources], places
        shares = np.array([share for share, _ in sources])
        self._shares = shares / shares.sum()

    def draw(self, count: int, size: int) -> tuple[Tensor, ...]:
        """See `Source.draw`."""
        source = self._sources[self._places.choice(len(self._sources), p=self._shares)]
        return source.draw(count, size)


def _gradient_energy(crop: Rgb8) -> float:
    green = crop[::2, ::2, 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean())


def _draw_window(image: Rgb8, side: int, places: np.random.Generator) -> tuple[slice, slice]:
    side = min(side, *image.shape[:2])
    top = int(places.integers(image.shape[0] - side + 1))
    left = int(places.integers(image.shape[1] - side + 1))
    return slice(top, top + side), slice(left, left + side)


def _draw_rich_window(image: Rgb8, side: int, places: np.random.Generator) -> tuple[slice, slice]:
    """The one with more detail out of two: flat patches teach little."""
    windows = [_draw_window(image, side, places) for _ in range(2)]
    return max(windows, key=lambda window: _gradient_energy(image[window]))


def _to_tensor(pixels: Rgb8, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(2, 0, 1).float() / 255


def _finish(pair: Tensor, size: int, generators: Generators, synthesis: SynthesisConfig) -> Tensor:
    """A blurred and a sharp picture, (2, 3, h, w), in the size that is asked for, by chance through the camera."""
    if not synthesis.real_camera_share or generators.places.random() >= synthesis.real_camera_share:
        return _resize(pair, size)
    if generators.places.random() >= synthesis.resize_share:  # else the camera takes it in its own size
        pair = _resize(pair, size)
    shot = Shot(torch.zeros(1, 1, 1, 1, device=pair.device), size)
    return torch.cat(photograph(pair[:1], pair[1:], Dice(generators.pixels), synthesis, shot))


def _resize(pictures: Tensor, side: int) -> Tensor:
    return pictures if pictures.shape[-1] == side else resize(pictures, side)

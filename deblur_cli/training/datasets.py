"""Training folders -> pairs of blurred and sharp patches.

Layout, each part optional:  `photos/**` sharp photos · `frames/SEQUENCE/*` consecutive sharp high-speed frames ·
`pairs/SEQUENCE/{blur,sharp}/*` real pairs. Pictures are held in memory as 8-bit RGB.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from deblur_cli.errors import InputError
from deblur_cli.training.blur_synthesis import SynthesisConfig, margin, synthesise
from deblur_cli.training.recipe import DataConfig
from deblur_cli.weights import hash_file

Pixels = NDArray[np.uint8]  # (H, W, 3)
_SUFFIXES = {".webp", ".jpg", ".jpeg", ".png", ".tif", ".tiff"}


class Source(Protocol):
    """Something that gives pairs of patches."""

    def draw(self, count: int, size: int) -> tuple[Tensor, ...]:
        """Blurred and sharp patches, (count, 3, size, size), [0, 1], on the device of the source."""


@dataclass(frozen=True, slots=True)
class Luck:
    """The two random generators of a source: places on the host, pixels on the device."""

    places: np.random.Generator
    pixels: torch.Generator

    @classmethod
    def seeded(cls, seed: int, device: torch.device) -> "Luck":
        """Both from one seed."""
        return cls(np.random.default_rng(seed), torch.Generator(device).manual_seed(seed))


class PhotoSource:
    """Sharp photos, blurred by synthesis."""

    def __init__(self, photos: Sequence[Pixels], data: DataConfig, synthesis: SynthesisConfig, luck: Luck) -> None:
        self._photos, self._data, self._synthesis, self._luck = photos, data, synthesis, luck

    def draw(self, count: int, size: int) -> tuple[Tensor, Tensor]:
        side = size + 2 * margin(self._synthesis)
        patches = [self._sharp_patch(side) for _ in range(count)]
        return synthesise(torch.stack(patches), self._luck.pixels, self._synthesis)

    def _sharp_patch(self, side: int) -> Tensor:
        places = self._luck.places
        photo = self._photos[int(places.integers(len(self._photos)))]
        fits = min(photo.shape[:2])
        wanted = min(round(side / places.uniform(self._data.min_scale, 1.0)), fits)
        window = _draw_rich_window(photo, wanted, places)
        return _resize(_to_tensor(photo[window], self._luck.pixels.device), side)


class FrameSource:
    """High-speed frames, blurred by averaging consecutive ones; the middle frame is the sharp one."""

    def __init__(self, sequences: Sequence[Sequence[Pixels]], data: DataConfig, luck: Luck) -> None:
        self._sequences, self._data, self._luck = sequences, data, luck

    def draw(self, count: int, size: int) -> tuple[Tensor, Tensor]:
        pairs = [self._pair(size) for _ in range(count)]
        return torch.stack([blurry for blurry, _ in pairs]), torch.stack([sharp for _, sharp in pairs])

    def _pair(self, size: int) -> tuple[Tensor, Tensor]:
        places, data = self._luck.places, self._data
        frames = self._sequences[int(places.integers(len(self._sequences)))]
        half = int(places.integers(data.min_frames // 2, data.max_frames // 2 + 1))
        middle = int(places.integers(half, len(frames) - half))
        window = _draw_rich_window(frames[middle], round(size / places.uniform(data.min_scale, 1.0)), places)
        stack = np.stack([frame[window] for frame in frames[middle - half : middle + half + 1]])
        gamma = 1.0 if places.random() < 0.5 else 2.2
        light = (torch.from_numpy(stack).to(self._luck.pixels.device).float() / 255) ** gamma
        blurry = light.mean(0) ** (1 / gamma)
        pair = torch.stack((blurry, light[half] ** (1 / gamma))).permute(0, 3, 1, 2)
        first, second = functional.interpolate(pair, size=(size, size), mode="bilinear", antialias=True).unbind(0)
        return first, second


class PairSource:
    """Real pairs, cropped."""

    def __init__(self, pairs: Sequence[tuple[Pixels, Pixels]], data: DataConfig, luck: Luck) -> None:
        self._pairs, self._data, self._luck = pairs, data, luck

    def draw(self, count: int, size: int) -> tuple[Tensor, Tensor]:
        drawn = torch.stack([self._pair(size) for _ in range(count)])
        return drawn[:, 0], drawn[:, 1]

    def _pair(self, size: int) -> Tensor:
        places = self._luck.places
        blurry, sharp = self._pairs[int(places.integers(len(self._pairs)))]
        wanted = round(size / places.uniform(self._data.min_scale, 1.0))
        window = _draw_rich_window(sharp, wanted, places)
        device = self._luck.pixels.device
        return torch.stack([_resize(_to_tensor(image[window], device), size) for image in (blurry, sharp)])


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


class PatchPool:
    """A pool of ready pairs, or pairs with more pictures of them.

    Each batch replaces a few and draws from all, turned anew. Synthesis costs as much as a training step, so each
    patch serves `data.reuse` times on average.

    Args:
        side: of the patches in the pool; None for one that leaves each crop room to move.
    """

    def __init__(
        self,
        sources: Sequence[tuple[float, Source]],
        data: DataConfig,
        patch: int,
        luck: Luck,
        side: int | None = None,
    ) -> None:
        self._mix = Mix(sources, luck.places)
        self._data, self._patch, self._luck = data, patch, luck
        self._side = side or -(-patch * 7 // 5 // 16) * 16
        self._pool = torch.empty(0, dtype=torch.uint8, device=luck.pixels.device)  # made for the first patches
        self._filled = 0
        self._next = 0

    def batches(self, batch: int) -> Iterator[tuple[Tensor, ...]]:
        """Endless batches of what the sources draw, each (batch, 3, patch, patch), [0, 1]."""
        owed = 4.0 * batch
        while True:
            owed += batch / self._data.reuse
            while owed >= 4:
                self._refill(4)
                owed -= 4
            yield self._draw(batch)

    def _refill(self, count: int) -> None:
        patches = torch.stack(self._mix.draw(count, self._side), 1)  # (count, pictures, 3, side, side)
        if not len(self._pool):
            self._pool = self._pool.new_empty(self._data.pool, *patches.shape[1:])
        count = min(count, self._data.pool - self._next)
        self._pool[self._next : self._next + count] = (patches[:count] * 255).round().clamp(0, 255).byte()
        self._filled = max(self._filled, self._next + count)
        self._next = (self._next + count) % self._data.pool

    def _draw(self, batch: int) -> tuple[Tensor, ...]:
        places = self._luck.places
        drawn = []
        for index in places.integers(self._filled, size=batch):
            top, left = places.integers(self._side - self._patch + 1, size=2)
            pair = self._pool[index, :, :, top : top + self._patch, left : left + self._patch]
            pair = pair.rot90(int(places.integers(4)), (2, 3))
            drawn.append(pair.flip(3) if places.random() < 0.5 else pair)
        return (torch.stack(drawn).float() / 255).unbind(1)


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Everything found under a training folder, split into training and validation."""

    photos: list[Pixels]
    sequences: list[list[Pixels]]
    pairs: list[tuple[Pixels, Pixels]]
    held_out_photos: list[Pixels]
    held_out_pairs: list[tuple[Pixels, Pixels]]

    def sources(self, data: DataConfig, synthesis: SynthesisConfig, luck: Luck) -> list[tuple[float, Source]]:
        """Share and source for all that is there.

        Raises:
            InputError: nothing is there, or all shares of what is there are zero.
        """
        found: list[tuple[float, Source]] = []
        if self.photos and data.photo_share:
            found.append((data.photo_share, PhotoSource(self.photos, data, synthesis, luck)))
        if self.sequences and data.frame_share:
            found.append((data.frame_share, FrameSource(self.sequences, data, luck)))
        if self.pairs and data.pair_share:
            found.append((data.pair_share, PairSource(self.pairs, data, luck)))
        if not found:
            raise InputError("no training pictures: expected photos/, frames/SEQUENCE/ or pairs/SEQUENCE/{blur,sharp}")
        return found


@dataclass(frozen=True, slots=True)
class TrainingFolder:
    """A training folder that is read only if its pictures are needed.

    Attributes:
        config: what is kept of it, and what is held out.
    """

    root: Path
    config: DataConfig

    def read(self) -> TrainingData:
        """All of it; see `read_training_data`."""
        return read_training_data(self.root, self.config)

    def fingerprint(self) -> str:
        """Hex sha256 of the files' places and bytes: what is in the pictures, without decoding one."""
        digest = hashlib.sha256()
        for path in _find_pictures(self.root):
            digest.update(f"{path.relative_to(self.root).as_posix()} {hash_file(path)}\n".encode())
        return digest.hexdigest()


def find_training_data(root: Path, data: DataConfig) -> TrainingFolder:
    """A folder that may be read later.

    Raises:
        InputError: `root` is no folder.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such training folder")
    return TrainingFolder(root, data)


def read_training_data(root: Path, data: DataConfig) -> TrainingData:
    """Read all pictures under `root` into memory and hold some out.

    Raises:
        InputError: `root` is no folder.
    """
    find_training_data(root, data)
    photos = _drop_soft([_read(path) for path in _find_pictures(root / "photos")], data.soft_share)
    sequences = [[_read(p) for p in _find_pictures(folder)] for folder in _folders(root / "frames")]
    pairs: list[tuple[Pixels, Pixels]] = []
    kept: list[tuple[Pixels, Pixels]] = []
    for folder in _folders(root / "pairs"):
        found = [(_read(p), _read(folder / "sharp" / p.name)) for p in _find_pictures(folder / "blur")]
        cut = len(found) - data.held_out_pairs
        pairs, kept = pairs + found[:cut], kept + found[cut:]
    every = data.held_out_photos
    return TrainingData(
        photos=[photo for i, photo in enumerate(photos) if i % every],
        sequences=[frames for frames in sequences if len(frames) >= data.max_frames],
        pairs=pairs,
        held_out_photos=photos[::every],
        held_out_pairs=kept,
    )


def _find_pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _read(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))  # a copy that torch may wrap


def _drop_soft(photos: list[Pixels], share: float) -> list[Pixels]:
    """Without the least sharp ones: sharpness is the gradient energy of the richest part, per unit of contrast."""
    scores = [_sharpness(photo) for photo in photos]
    limit = np.quantile(scores, share) if scores else 0.0
    return [photo for photo, score in zip(photos, scores, strict=True) if score >= limit]


def _sharpness(photo: Pixels) -> float:
    grey = photo.mean(2)
    edges = np.abs(np.diff(grey, axis=1))
    return float(np.quantile(edges, 0.99) / (grey.std() + 8))


def _gradient_energy(crop: Pixels) -> float:
    green = crop[::2, ::2, 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=0)).mean() + np.abs(np.diff(green, axis=1)).mean())


def _draw_window(image: Pixels, side: int, places: np.random.Generator) -> tuple[slice, slice]:
    side = min(side, *image.shape[:2])
    top = int(places.integers(image.shape[0] - side + 1))
    left = int(places.integers(image.shape[1] - side + 1))
    return slice(top, top + side), slice(left, left + side)


def _draw_rich_window(image: Pixels, side: int, places: np.random.Generator) -> tuple[slice, slice]:
    """The one with more detail out of two: flat patches teach little."""
    windows = [_draw_window(image, side, places) for _ in range(2)]
    return max(windows, key=lambda window: _gradient_energy(image[window]))


def _to_tensor(pixels: Pixels, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(2, 0, 1).float() / 255


def _resize(patch: Tensor, side: int) -> Tensor:
    if patch.shape[-1] == side:
        return patch
    resized = functional.interpolate(patch[None], size=(side, side), mode="bilinear", antialias=True)
    return resized[0]

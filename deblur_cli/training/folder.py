"""Training folders, read into memory and split into training and validation.

Layout, each part optional:  `photos/**` sharp photos · `frames/SEQUENCE/*` consecutive sharp high-speed frames, in the
order of the numbers in their names · `pairs/SEQUENCE/{blur,sharp}/*` real pairs of the same name up to the suffix.
Hidden files are not looked at, nor are formats that need an extra. Pictures are held in memory as 8-bit RGB.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deblur_cli.errors import InputError, PhotoError
from deblur_cli.image_io import find_format, read_photo, writable_formats
from deblur_cli.image_io.pixels import round_to_8
from deblur_cli.system.files import hash_file, natural_key
from deblur_cli.training.recipe import DataConfig
from deblur_cli.training.sources import FrameSource, Generators, PairSource, PhotoSource, Rgb8, Source
from deblur_cli.training.synthesis_config import SynthesisConfig


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Everything found under a training folder, split into training and validation."""

    photos: list[Rgb8]
    sequences: list[list[Rgb8]]
    pairs: list[tuple[Rgb8, Rgb8]]
    held_out_photos: list[Rgb8]
    held_out_pairs: list[tuple[Rgb8, Rgb8]]

    def sources(
        self, data: DataConfig, synthesis: SynthesisConfig, generators: Generators
    ) -> list[tuple[float, Source]]:
        """Share and source for all that is there.

        Raises:
            InputError: nothing is there, or all shares of what is there are zero.
        """
        found: list[tuple[float, Source]] = []
        if self.photos and data.photo_share:
            found.append((data.photo_share, PhotoSource(self.photos, data, synthesis, generators)))
        if self.sequences and data.frame_share:
            found.append((data.frame_share, FrameSource(self.sequences, data, synthesis, generators)))
        if self.pairs and data.pair_share:
            found.append((data.pair_share, PairSource(self.pairs, data, synthesis, generators)))
        if not found:
            raise InputError("no training pictures: expected photos/, frames/SEQUENCE/ or pairs/SEQUENCE/{blur,sharp}")
        return found

    def held_out(self) -> "TrainingData":
        """The pictures that are never trained on, in the places of the others.

        Raises:
            InputError: there are none.
        """
        if not self.held_out_photos and not self.held_out_pairs:
            raise InputError("no pictures to validate on: put sharp photos into photos/ or pairs into pairs/SEQUENCE/")
        return replace(self, photos=self.held_out_photos, pairs=self.held_out_pairs, sequences=[])


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
        InputError: `root` is no folder, a picture cannot be read, one of a pair is missing, or the two of a pair or the
            frames of a sequence differ in size.
    """
    find_training_data(root, data)
    photos = _drop_soft([_read(path) for path in _find_pictures(root / "photos")], data.soft_share)
    sequences = [_read_alike(_in_order(folder)) for folder in _folders(root / "frames")]
    pairs: list[tuple[Rgb8, Rgb8]] = []
    kept: list[tuple[Rgb8, Rgb8]] = []
    for folder in _folders(root / "pairs"):
        found = _read_pairs(folder)
        cut = max(len(found) - data.held_out_pairs, (len(found) + 1) // 2)
        pairs, kept = pairs + found[:cut], kept + found[cut:]
    every = data.held_out_photos
    return TrainingData(
        photos=[photo for i, photo in enumerate(photos) if not every or i % every],
        sequences=[frames for frames in sequences if len(frames) >= data.max_frames],
        pairs=pairs,
        held_out_photos=photos[::every] if every else [],
        held_out_pairs=kept,
    )


def _find_pictures(folder: Path) -> list[Path]:
    known = writable_formats().values()
    found = (path for path in folder.rglob("*") if find_format(path) in known)
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _in_order(folder: Path) -> list[Path]:
    """Pictures as they were taken: frame_2 before frame_10."""
    return sorted(_find_pictures(folder), key=lambda path: natural_key(path.relative_to(folder).as_posix()))


def _read_pairs(folder: Path) -> list[tuple[Rgb8, Rgb8]]:
    sharp: dict[Path, list[Path]] = {}
    for path in _find_pictures(folder / "sharp"):
        name = path.relative_to(folder / "sharp")
        sharp.setdefault(name.with_suffix(""), []).append(name)
    pairs = []
    for path in _in_order(folder / "blur"):
        name = path.relative_to(folder / "blur")
        found = sharp.get(name.with_suffix(""), [])
        found = [name] if name in found else found
        if len(found) != 1:
            raise InputError(f"{path}: has {len(found) or 'no'} sharp pictures {folder / 'sharp' / name.stem}.*")
        blurry, truth = _read_alike([path, folder / "sharp" / found[0]])
        pairs.append((blurry, truth))
    return pairs


def _read_alike(paths: Sequence[Path]) -> list[Rgb8]:
    """Pictures that must have one size."""
    pictures = [_read(path) for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            raise InputError(f"{path}: is {_size(picture)}, but {paths[0]} is {_size(pictures[0])}")
    return pictures


def _size(picture: Rgb8) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _read(path: Path) -> Rgb8:
    try:
        return round_to_8(read_photo(path).pixels)
    except PhotoError as fault:
        raise InputError(str(fault)) from fault


def _drop_soft(photos: list[Rgb8], share: float) -> list[Rgb8]:
    """Without the least sharp ones: sharpness is the gradient energy of the richest part, per unit of contrast."""
    scores = [_sharpness(photo) for photo in photos]
    limit = np.quantile(scores, share) if scores else 0.0
    return [photo for photo, score in zip(photos, scores, strict=True) if score >= limit]


def _sharpness(photo: Rgb8) -> float:
    grey = photo.mean(2)
    edges = np.abs(np.diff(grey, axis=1))
    return float(np.quantile(edges, 0.99) / (grey.std() + 8))

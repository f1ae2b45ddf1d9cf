"""Folders of results as `deblur run` leaves them, made without a network."""

from pathlib import Path

import numpy as np
from PIL import Image

from deblur_cli.batch.origin import read_original
from deblur_cli.batch.stamp import Stamp
from deblur_cli.image_io import write_photo

STAMP = Stamp("quick", {"expert": "ab" * 32}, {"dtype": "auto", "seed": 0})


def make_source(path: Path, seed: int = 0, size: tuple[int, int] = (64, 48)) -> Path:
    """A photo of noise in large cells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(seed).integers(0, 255, (size[1] // 8, size[0] // 8, 3), np.uint8)
    Image.fromarray(cells.repeat(8, 0).repeat(8, 1)).save(path)
    return path


def make_result(source: Path, output: Path, stamp: Stamp = STAMP, notice: str = "") -> Path:
    """A result that is stamped as one of this photo, and a bit brighter."""
    photo, origin = read_original(source)
    file_format = {".png": "png", ".jpg": "jpeg", ".tif": "tiff"}[output.suffix]
    told = {"notice": notice} if notice else {}
    text = stamp.text(file_format=file_format, **origin.proofs, **told)
    output.parent.mkdir(parents=True, exist_ok=True)
    photo.pixels[:] = photo.pixels // 2 + np.iinfo(photo.pixels.dtype).max // 4
    write_photo(photo, output, file_format=file_format, quality=None, stamp=text, times_of=origin.times)
    return output

"""The planes of a photo, and Pillow as the coder of the lossy formats. Knows arrays and bytes, no file."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFile

from deblur_cli.image_io import pixels
from deblur_cli.image_io.faults import BrokenPhotoError

if TYPE_CHECKING:
    from deblur_cli.image_io.photo import Photo, Pixels

_ROOM = 4  # bytes for a pixel: nothing but noise takes three at quality 100, and Pillow has a buffer for one or two. A
# JPEG with Huffman tables of its own is written at one go; what is longer than the buffer was refused as broken


def stack(photo: Photo, *, grey: bool, alpha: bool) -> Pixels:
    """(H, W, C): one or three colour channels, then alpha if there is any."""
    parts = [pixels.to_grey(photo.pixels)[..., np.newaxis] if grey else photo.pixels]
    if alpha and photo.alpha is not None:
        parts.append(photo.alpha[..., np.newaxis])
    return np.concatenate(parts, axis=2) if len(parts) > 1 else np.ascontiguousarray(parts[0])


def code(planes: Pixels, kind: str, **options: Any) -> bytes:
    """The planes as a file that Pillow calls `kind`; 16 bits are rounded to 8, never cut off.

    Raises:
        BrokenPhotoError: the coder refuses them.
    """
    planes, buffer = pixels.round_to_8(planes), BytesIO()
    if kind == "JPEG":
        room = _ROOM * planes.shape[0] * planes.shape[1]
        ImageFile.MAXBLOCK = max(ImageFile.MAXBLOCK, room)  # other threads read it, so it is not set back
    try:
        Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes).save(buffer, kind, **options)
    except (OSError, ValueError) as fault:
        raise BrokenPhotoError(f"cannot be coded as {kind} ({fault}); choose --format png") from fault
    return buffer.getvalue()

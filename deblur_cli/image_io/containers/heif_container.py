"""HEIC: its boxes are those of `bmff_container`; pillow-heif, an extra, decodes it. Read only."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from deblur_cli.image_io.containers import bmff_container
from deblur_cli.image_io.faults import BrokenPhotoError
from deblur_cli.image_io.formats import by_name

if TYPE_CHECKING:
    from pathlib import Path

    from deblur_cli.image_io.photo import Header, Pixels
read_header, read_xmp = bmff_container.read_header, bmff_container.read_xmp


def decode(path: Path, header: Header) -> tuple[Pixels, Header]:
    """uint8, or uint16 left-aligned for 10 and 12 bit; the file's own turns are applied.

    Raises:
        BrokenPhotoError: damaged, or pillow-heif is not installed.
    """
    pillow_heif = by_name("heif").load_engine()
    import numpy as np

    try:
        image = pillow_heif.open_heif(path, convert_hdr_to_8bit=False)
        bits = int(image.info.get("bit_depth", 8))
        planes: Pixels = np.array(image)  # a copy: the library's own bytes may not be written to
    except (ValueError, OSError, EOFError, RuntimeError, SyntaxError) as fault:
        reason = f"it is damaged or cut short ({fault}); copy it again from its source"
        raise BrokenPhotoError(reason) from fault
    bits = max(bits, 10) if planes.dtype == np.uint16 else 8
    return planes[..., np.newaxis] if planes.ndim == 2 else planes, replace(header, bits=bits)

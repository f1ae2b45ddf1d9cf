"""AVIF: its boxes are those of `bmff_container`; libvips reads it, Pillow writes it at 8 bit."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from deblur_cli.image_io.containers import bmff_container, plain
from deblur_cli.image_io.faults import BrokenPhotoError, TooLongError
from deblur_cli.image_io.metadata import exif

if TYPE_CHECKING:
    from deblur_cli.image_io.photo import Metadata, Photo

_QUALITY = 90
_COLOUR_BOX = b"colrnclx"
read_header, read_xmp = bmff_container.read_header, bmff_container.read_xmp
decode, check = plain.decode, plain.check


def encode(photo: Photo, quality: int | None) -> bytes:
    """Grey without alpha is stored as one channel; colour is 4:4:4."""
    from deblur_cli.image_io import coding

    grey = photo.grey and photo.alpha is None
    blob = exif.with_dpi(photo.metadata.exif, photo.metadata.dpi)
    stand_in = _stand_in(blob) if blob else b""
    coded = coding.code(
        coding.stack(photo, grey=grey, alpha=True),
        "AVIF",
        quality=_QUALITY if quality is None else quality,
        subsampling="4:0:0" if grey else "4:4:4",
        exif=stand_in,
        icc_profile=photo.metadata.icc or b"",
        xmp=photo.metadata.xmp or b"",
    )
    coded = _swap_in(coded, stand_in, blob) if blob else coded
    return _put_colour_code(coded, photo.metadata)


def _put_colour_code(coded: bytes, metadata: Metadata) -> bytes:
    """Primaries and transfer curve into the nclx box; matrix and range stay those of the coder."""
    code = next((data for kind, data in metadata.png_chunks if kind == b"cICP" and len(data) == 4), None)
    at = coded.find(_COLOUR_BOX, 0, coded.find(b"mdat"))
    if code is None or metadata.icc or at < 0:
        return coded
    at += len(_COLOUR_BOX)
    return coded[:at] + bytes([0, code[0], 0, code[1]]) + coded[at + 4 :]


def _stand_in(blob: bytes) -> bytes:
    """A blob of the same length with no tags: Pillow would rewrite the true one and so move its MakerNote."""
    if len(blob) < len(exif.EMPTY):
        raise BrokenPhotoError("its EXIF is damaged and AVIF cannot carry it; choose --format png or jpeg")
    return exif.EMPTY + hashlib.shake_128(blob).digest(len(blob) - len(exif.EMPTY))


def _swap_in(coded: bytes, stand_in: bytes, blob: bytes) -> bytes:
    if coded.count(stand_in) != 1:
        raise TooLongError("its EXIF does not fit into AVIF; choose --format png or tiff")
    return coded.replace(stand_in, blob)

"""A Photo becomes a file on disk, stamped, whole or not at all."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

from deblur_cli.errors import BackendError, PhotoError
from deblur_cli.image_io import fitting, xmp
from deblur_cli.image_io.faults import BrokenPhotoError
from deblur_cli.image_io.formats import WRITABLE_FORMATS
from deblur_cli.image_io.seal import seal
from deblur_cli.system.atomic import write_whole

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from deblur_cli.image_io.photo import Photo


def write_photo(
    photo: Photo,
    path: Path,
    *,
    file_format: str,
    quality: int | None,
    stamp: str | None,
    times_of: os.stat_result | None,
) -> None:
    """Write a photo with its metadata, atomically, over an earlier file if there is one.

    Args:
        file_format: one of WRITABLE_FORMATS. PNG and TIFF keep 16 bit; the others round to 8.
        quality: 1-100 for JPEG, WebP and AVIF; None is "as the source, never visibly worse", and 95 (AVIF:
            90) for a source of another format.
        stamp: text for the XMP property `deblur:recipe`, sealed where it has a blank for that (`seal.py`); None
            removes one that the source carried.
        times_of: of the file whose modification time the new one gets.
    Raises:
        PhotoError: the format cannot hold the photo or its metadata, or the system refuses; one line.
        BackendError: the disk is full.
    """
    if file_format not in WRITABLE_FORMATS:
        raise PhotoError(f"{path}: {file_format} cannot be written; choose --format {', '.join(WRITABLE_FORMATS)}")
    packet = photo.metadata.xmp
    packet = xmp.erase_stamp(packet) if stamp is None else xmp.merge_stamp(packet, stamp)
    from deblur_cli.image_io import encode

    try:
        content = encode.encode(replace(photo, metadata=replace(photo.metadata, xmp=packet)), file_format, quality)
    except BrokenPhotoError as fault:
        raise PhotoError(f"{path}: {fault}") from fault
    try:
        write_whole(path, seal(content), times_of)
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BackendError(f"disk full: {path} was not written; free some space and run again") from fault
        reason = fault.strerror or fault
        raise PhotoError(f"{path}: cannot be written ({reason}); check the folder and its permissions") from fault


def check_fit(photo: Photo, source: Path, *, file_format: str) -> None:
    """Before any work is done on a photo: whether `write_photo` will be able to write it.

    Raises:
        PhotoError: the format cannot hold the photo that was read from `source`; one line.
    """
    try:
        fitting.check_fit(photo, file_format)
    except BrokenPhotoError as fault:
        raise PhotoError(f"{source}: {fault}") from fault

"""A Photo becomes a file on disk, stamped, whole or not at all."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

from deblur_cli.errors import BackendError, PhotoError
from deblur_cli.image_io import fitting, formats
from deblur_cli.image_io.faults import BrokenPhotoError
from deblur_cli.image_io.metadata import xmp
from deblur_cli.image_io.seal import seal
from deblur_cli.system.files import write_whole

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
) -> bool:
    """Write a photo with its metadata, atomically, over an earlier file if there is one.

    Args:
        file_format: a format with a writer; one whose depths end at 8 bit gets 16-bit pixels rounded.
        quality: 1-100 for the lossy formats; None is "as the source, never visibly worse", and the format's own
            default for a source of another format.
        stamp: text for the XMP property `deblur:recipe`, sealed where it has a blank for that (`seal.py`); None
            removes one that the source carried.
        times_of: of the file whose modification time the new one gets.
    Returns:
        Whether the stamp is in the file; it is not where the photo's own XMP is damaged, which stays as it is.
    Raises:
        PhotoError: the format cannot hold the photo or its metadata, or the system refuses; one line.
        BackendError: the disk is full.
    """
    known = formats.writable_formats().values()
    if file_format not in known:
        raise PhotoError(f"{path}: {file_format} cannot be written; choose --format {', '.join(known)}")
    packet = photo.metadata.xmp
    packet = xmp.erase_stamp(packet) if stamp is None else xmp.merge_stamp(packet, stamp)
    photo = replace(photo, metadata=replace(photo.metadata, xmp=packet))
    check_fit(photo, path, file_format=file_format)
    try:
        photo = replace(photo, metadata=fitting.fit_metadata(photo.metadata, file_format))
        content = formats.by_name(file_format).container.encode(photo, quality)
    except BrokenPhotoError as fault:
        raise PhotoError(f"{path}: {fault}") from fault
    _write_whole(path, seal(content), times_of)
    return stamp is not None and xmp.find_stamp(packet) == stamp


def check_fit(photo: Photo, source: Path, *, file_format: str) -> None:
    """Before any work is done on a photo: whether `write_photo` will be able to write it.

    Raises:
        PhotoError: the format cannot hold the photo that was read from `source`; one line.
    """
    try:
        fitting.check_fit(photo, file_format)
    except BrokenPhotoError as fault:
        raise PhotoError(f"{source}: {fault}") from fault


def _write_whole(path: Path, content: bytes, times_of: os.stat_result | None) -> None:
    try:
        write_whole(path, content, times_of)
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BackendError(f"disk full: {path} was not written; free some space and run again") from fault
        reason = fault.strerror or fault
        raise PhotoError(f"{path}: cannot be written ({reason}); check the folder and its permissions") from fault

"""What a format can hold of a photo, known before any work is done on it. Codes nothing.

A misfit is a reason to refuse; a loss is told and the photo is written without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deblur_cli.errors import PhotoError
from deblur_cli.image_io import companions, jpeg_container, reading, tiff_writer, xmp
from deblur_cli.image_io.faults import BrokenPhotoError

if TYPE_CHECKING:
    from pathlib import Path

    from deblur_cli.image_io.photo import Header, Metadata, Photo

_MAX_SIDE = {"jpeg": 65500, "webp": 16383, "avif": 65535}
_STAMP = "x" * 1500  # as long as a recipe may become
_LONG = 60_000  # bytes of a packet that may become too long for a JPEG by the stamp


@dataclass(frozen=True, slots=True)
class _Shape:
    width: int
    height: int
    grey: bool
    alpha: bool
    transparent: bool  # whether anything shows through


def find_misfit(path: Path, file_format: str, header: Header | None = None) -> str | None:
    """Why a format cannot hold the photo in a file, in words; None when it can, or when the file cannot be read.

    Pixels are decoded only where an alpha channel may stop the photo.

    Args:
        header: the file's, where it was read already.
    """
    try:
        header = header or reading.read_header(path)
        if header.alpha and file_format == "jpeg":
            check_fit(reading.read_photo(path), file_format)
        else:
            _check_shape(_Shape(*header.shown_size, header.grey, header.alpha, False), header.metadata.icc, file_format)
            _check_metadata(header.metadata, file_format)
    except BrokenPhotoError as fault:
        return str(fault)
    except PhotoError:
        return None
    return None


def check_fit(photo: Photo, file_format: str) -> None:
    """Refuse what would come out wrong without anyone noticing, or what the format has no room for.

    Raises:
        BrokenPhotoError: the format cannot hold this photo; the text names one that can.
    """
    height, width = photo.pixels.shape[:2]
    shape = _Shape(width, height, photo.grey, photo.alpha is not None, _shows_through(photo))
    _check_shape(shape, photo.metadata.icc, file_format)
    _check_metadata(photo.metadata, file_format)


def find_losses(photo: Photo, file_format: str) -> tuple[str, ...]:
    """What of this photo the format has no place for, in words for the user; empty when all of it is kept."""
    metadata = photo.metadata
    small, not_jpeg = file_format in ("webp", "avif"), file_format != "jpeg"
    chunks = {kind for kind, _ in metadata.png_chunks}
    losses = [
        ("16 bit", photo.pixels.itemsize == 2 and file_format in ("jpeg", "webp", "avif")),
        ("IPTC", small and bool(metadata.iptc or metadata.photoshop)),
        ("comments", (small or file_format == "tiff") and bool(metadata.comments)),
        ("the code of its colour space (CICP)", file_format not in ("png", "avif") and b"cICP" in chunks),
        (f"JPEG segments ({', '.join(map(_name_segment, metadata.segments))})", not_jpeg and bool(metadata.segments)),
        ("the video behind the picture", not_jpeg and bool(metadata.video)),
        ("PNG text and colour chunks", file_format != "png" and bool(chunks - {b"cICP"})),
    ]
    return tuple(name for name, lost in losses if lost)


def leave_jpeg(metadata: Metadata) -> Metadata:
    """The metadata with one XMP packet instead of two, which claims no video that other formats cannot hold.

    Raises:
        BrokenPhotoError: the two packets cannot be joined.
    """
    packet = metadata.xmp
    if packet and metadata.xmp_extended:
        packet = xmp.join_extended(packet, metadata.xmp_extended)
    if metadata.video:
        packet = companions.settle_claims(packet, video=False)
    return replace(metadata, xmp=packet, xmp_extended=None)


def _name_segment(segment: tuple[int, bytes]) -> str:
    """Such as `APP12 PictureInfo`."""
    marker, payload = segment
    word = payload[:20].split(b"\0")[0].decode("ascii", "replace")
    return f"APP{marker - 0xE0} {word if word.isprintable() else ''}".strip()


def _check_shape(shape: _Shape, icc: bytes | None, file_format: str) -> None:
    longest = max(shape.width, shape.height)
    if longest > _MAX_SIDE.get(file_format, longest):
        size = f"{shape.width}x{shape.height}"
        raise BrokenPhotoError(f"{size} is too large for {file_format}; choose --format png or tiff")
    if file_format == "jpeg" and shape.transparent:
        raise BrokenPhotoError("it has transparency, which JPEG cannot hold; choose --format png, tiff, webp or avif")
    stays_grey = shape.grey and file_format != "webp" and (file_format != "avif" or not shape.alpha)
    if icc and icc[16:20] == b"GRAY" and not stays_grey:
        raise BrokenPhotoError(f"its grey colour profile does not fit into {file_format}; choose --format png or tiff")


def _check_metadata(metadata: Metadata, file_format: str) -> None:
    """Build what is written later, with a stamp in it: the same code finds what has no room."""
    if file_format == "jpeg":
        is_long = len(metadata.xmp or b"") > _LONG
        jpeg_container.check_room(replace(metadata, xmp=xmp.merge_stamp(metadata.xmp, _STAMP)) if is_long else metadata)
    else:
        leave_jpeg(metadata)
    if file_format == "tiff":
        tiff_writer.check_blob(metadata.exif)


def _shows_through(photo: Photo) -> bool:
    return photo.alpha is not None and int(photo.alpha.min()) < (1 << 8 * photo.alpha.itemsize) - 1

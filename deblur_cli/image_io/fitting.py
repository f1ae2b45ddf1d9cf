"""What a format can hold of a photo, known before any work is done on it. Codes nothing.

A misfit is a reason to refuse; a loss is told and the photo is written without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deblur_cli.errors import PhotoError
from deblur_cli.image_io import formats, reading
from deblur_cli.image_io.containers import companions
from deblur_cli.image_io.faults import BrokenPhotoError
from deblur_cli.image_io.formats import Holds
from deblur_cli.image_io.metadata import xmp

if TYPE_CHECKING:
    from pathlib import Path

    from deblur_cli.image_io.photo import Header, Metadata, Photo


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
        if header.alpha and Holds.ALPHA not in formats.writer_of(file_format).holds:
            check_fit(reading.read_photo(path), file_format)
        else:
            _check(_Shape(*header.shown_size, header.grey, header.alpha, False), header.metadata, file_format)
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
    alpha = photo.alpha
    transparent = alpha is not None and int(alpha.min()) < (1 << 8 * alpha.itemsize) - 1
    _check(_Shape(width, height, photo.grey, alpha is not None, transparent), photo.metadata, file_format)


def find_losses(photo: Photo, file_format: str) -> tuple[str, ...]:
    """What of this photo the format has no place for, in words for the user; empty when all of it is kept."""
    metadata, writer = photo.metadata, formats.writer_of(file_format)
    chunks = {kind for kind, _ in metadata.png_chunks}
    segments = ", ".join(map(_name_segment, metadata.segments))
    losses = [
        (Holds.IPTC, "IPTC", metadata.iptc or metadata.photoshop),
        (Holds.COMMENTS, "comments", metadata.comments),
        (Holds.COLOUR_CODE, "the code of its colour space (CICP)", b"cICP" in chunks),
        (Holds.SEGMENTS, f"JPEG segments ({segments})", segments),
        (Holds.VIDEO, "the video behind the picture", metadata.video),
        (Holds.PNG_CHUNKS, "PNG text and colour chunks", chunks - {b"cICP"}),
    ]
    too_deep = 8 * photo.pixels.itemsize > max(writer.depths)
    return (*["16 bit"] * too_deep, *(name for part, name, there in losses if there and part not in writer.holds))


def fit_metadata(metadata: Metadata, file_format: str) -> Metadata:
    """The metadata with one XMP packet instead of two, which claims no video, where the format holds neither.

    Raises:
        BrokenPhotoError: the two packets cannot be joined.
    """
    packet, extended, holds = metadata.xmp, metadata.xmp_extended, formats.writer_of(file_format).holds
    if Holds.SEGMENTS not in holds:
        packet, extended = xmp.join_extended(packet, extended) if packet and extended else packet, None
    if Holds.VIDEO not in holds and metadata.video:
        packet = companions.settle_claims(packet, video=False)
    return replace(metadata, xmp=packet, xmp_extended=extended)


def _name_segment(segment: tuple[int, bytes]) -> str:
    """Such as `APP12 PictureInfo`."""
    marker, payload = segment
    word = payload[:20].split(b"\0")[0].decode("ascii", "replace")
    return f"APP{marker - 0xE0} {word if word.isprintable() else ''}".strip()


def _check(shape: _Shape, metadata: Metadata, file_format: str) -> None:
    row, writer = formats.by_name(file_format), formats.writer_of(file_format)
    if writer.longest_side and max(shape.width, shape.height) > writer.longest_side:
        size = f"{shape.width}x{shape.height}"
        raise BrokenPhotoError(f"{size} is too large for {file_format}; choose --format png or tiff")
    if shape.transparent and Holds.ALPHA not in writer.holds:
        able = formats.list_words([other.option for _, other in formats.writers() if Holds.ALPHA in other.holds], "or")
        raise BrokenPhotoError(f"it has transparency, which {row.label} cannot hold; choose --format {able}")
    stays_grey = shape.grey and (Holds.GREY in writer.holds or (Holds.BARE_GREY in writer.holds and not shape.alpha))
    if metadata.icc and metadata.icc[16:20] == b"GRAY" and not stays_grey:
        raise BrokenPhotoError(f"its grey colour profile does not fit into {file_format}; choose --format png or tiff")
    row.container.check(fit_metadata(metadata, file_format))

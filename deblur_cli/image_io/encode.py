"""A Photo becomes the bytes of a file. Knows what each format can hold; touches no file.

Lossy formats are written at 8 bit; 16-bit pixels are rounded to it, never cut off.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from deblur_cli.image_io import exif, jpeg_container, pixels, png_container, tiff_writer, vips
from deblur_cli.image_io.faults import BrokenPhotoError, TooLongError
from deblur_cli.image_io.fitting import check_fit, leave_jpeg

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deblur_cli.image_io.photo import Metadata, Photo, Pixels

JPEG_QUALITY, WEBP_QUALITY, AVIF_QUALITY = 95, 95, 90
# Tables of a JPEG source are never taken coarser than this: a sharper photo shows steps that the blur hid.
JPEG_FLOOR = 90
_COLOUR_BOX = b"colrnclx"
_HEAD_OF_EXIF = b"II*\0\x08\0\0\0\0\0\0\0\0\0"  # a directory of no tags


def encode(photo: Photo, file_format: str, quality: int | None) -> bytes:
    """The file's bytes with all metadata that the format can hold.

    Raises:
        BrokenPhotoError: the format cannot hold this photo; the text names one that can.
    """
    check_fit(photo, file_format)
    coder = {
        "jpeg": _encode_jpeg,
        "png": _encode_png,
        "tiff": _encode_tiff,
        "webp": _encode_webp,
        "avif": _encode_avif,
    }
    if file_format != "jpeg":
        photo = replace(photo, metadata=leave_jpeg(photo.metadata))
    return coder[file_format](photo, quality)


def _stack(photo: Photo, *, grey: bool, alpha: bool) -> Pixels:
    """(H, W, C): one or three colour channels, then alpha."""
    parts = [pixels.to_grey(photo.pixels)[..., np.newaxis] if grey else photo.pixels]
    if alpha and photo.alpha is not None:
        parts.append(photo.alpha[..., np.newaxis])
    return np.concatenate(parts, axis=2) if len(parts) > 1 else np.ascontiguousarray(parts[0])


def _to_image(planes: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes)


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    try:
        image.save(buffer, kind, **options)
    except (OSError, ValueError) as fault:
        raise BrokenPhotoError(f"cannot be coded as {kind} ({fault}); choose --format png") from fault
    return buffer.getvalue()


def _encode_png(photo: Photo, quality: int | None) -> bytes:
    return png_container.insert_metadata(vips.encode_png(_stack(photo, grey=photo.grey, alpha=True)), photo.metadata)


def _encode_tiff(photo: Photo, quality: int | None) -> bytes:
    planes = _stack(photo, grey=photo.grey, alpha=True)
    return tiff_writer.write_tiff(
        planes, photo.metadata, alpha=photo.alpha is not None, extra_sample=photo.encoding.extra_sample
    )


def _encode_jpeg(photo: Photo, quality: int | None) -> bytes:
    """Quality None takes the source's tables where they are finer than JPEG_FLOOR; 95 for other sources.

    Chroma subsampling is the source's; 4:4:4 for other sources.
    """
    image = _to_image(pixels.round_to_8(_stack(photo, grey=photo.grey, alpha=False)))
    options: dict[str, Any] = {"optimize": True}
    if not photo.grey:
        options["subsampling"] = photo.encoding.subsampling or "4:4:4"
    if quality is None and photo.encoding.tables:
        options["qtables"] = _choose_tables(photo)
    else:
        options["quality"] = JPEG_QUALITY if quality is None else quality
    if photo.metadata.dpi:
        options["dpi"] = tuple(min(round(value), 65535) for value in photo.metadata.dpi)
    coded = jpeg_container.insert_metadata(_save(image, "JPEG", **options), photo.metadata)
    return coded + (photo.metadata.video or b"")


def _choose_tables(photo: Photo) -> list[list[int]]:
    """The finer of the source's step and that of JPEG_FLOOR, for each frequency."""
    own = photo.encoding.tables
    floor = _floor_tables()
    return [
        [min(step, limit) for step, limit in zip(own[min(at, len(own) - 1)], floor[at], strict=True)]
        for at in range(1 if photo.grey else 2)
    ]


@cache
def _floor_tables() -> tuple[tuple[int, ...], tuple[int, ...]]:
    tables = jpeg_container.read_tables(BytesIO(_save(Image.new("RGB", (8, 8)), "JPEG", quality=JPEG_FLOOR)))
    return tables[0], tables[1]


def _encode_webp(photo: Photo, quality: int | None) -> bytes:
    """Lossless when the source was and no quality is asked for. WebP has no grey: it becomes RGB."""
    image = _to_image(pixels.round_to_8(_stack(photo, grey=False, alpha=True)))
    metadata = photo.metadata
    coding: dict[str, Any] = {"quality": WEBP_QUALITY if quality is None else quality}
    if quality is None and photo.encoding.lossless:
        coding = {"lossless": True, "quality": 75}
    return _save(
        image,
        "WEBP",
        exact=True,  # colours under transparent pixels stay
        exif=exif.with_dpi(metadata.exif, metadata.dpi) or b"",
        icc_profile=metadata.icc or b"",
        xmp=metadata.xmp or b"",
        **coding,
    )


def _encode_avif(photo: Photo, quality: int | None) -> bytes:
    """Grey without alpha is stored as one channel; colour is 4:4:4."""
    grey = photo.grey and photo.alpha is None
    image = _to_image(pixels.round_to_8(_stack(photo, grey=grey, alpha=True)))
    blob = exif.with_dpi(photo.metadata.exif, photo.metadata.dpi)
    stand_in = _stand_in(blob) if blob else b""
    coded = _save(
        image,
        "AVIF",
        quality=AVIF_QUALITY if quality is None else quality,
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
    if len(blob) < len(_HEAD_OF_EXIF):
        raise BrokenPhotoError("its EXIF is damaged and AVIF cannot carry it; choose --format png or jpeg")
    filler = hashlib.shake_128(blob).digest(len(blob) - len(_HEAD_OF_EXIF))
    return _HEAD_OF_EXIF + filler


def _swap_in(coded: bytes, stand_in: bytes, blob: bytes) -> bytes:
    if coded.count(stand_in) != 1:
        raise TooLongError("its EXIF does not fit into AVIF; choose --format png or tiff")
    return coded.replace(stand_in, blob)

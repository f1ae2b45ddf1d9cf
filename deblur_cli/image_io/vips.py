"""libvips as decoder of every plain format and as PNG encoder. Knows arrays and files, no metadata.

libvips and not Pillow, because Pillow 13 turns 16-bit RGB into 8 bit without a word and turns TIFFs by
itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from deblur_cli.image_io.faults import BrokenPhotoError

if TYPE_CHECKING:
    from pathlib import Path

    from deblur_cli.image_io.photo import Pixels


_OWN_ZEROS = 4  # zeros at the end are padding, but for a few that may be the picture's own last bits


@cache
def load_engine() -> Any:
    """The pyvips module, silenced, and without its cache: that would return old pixels of a rewritten file.

    Raises:
        BrokenPhotoError: libvips is not installed.
    """
    logging.getLogger("pyvips").addHandler(logging.NullHandler())
    try:
        import pyvips
    except (ImportError, OSError) as fault:
        raise BrokenPhotoError("libvips is not installed: pip install 'pyvips[binary]'") from fault
    pyvips.cache_set_max(0)
    return pyvips


def decode(path: Path, fail_on: str = "truncated") -> Pixels:
    """All pixels of a file as stored, (H, W, 1-4) uint8 or uint16; EXIF orientation is not applied.

    Args:
        fail_on: the least that stops the decoder, `error` or `truncated`.
    Raises:
        BrokenPhotoError: damaged or cut short.
    """
    name = str(path)
    # Names that libvips would read as options, or cannot spell, go by way of memory.
    if name.endswith("]") or not name.isprintable():
        return decode_bytes(path.read_bytes(), fail_on)
    return _decode(lambda: load_engine().Image.new_from_file(name, access="sequential", fail_on=fail_on))


def decode_bytes(content: bytes, fail_on: str = "truncated") -> Pixels:
    """The same of the bytes of a file."""
    return _decode(lambda: load_engine().Image.new_from_buffer(content, "", access="sequential", fail_on=fail_on))


def decode_endless(path: Path) -> Pixels:
    """The pixels of a JPEG without its end marker, if nothing but that is missing.

    A decoder that has all pixels does not look at what comes then, so that other bytes make no difference.

    Raises:
        BrokenPhotoError: pixels are missing, too.
    """
    content = path.read_bytes().rstrip(b"\xff")
    least = len(content.rstrip(b"\xff\0"))
    for size in sorted({least, min(least + _OWN_ZEROS, len(content))}):
        bare = content[:size]
        planes = decode_bytes(bare + b"\xff\xd9")
        # In a gap the decoder sees zeros, so the other bytes begin with ones.
        if np.array_equal(planes, decode_bytes(bare + bytes(range(254, 0, -1)) * 8 + b"\xff\xd9")):
            return planes
    raise BrokenPhotoError("the file is cut short; copy it again from its source")


def _decode(load: Callable[[], Any]) -> Pixels:
    engine = load_engine()
    try:
        image = load()
        if image.format not in ("uchar", "ushort"):
            raise BrokenPhotoError(f"pixels of type {image.format} are not supported; convert it to 8 or 16 bit first")
        block = image.write_to_memory()
    except engine.Error as fault:
        raise BrokenPhotoError(
            f"it is damaged or cut short ({_shorten(fault)}); copy it again from its source"
        ) from fault
    planes = np.frombuffer(block, np.uint8 if image.format == "uchar" else np.uint16)
    return planes.reshape(image.height, image.width, image.bands)


def encode_png(planes: Pixels) -> bytes:
    """A PNG of the planes, (H, W, 1-4) uint8 or uint16, without metadata."""
    engine = load_engine()
    wide = planes.dtype == np.uint16
    height, width, bands = planes.shape
    space = ("grey16" if wide else "b-w") if bands < 3 else ("rgb16" if wide else "srgb")
    image = engine.Image.new_from_memory(
        np.ascontiguousarray(planes).data, width, height, bands, "ushort" if wide else "uchar"
    )
    coded: bytes = image.copy(interpretation=space).pngsave_buffer(compression=6, keep="none")
    return coded


def _shorten(fault: Exception) -> str:
    """The last line of libvips' text: earlier ones may belong to earlier files."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"

"""What the parsers of this package raise, without a path: `reading` and `writing` make it a PhotoError."""

import struct
import zlib
from typing import BinaryIO

# What Python itself raises at numbers, offsets and names in a file that no writer meant.
PARSER_FAULTS = (struct.error, zlib.error, ValueError, LookupError, ArithmeticError, RecursionError, MemoryError)


class BrokenPhotoError(Exception):
    """The file is damaged, cut short or of a kind this tool refuses; the text names no path."""


class TooLongError(BrokenPhotoError):
    """A metadata block does not fit into the target format."""


def read_exactly(stream: BinaryIO, count: int) -> bytes:
    """The next `count` bytes.

    Raises:
        BrokenPhotoError: the file ends before.
    """
    block = stream.read(count)
    if len(block) != count:
        raise BrokenPhotoError("the file is cut short; copy it again from its source")
    return block


def stream_length(stream: BinaryIO) -> int:
    """Bytes in the file; the position is kept."""
    position = stream.tell()
    length = stream.seek(0, 2)
    stream.seek(position)
    return length

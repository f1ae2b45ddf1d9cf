"""What the parsers of this package raise, without a path, and how it becomes one line with the path."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from deblur_cli.errors import PhotoError

# What Python itself raises at numbers, offsets and names in a file that no writer meant.
_PARSER_FAULTS = (struct.error, zlib.error, ValueError, LookupError, ArithmeticError, RecursionError, MemoryError)


class BrokenPhotoError(Exception):
    """The file is damaged, cut short or of a kind this tool refuses; the text names no path."""


class TooLongError(BrokenPhotoError):
    """A metadata block does not fit into the target format."""


FAULTS = (BrokenPhotoError, *_PARSER_FAULTS)  # of whatever parses bytes of a file


@contextmanager
def told_with(path: Path) -> Iterator[None]:
    """While a file is read, every fault of the file or of the system becomes a PhotoError of one line."""
    try:
        yield
    except _PARSER_FAULTS as fault:
        raise PhotoError(f"{path}: its header is damaged; copy it again from its source") from fault
    except OSError as fault:
        reason = fault.strerror or fault
        raise PhotoError(f"{path}: cannot be read ({reason}); check the path and its permissions") from fault
    except BrokenPhotoError as fault:
        raise PhotoError(f"{path}: {fault}") from fault


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

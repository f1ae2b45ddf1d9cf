"""What the parsers of this package raise, without a path: `reading` and `writing` make it a PhotoError."""

from typing import BinaryIO


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

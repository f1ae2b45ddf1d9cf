"""The segments of a JPEG file, and where its picture ends. Knows markers and lengths, no meaning.

Slips that every viewer forgives are put right: bytes between segments, a length that leaves out its own two bytes.

Source: ITU-T T.81 Annex B.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from deblur_cli.image_io.faults import BrokenPhotoError, read_exactly
from deblur_cli.image_io.limits import MAX_SEGMENTS

SOI = b"\xff\xd8\xff"
_SOS, _EOI = 0xDA, 0xD9
_BLOCK = 1 << 16
_MAX_JUNK = 1 << 16  # more than this between two segments is no slip
_MAX_MARKERS = 100_000  # behind the first scan: a progressive photo has a few dozen
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_MARKER_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_DAMAGED = "its JPEG segments are damaged; copy it again from its source"


class Content(Protocol):
    """Bytes, or a mapped file."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...


def read_segments(stream: BinaryIO) -> tuple[list[tuple[int, bytes]], bool]:
    """(marker, payload) of each segment before the coded picture, and whether bytes between them were skipped.

    Raises:
        BrokenPhotoError: the file ends, or is no JPEG, before the picture begins.
    """
    stream.seek(2)
    found: list[tuple[int, bytes]] = []
    mended = False
    for marker, junk in _walk(stream):
        if junk:
            mended = True
        if len(junk) == 2 and found:  # a writer that forgot to count the length's own two bytes
            found[-1] = (found[-1][0], found[-1][1] + junk)
        if marker == _SOS:
            return found, mended
        if marker == 1 or 0xD0 <= marker <= 0xD8:
            continue
        length = int.from_bytes(read_exactly(stream, 2), "big")
        if length < 2:
            raise BrokenPhotoError(_DAMAGED)
        found.append((marker, read_exactly(stream, length - 2)))
        if len(found) > MAX_SEGMENTS:
            raise BrokenPhotoError(_DAMAGED)
    raise BrokenPhotoError("the JPEG holds no picture; copy it again from its source")


def find_end(content: Content, start: int) -> int | None:
    """Where the picture whose SOI lies at `start` ends, behind its EOI; None when it has none."""
    at = start + 2
    for _ in range(_MAX_MARKERS):
        found = _MARKER_AFTER_SCAN.search(content, at)  # type: ignore[call-overload]
        if found is None:
            return None
        marker, at = found.group()[1], found.end()
        if marker == _EOI:
            return int(at)
        if marker not in (1, 0xD8):
            at += int.from_bytes(content[at : at + 2], "big")
    return None


def _walk(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(marker, bytes skipped before it); the reader moves the stream behind each segment. Ends at EOI."""
    while True:
        pair = read_exactly(stream, 2)
        marker, junk = (pair[1], b"") if pair[0] == 0xFF and pair[1] not in (0, 0xFF) else _resume(stream, pair)
        if marker == _EOI:
            return
        yield marker, junk


def _resume(stream: BinaryIO, seen: bytes) -> tuple[int, bytes]:
    """The next marker and what lies before it; fill bytes of 0xFF are allowed there and do not count."""
    seen = seen.lstrip(b"\xff") or b"\xff"
    while len(seen) <= _MAX_JUNK and (block := stream.read(_BLOCK)):
        seen += block.lstrip(b"\xff") if seen == b"\xff" else block
        if found := _MARKER.search(seen):
            stream.seek(found.end() - len(seen), 1)
            return found.group()[1], seen[: found.start()].strip(b"\xff")
    raise BrokenPhotoError(_DAMAGED)

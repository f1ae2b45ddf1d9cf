"""The strips or tiles of a TIFF, counted against the picture and the file, and checked from within where they can be.

Decoders fill gaps with black and go on after a wrong byte; a photo that came out like that must not count as read.

Source: TIFF 6.0 §3, §13 (LZW), §15 (tiles); Adobe TIFF Technical Note 3 (deflate); RFC 1950 (its checksum).
"""

from __future__ import annotations

import mmap
import zlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from deblur_cli.image_io.faults import BrokenPhotoError

if TYPE_CHECKING:
    from pathlib import Path

_NONE, _LZW = 1, 5
_DEFLATE = (8, 32946)
_CUT = "the file is damaged or cut short; copy it again from its source"
_CLEAR, _END, _FIRST = 256, 257, 258
_STEP = 16 << 20  # bytes that are unpacked at a time and forgotten
_MAX_CODES = 3838  # of LZW between two clearings; a writer that goes on after that is not checked


@dataclass(frozen=True, slots=True)
class Grid:
    """How a picture is cut: `across` x `down` pixels a piece, `planes` pictures of `samples` channels of `bits`."""

    width: int
    height: int
    across: int
    down: int
    planes: int
    samples: int
    bits: int
    tiled: bool

    @property
    def count(self) -> int:
        """How many pieces there must be."""
        return -(-self.width // self.across) * -(-self.height // self.down) * self.planes

    def size(self, piece: int) -> int:
        """Bytes of a piece once it is unpacked; the last strip may be lower than the others, a tile never is."""
        above = self.down * (piece % (self.count // self.planes))
        return self._row * (self.down if self.tiled else min(self.down, self.height - above))

    @property
    def largest(self) -> int:
        """Bytes of a whole piece, to which some writers fill up the last strip."""
        return self._row * self.down

    @property
    def _row(self) -> int:
        return -(-self.across * self.samples * self.bits // 8)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Where the pieces lie and how they are packed; `counts` is empty in old files that leave them out."""

    grid: Grid
    compression: int
    offsets: tuple[int, ...]
    counts: tuple[int, ...]

    def check(self, length: int) -> None:
        """Count them against the picture and against a file of `length` bytes.

        Raises:
            BrokenPhotoError: one is missing, empty, too short, or lies outside of the file.
        """
        if len(self.offsets) != self.grid.count or len(self.counts) not in (0, self.grid.count):
            raise BrokenPhotoError(f"it lists {len(self.offsets)} of {self.grid.count} pieces; copy it from its source")
        if sum(self.counts) > 2 * length:
            raise BrokenPhotoError("its pieces lie over each other; copy it from its source")
        for piece, (offset, count) in enumerate(zip(self.offsets, self.counts, strict=False)):
            least = self.grid.size(piece) if self.compression == _NONE else 1
            if not offset or count < least or offset + count > length:
                raise BrokenPhotoError(_CUT)

    def verify(self, path: Path) -> None:
        """Unpack what carries a checksum, and count what has at least a length.

        Raises:
            BrokenPhotoError: a piece is damaged.
        """
        if self.compression not in (_LZW, *_DEFLATE):
            return
        measure = _measure_deflate if self.compression in _DEFLATE else _measure_lzw
        largest = self.grid.largest
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for piece, (offset, count) in enumerate(zip(self.offsets, self.counts, strict=False)):
                size = self.grid.size(piece)
                if measure(content[offset : offset + count], largest) not in (size, largest):
                    raise BrokenPhotoError(f"piece {piece + 1} of its picture is damaged; copy it from its source")


def _measure_deflate(block: bytes, most: int) -> int:
    """How many bytes a piece unpacks to; -1 if its end, or the right checksum there, does not come."""
    engine, unpacked = zlib.decompressobj(), 0
    try:
        while not engine.eof and unpacked <= most:
            part = engine.decompress(block, _STEP)
            if not part and not engine.eof:
                return -1
            unpacked, block = unpacked + len(part), engine.unconsumed_tail
    except zlib.error:
        return -1
    return unpacked if engine.eof else -1


def _measure_lzw(block: bytes, most: int) -> int:
    """How many bytes LZW codes stand for, without unpacking them; -1 if one comes before it has a meaning.

    Between two clearings the width of a code depends on its place alone, so that all codes are cut out at once; an
    entry is as long as the one it was made of plus 1, so that all lengths come from following these links.
    """
    import numpy as np

    if block[:1] == b"\0" and block[1:2] and block[1] & 1:
        return most  # the order of bits before TIFF 5.0 is taken on trust
    padded = np.frombuffer(block + bytes(4), np.uint8)
    at, total, end = 9, 0, 8 * len(block)
    while at + 9 <= end:
        starts, widths = _layout()
        starts = starts[: np.searchsorted(starts + widths, end - at, "right")] + at
        byte, shift = starts >> 3, 32 - (starts & 7) - widths[: len(starts)]
        first, second, third, fourth = (padded[byte + place].astype(np.uint32) for place in range(4))
        words = first << 24 | second << 16 | third << 8 | fourth
        codes = (words >> shift.astype(np.uint32)) & ((1 << widths[: len(starts)]) - 1)
        stops = np.flatnonzero((codes == _CLEAR) | (codes == _END))
        if not len(stops):
            return most if len(codes) >= _MAX_CODES else total + _count(codes)
        stop = int(stops[0])
        length = _count(codes[:stop])
        if length < 0 or total > most:
            return -1
        total += length
        if codes[stop] == _END:
            break
        at = int(starts[stop] + widths[stop])
    return total


@cache
def _layout() -> tuple[Any, Any]:
    """Where each code begins after a clearing, and its width, in bits."""
    import numpy as np

    widths = np.full(_MAX_CODES, 12)
    for last, width in ((1790, 11), (766, 10), (254, 9)):
        widths[:last] = width
    return np.cumsum(widths) - widths, widths


def _count(codes: Any) -> int:
    """How many bytes some codes stand for, the first after a clearing first; -1 if one comes before its entry."""
    import numpy as np

    count = len(codes)
    if count and (codes > np.arange(count) + (_FIRST - 1)).any():
        return -1
    links = np.concatenate([np.arange(_FIRST), codes]).astype(np.int64)
    steps = np.concatenate([np.zeros(_FIRST, np.int64), np.ones(count, np.int64)])
    while (links >= _FIRST).any():
        steps += steps[links]
        links = links[links]
    return int(steps[codes].sum() + count)

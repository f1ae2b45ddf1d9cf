"""The EXIF blob that a TIFF or TIFF-like RAW file carries in its own directories, rebuilt as one piece.

Left out are the tags that describe how the picture is stored. The MakerNote keeps its offset from the blob's
start when that offset is small enough, because its inner offsets often count from there.
"""

import itertools
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from deblur_cli.image_io.faults import FAULTS
from deblur_cli.image_io.limits import MAX_DEPTH
from deblur_cli.image_io.metadata import exif, ifd

# Structure of the stored picture, its previews and layers, plus what other fields of the metadata hold.
STRUCTURE_TAGS = frozenset(
    itertools.chain(
        *(range(254, 260), range(262, 267), range(277, 282), range(284, 286), range(288, 294), range(320, 348)),
        *(range(512, 516), range(517, 522), range(529, 533), range(50706, 50982), range(51008, 51200)),
        (273, 297, 301, 317, 700, 33421, 33422, 33723, 34377, 34675, 37724),
    )
)
# In camera RAW files IFD0 is full of private tags: only these describe the photo, the last ones in Windows' words.
RAW_TAGS = frozenset(
    itertools.chain(
        (270, 271, 272, 274, 282, 283, 296, 305, 306, 315, 33432, exif.EXIF_IFD, exif.GPS_IFD),
        (18246, 18249, *range(40091, 40096)),
    )
)
_RESOLUTION_ONLY = {exif.ORIENTATION, exif.X_RESOLUTION, exif.Y_RESOLUTION, exif.RESOLUTION_UNIT}
_POINTERS = (exif.EXIF_IFD, exif.GPS_IFD, exif.INTEROP_IFD)
_MAX_PIN = 32 << 10


@dataclass(slots=True)
class _Block:
    """One directory on its way into the blob, and the directories below it."""

    rows: dict[int, ifd.Row] = field(default_factory=dict)
    below: dict[int, "_Block"] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return 6 + 12 * (len(self.rows) + len(self.below))


def build_blob(directory: ifd.Directory, *, raw: bool = False) -> bytes | None:
    """The blob, in the file's byte order; None when the file says nothing beyond its resolution."""
    kept = [tag for tag in directory.entries if (tag in RAW_TAGS if raw else tag not in STRUCTURE_TAGS)]
    if not set(kept) - _RESOLUTION_ONLY:
        return None
    notes: list[ifd.Entry] = []
    return _Writer(directory.layout.order, _gather(directory, kept, notes), notes).write()


def _gather(directory: ifd.Directory, kept: Iterable[int], notes: list[ifd.Entry], depth: int = 0) -> _Block:
    """Copy tags of a directory and those below it; the MakerNote is added to `notes`."""
    block = _Block()
    for tag in sorted(kept):
        entry = directory.entries[tag]
        if tag in _POINTERS:
            if below := _read_below(directory, tag, depth):
                deeper = below.entries.keys() - {exif.EXIF_IFD, exif.GPS_IFD}
                block.below[tag] = _gather(below, deeper, notes, depth + 1)
        elif entry.kind in ifd.TYPE_SIZES and entry.kind < 16:
            block.rows[tag] = ifd.Row(entry.kind, entry.count, ifd.read_value(directory.stream, entry))
            if tag == exif.MAKER_NOTE and entry.size > 4:
                notes.append(entry)
    return block


def _read_below(directory: ifd.Directory, tag: int, depth: int) -> ifd.Directory | None:
    """The directory that a pointer names; None when it is damaged, or so deep that it must lead in a circle."""
    try:
        return directory.read_at(directory.number(tag, 0)) if depth < MAX_DEPTH else None
    except FAULTS:
        return None


class _Writer:
    """Lays out the directories, then the values, around a MakerNote that stays in place."""

    def __init__(self, order: str, root: _Block, notes: list[ifd.Entry]) -> None:
        self.order = order
        self.root = root
        self.note_size = max((note.size for note in notes), default=0)
        directories = 8 + sum(block.size for block in _walk(root))
        self.pin = notes[0].offset if notes and directories <= notes[0].offset <= _MAX_PIN else None
        self.cursor = 8
        self.buffer = bytearray()

    def write(self) -> bytes:
        starts = {id(block): self._reserve(block.size) for block in _walk(self.root)}
        for block in _walk(self.root):
            self._write_block(block, starts)
        head = (b"II" if self.order == "<" else b"MM") + struct.pack(self.order + "HI", 42, starts[id(self.root)])
        self._put(0, head)
        return bytes(self.buffer)

    def _write_block(self, block: _Block, starts: dict[int, int]) -> None:
        pointers = {tag: struct.pack(self.order + "I", starts[id(below)]) for tag, below in block.below.items()}
        rows = block.rows | {tag: ifd.Row(ifd.LONG, 1, pointer) for tag, pointer in pointers.items()}
        table = b"".join(
            struct.pack(self.order + "HHI", tag, row.kind, row.count) + self._place(tag, row.value)
            for tag, row in sorted(rows.items())
        )
        self._put(starts[id(block)], struct.pack(self.order + "H", len(rows)) + table + bytes(4))

    def _place(self, tag: int, value: bytes) -> bytes:
        """The four bytes of a row: the value itself or its offset."""
        if len(value) <= 4:
            return value.ljust(4, b"\0")
        at = self.pin if tag == exif.MAKER_NOTE and self.pin is not None else self._reserve(len(value))
        self._put(at, value)
        return struct.pack(self.order + "I", at)

    def _reserve(self, size: int) -> int:
        if self.pin is not None and self.cursor < self.pin + self.note_size and self.cursor + size > self.pin:
            self.cursor = self.pin + self.note_size
            self.cursor += self.cursor % 2
        at = self.cursor
        self.cursor += size + size % 2
        return at

    def _put(self, at: int, block: bytes) -> None:
        if len(self.buffer) < at + len(block):
            self.buffer.extend(bytes(at + len(block) - len(self.buffer)))
        self.buffer[at : at + len(block)] = block


def _walk(block: _Block) -> list[_Block]:
    return [block, *(deeper for below in block.below.values() for deeper in _walk(below))]

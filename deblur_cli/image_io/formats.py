"""The photo formats: one row says all that the rest of the tool knows of one. Opens no file; importing it is cheap.

The code of a format lies in `containers/NAME_container.py`, with the functions of `Container`; the first photo of its
kind loads it. A new format is such a file and a row of FORMATS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Flag, auto
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from deblur_cli.image_io.faults import BrokenPhotoError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from deblur_cli.image_io.limits import MeteredReader
    from deblur_cli.image_io.photo import Header, Metadata, Photo, Pixels

# A name that ends in one of these means a picture, but none of ours: `-o sharp.gif` asks for no folder.
OTHER_PICTURES = frozenset([".bmp", ".exr", ".gif", ".jp2", ".jxl", ".psd", ".tga"])


class Container(Protocol):
    """What the file of a format defines, as functions; one that is not written leaves out the last two.

    Each raises BrokenPhotoError: at what is damaged or refused, or has no room in the format.
    """

    def read_header(self, stream: MeteredReader) -> Header:
        """Everything but the pixels."""

    def read_xmp(self, stream: MeteredReader) -> bytes | None:
        """The XMP packet alone, without a look at the rest."""

    def decode(self, path: Path, header: Header) -> tuple[Pixels, Header]:
        """Stored pixels, (H, W, 1-4) uint8 or uint16, 9 to 15 bits left-aligned; the header with what is known now."""

    def encode(self, photo: Photo, quality: int | None) -> bytes:
        """The bytes of a file, with all that the writer `holds`."""

    def check(self, metadata: Metadata) -> None:
        """Before any work: whether `encode` will have room for the metadata."""


class Holds(Flag):
    """What of a photo a format has a place for; of the rest some is left out and told, some is a reason to refuse."""

    ALPHA = auto()
    GREY = auto()  # one channel, also beside alpha
    BARE_GREY = auto()  # one channel, but not beside alpha
    IPTC = auto()
    COMMENTS = auto()
    COLOUR_CODE = auto()  # CICP
    SEGMENTS = auto()  # a JPEG's own, and an XMP packet in two parts
    VIDEO = auto()  # behind the picture
    PNG_CHUNKS = auto()


@dataclass(frozen=True, slots=True)
class Writer:
    """How a format is written.

    Attributes:
        option: its name on the command line.
        depths: bits per channel.
        least_bytes: the least that a photo takes on the disk, bytes per pixel; only a clear lack of space is refused.
        lossy: `--quality` means something.
        longest_side: in pixels; 0 where no photo comes near the limit.
        coder: what Pillow must have been built with.
    """

    option: str
    depths: tuple[int, ...]
    holds: Holds
    least_bytes: float
    lossy: bool = False
    longest_side: int = 0
    coder: str | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """One file format.

    Attributes:
        label: how it is called in a sentence.
        suffixes: lower case, with their dot; the first is that of new files.
        depths: bits per channel of the files that are read.
        recognises: whether the first 32 bytes of a file are those of this format.
        becomes: what `--format same` writes; empty where that is the format itself.
        engine: the module that decodes it, and what to do where that is missing.
        turns_itself: the decoder turns as the container says, and an orientation in EXIF or XMP only repeats it.
    """

    name: str
    label: str
    suffixes: tuple[str, ...]
    depths: tuple[int, ...]
    recognises: Callable[[bytes], bool]
    writer: Writer | None = None
    becomes: str = ""
    engine: tuple[str, str] = ("pyvips", "pip install 'pyvips[binary]'")
    turns_itself: bool = False

    @property
    def container(self) -> Container:
        """Its code."""
        return cast("Container", import_module(f"deblur_cli.image_io.containers.{self.name}_container"))

    def load_engine(self) -> Any:
        """The module that decodes it.

        Raises:
            BrokenPhotoError: it is an extra that is not installed.
        """
        try:
            return import_module(self.engine[0])
        except ImportError as fault:
            raise BrokenPhotoError(f"reading {self.label} needs an extra: {self.engine[1]}") from fault


def _begins(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(signatures)


def _brands(head: bytes) -> list[bytes]:
    """The brands of a file of boxes, the major one first (ISO/IEC 14496-12 §4.3); none of another file."""
    return [head[8:12], *(head[at : at + 4] for at in range(16, len(head), 4))] if head[4:8] == b"ftyp" else []


def _is_avif(head: bytes) -> bool:
    return bool({b"avif", b"avis"}.intersection(_brands(head)))


def _is_cr3(head: bytes) -> bool:
    return _brands(head)[:1] == [b"crx "] and not _is_avif(head)


def _is_heif(head: bytes) -> bool:
    return not (_is_avif(head) or _is_cr3(head) or _HEIF_BRANDS.isdisjoint(_brands(head)))


_HEIF_BRANDS = frozenset([b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"])
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# fmt: off
_RAW = _begins(*_TIFF, b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"\0MRM", b"FOVb",
               b"II\x1a\0\0\0HEAPCCDR")
_RAW_SUFFIXES = (
    ".dng", ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos", ".mrw",
    ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
)
# fmt: on
_EVERYTHING = Holds.ALPHA | Holds.GREY | Holds.IPTC

FORMATS = (
    Format(
        "jpeg", "JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), (8,), _begins(b"\xff\xd8\xff"),
        Writer("jpg", (8,), Holds.GREY | Holds.IPTC | Holds.COMMENTS | Holds.SEGMENTS | Holds.VIDEO, 0.1,
               lossy=True, longest_side=65500, coder="jpg"),
    ),
    Format(
        "png", "PNG", (".png",), (8, 16), _begins(b"\x89PNG\r\n\x1a\n"),
        Writer("png", (8, 16), _EVERYTHING | Holds.COMMENTS | Holds.COLOUR_CODE | Holds.PNG_CHUNKS, 0.5),
    ),
    Format("tiff", "TIFF", (".tif", ".tiff"), (8, 16), _begins(*_TIFF), Writer("tiff", (8, 16), _EVERYTHING, 0.5)),
    Format(
        "webp", "WebP", (".webp",), (8,), lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
        Writer("webp", (8,), Holds.ALPHA, 0.05, lossy=True, longest_side=16383, coder="webp"),
    ),
    Format(
        "avif", "AVIF", (".avif",), (8, 10, 12), _is_avif,
        Writer("avif", (8,), Holds.ALPHA | Holds.BARE_GREY | Holds.COLOUR_CODE, 0.03,
               lossy=True, longest_side=65535, coder="avif"),
        turns_itself=True,
    ),
    Format(
        "heif", "HEIC", (".heic", ".heif", ".hif"), (8, 10, 12), _is_heif,
        becomes="jpeg", engine=("pillow_heif", "pip install 'deblur-cli[heif]'"), turns_itself=True,
    ),
    Format(
        "raw", "camera RAW", _RAW_SUFFIXES, (16,), lambda head: _RAW(head) or _is_cr3(head),
        becomes="tiff", engine=("rawpy", "pip install 'deblur-cli[raw]'"), turns_itself=True,
    ),
)  # fmt: skip


def by_name(name: str) -> Format:
    """The row of a format."""
    return next(row for row in FORMATS if row.name == name)


def writers() -> Iterator[tuple[Format, Writer]]:
    """The formats that can be written."""
    return ((row, row.writer) for row in FORMATS if row.writer)


def writer_of(name: str) -> Writer:
    """How a format is written that can be."""
    return next(writer for row, writer in writers() if row.name == name)


def writable_formats() -> dict[str, str]:
    """Its name on the command line -> the format, of all that can be written."""
    return {writer.option: row.name for row, writer in writers()}


def find_format(path: Path) -> str | None:
    """Format that the suffix promises, upper or lower case; None when it is no photo this tool knows."""
    suffix = path.suffix.lower()
    return next((row.name for row in FORMATS if suffix in row.suffixes), None)


def sniff_format(head: bytes, path: Path) -> str | None:
    """Format of a file by its first 32 bytes.

    The suffix decides only between formats that begin alike, as TIFF and many kinds of camera RAW do.
    """
    found = [row.name for row in FORMATS if row.recognises(head)]
    promised = find_format(path)
    return promised if promised in found else next(iter(found), None)


def default_suffix(file_format: str) -> str:
    """Suffix of a new file, with its dot: `jpeg` -> `.jpg`."""
    return by_name(file_format).suffixes[0]


def same_format(file_format: str) -> str:
    """The format that `--format same` writes: heif -> jpeg, raw -> tiff (16 bit), all others stay."""
    return by_name(file_format).becomes or file_format


def list_words(words: Sequence[str], joint: str) -> str:
    """Such as `one, two or three`."""
    return ", ".join(words[:-1]) + f" {joint} " * (len(words) > 1) + words[-1]

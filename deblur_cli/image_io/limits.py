"""How much work the metadata of one file may ask for, in one place: whoever parses a file reads through a Meter.

A photo's metadata takes kilobytes, with depth maps a few megabytes. A file that asks for more than these limits was
made to: values that overlap, text that unpacks to gigabytes, millions of parts.
"""

from io import BufferedReader, BytesIO
from pathlib import Path

from deblur_cli.image_io.faults import BrokenPhotoError

MAX_BYTES = 64 << 20  # read or unpacked for one file; the parsers hold at most three copies of it at a time
MAX_READS = 500_000  # less than a second of Python
MAX_TABLE = 1 << 20  # bytes of one table of items in AVIF or HEIF
MAX_TAGS = 2000  # of one directory of a TIFF or an EXIF blob
MAX_DEPTH = 6  # of directories in directories, and of pictures that are derived of pictures
MAX_PAGES = 64  # of a TIFF that are looked at: previews and masks
MAX_RESOURCES = 10_000  # of a Photoshop block
MAX_SEGMENTS = 10_000  # of a JPEG before its picture; 1,000 full ones are 64 MB
MAX_PACKET = 16 << 20  # bytes of XMP that are looked into; a longer packet is carried as it is
MAX_ELEMENTS = 50_000  # of such a packet, attributes included

_SMALL = 1 << 12  # reads up to this size are not worth asking where the file ends
_TOO_MUCH = "its metadata asks for more than this tool's limits allow; export the photo again without it"


class MeteredReader(BufferedReader):
    """A file, or its bytes, that counts what is read and reads no more than there is: no length in it is believed."""

    def __init__(self, source: "Path | bytes") -> None:
        self.path = source if isinstance(source, Path) else Path()
        super().__init__(BytesIO(source) if isinstance(source, bytes) else source.open("rb", buffering=0))
        self._bytes_left, self._reads_left = MAX_BYTES, MAX_READS
        self._length = self.seek(0, 2)
        self.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes, as every stream does it.

        Raises:
            BrokenPhotoError: the file asks for too much.
        """
        if size is None or size < 0 or size > _SMALL:
            rest = max(0, self._length - self.tell())
            size = rest if size is None or size < 0 else min(size, rest)
        self._reads_left -= 1
        if self._reads_left < 0:
            raise BrokenPhotoError(_TOO_MUCH)
        self.spend(size)
        return super().read(size)

    def __enter__(self) -> "MeteredReader":
        return self

    def spend(self, count: int) -> None:
        """Count bytes that were read, or that come out of compressed text.

        Raises:
            BrokenPhotoError: the file asks for too much.
        """
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise BrokenPhotoError(_TOO_MUCH)

    @property
    def bytes_left(self) -> int:
        """How much may still be read or unpacked."""
        return self._bytes_left

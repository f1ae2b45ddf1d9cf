"""The photo in memory: pixels, alpha and everything its file says about them. Knows no file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    Pixels = NDArray[Any]  # uint8 or uint16; a union of the two makes every NumPy call a type error


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a photo file says besides its pixels; every field is absent (None or empty) or as the file had it.

    Attributes:
        exif: TIFF structure that begins with `II` or `MM`, without the `Exif` prefix of a JPEG segment.
        icc: the colour profile of the pixels.
        xmp: the XMP packet, UTF-8, with its xpacket wrapper if it had one.
        xmp_extended: second packet that a JPEG stores in pieces when the first is over 64 KB.
        iptc: IPTC-IIM records, without the Photoshop resource around them.
        photoshop: the other Photoshop image resources, without thumbnails.
        dpi: pixels per inch, (x, y).
        comments: free comments (JPEG COM, PNG `Comment`), bytes as stored.
        png_chunks: (type, data) of PNG chunks that no other field holds, and the colour code of AVIF.
        segments: (marker, payload) of a JPEG's application segments that no other field holds.
        video: what lies behind the picture of a motion photo, which its XMP counts from the end of the file.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    xmp_extended: bytes | None = None
    iptc: bytes | None = None
    photoshop: bytes | None = None
    dpi: tuple[float, float] | None = None
    comments: tuple[bytes, ...] = ()
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    segments: tuple[tuple[int, bytes], ...] = ()
    video: bytes | None = None


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the source file was coded, so that `quality=None` can write one that is not worse.

    Attributes:
        tables: JPEG quantisation tables of luma and, if there is colour, chroma; 64 steps, natural order.
        subsampling: JPEG chroma subsampling, `4:4:4`, `4:2:2` or `4:2:0`; rarer ones are told as `4:4:4`.
        lossless: a lossless WebP.
        extra_sample: TIFF ExtraSamples of the alpha channel: 0 unspecified, 2 transparency.
    """

    tables: tuple[tuple[int, ...], ...] = ()
    subsampling: str | None = None
    lossless: bool = False
    extra_sample: int = 2


@dataclass(frozen=True, slots=True)
class Header:
    """What can be known without decoding a pixel.

    Attributes:
        width, height: as stored, before `orientation` is applied.
        file_format: told by whoever knows the file's first bytes, not by its parser.
        bits: per channel.
        orientation: EXIF 1-8 that still has to be applied to the decoded pixels.
        turned: the EXIF orientation that the decoder applies by itself; `width` and `height` are after that.
        palette: pixels are indices; whether it is grey is seen only after decoding.
        grey: one colour channel.
        alpha: there is an alpha channel, or may be one.
        limited_grey: black is 16 and white 235 of 255, which decoders mind in colour photos only.
        left_out: what of the file belongs to the old pixels and has no place here, in words.
        mended: what of the file was damaged and could be put right, in words.
    """

    width: int
    height: int
    file_format: str = ""
    bits: int = 8
    orientation: int = 1
    turned: int = 1
    palette: bool = False
    grey: bool = False
    alpha: bool = False
    limited_grey: bool = False
    metadata: Metadata = field(default_factory=Metadata)
    encoding: Encoding = field(default_factory=Encoding)
    left_out: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()

    @property
    def shown_size(self) -> tuple[int, int]:
        """(width, height) once the orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """One photo, the right way up.

    Attributes:
        pixels: (H, W, 3) uint8 or uint16 over the full range of the type, encoded as the photo's own profile
            says (sRGB without one), orientation applied.
        alpha: (H, W) of the same type, or None.
        grey: stored as one channel; the three channels of `pixels` are then equal, and their rounded mean is
            written back as one channel.
        file_format: `jpeg`, `png`, `tiff`, `webp`, `avif`, `heif` or `raw`, by content and not by suffix.
        notes: what its owner should know about how it was read.
    """

    pixels: Pixels
    alpha: Pixels | None
    grey: bool
    metadata: Metadata
    file_format: str
    encoding: Encoding = field(default_factory=Encoding)
    notes: tuple[str, ...] = ()

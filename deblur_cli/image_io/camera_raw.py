"""The two kinds that need an extra: HEIC by pillow-heif and camera RAW by rawpy. Read only."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from deblur_cli.image_io import bmff_items, exif_builder, ifd, jpeg_container, tiff_container
from deblur_cli.image_io.faults import PARSER_FAULTS, BrokenPhotoError, read_exactly
from deblur_cli.image_io.limits import MeteredReader
from deblur_cli.image_io.photo import Header, Metadata

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from deblur_cli.image_io.photo import Pixels

HEIF_HINT = "pip install 'deblur-cli[heif]'"
RAW_HINT = "pip install 'deblur-cli[raw]'"
_SRGB_CURVE = (2.4, 12.92)
_FLIPS = {3: 3, 5: 8, 6: 6}  # LibRaw's numbers of what it turns, as EXIF orientations
_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # Adobe XMP Specification Part 3, §1.2.7


def decode_heif(path: Path) -> tuple[Pixels, int]:
    """(H, W, 1-4), uint8, or uint16 left-aligned for 10 and 12 bit, and the bits; the file's own turns are applied.

    Raises:
        BrokenPhotoError: damaged, or pillow-heif is not installed.
    """
    try:
        import pillow_heif  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError as fault:
        raise BrokenPhotoError(f"reading HEIC needs an extra: {HEIF_HINT}") from fault
    import numpy as np

    try:
        image = pillow_heif.open_heif(path, convert_hdr_to_8bit=False)
        bits = int(image.info.get("bit_depth", 8))
        planes: Pixels = np.array(image)  # a copy: the library's own bytes may not be written to
    except (ValueError, OSError, EOFError, RuntimeError, SyntaxError) as fault:
        reason = f"it is damaged or cut short ({fault}); copy it again from its source"
        raise BrokenPhotoError(reason) from fault
    return planes[..., np.newaxis] if planes.ndim == 2 else planes, max(bits, 10) if planes.dtype == np.uint16 else 8


def open_raw(path: Path) -> Any:
    """An open rawpy file, to be used in a `with`.

    Raises:
        BrokenPhotoError: not a RAW file that LibRaw knows, or rawpy is not installed.
    """
    try:
        import rawpy  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError as fault:
        raise BrokenPhotoError(f"reading camera RAW needs an extra: {RAW_HINT}") from fault
    try:
        return rawpy.imread(str(path))
    except (rawpy.LibRawError, OSError) as fault:
        raise BrokenPhotoError(f"LibRaw cannot read it ({_text(fault)}); convert it to TIFF first") from fault


def decode_raw(path: Path) -> tuple[NDArray[np.uint16], bytes]:
    """Developed pixels, (H, W, 3) uint16, sRGB-encoded, the right way up, and their profile.

    White balance is the camera's; brightness is LibRaw's automatic one (1 % of the pixels may clip).

    Raises:
        BrokenPhotoError: damaged, or rawpy is not installed.
    """
    with open_raw(path) as raw:
        import rawpy

        try:
            developed: NDArray[np.uint16] = raw.postprocess(output_bps=16, use_camera_wb=True, gamma=_SRGB_CURVE)
        except rawpy.LibRawError as fault:
            raise BrokenPhotoError(f"LibRaw cannot develop it ({_text(fault)}); convert it to TIFF first") from fault
    from PIL import ImageCms

    return developed, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def read_raw_header(stream: BinaryIO, path: Path) -> Header:
    """Size as developed, and the metadata; the pixels come out of LibRaw turned, so orientation is 1."""
    with open_raw(path) as raw:
        sizes = raw.sizes
        turned = _FLIPS.get(sizes.flip, 1)
        width, height = (sizes.iwidth, sizes.iheight)[:: -1 if turned >= 5 else 1]
        metadata = _read_tiff_like(stream)
        preview = _read_preview(raw) if metadata.exif is None else Metadata()
    metadata = replace(
        metadata,
        exif=metadata.exif or preview.exif,
        xmp=metadata.xmp or preview.xmp or _read_canon_packet(stream),
        iptc=metadata.iptc or preview.iptc,
    )
    return Header("raw", width, height, bits=16, turned=turned, metadata=metadata)


def _read_tiff_like(stream: BinaryIO) -> Metadata:
    """The metadata of a RAW file that is built like a TIFF; empty for the others."""
    try:
        layout = ifd.read_layout(stream)
        directory = ifd.read_directory(stream, layout, layout.first)
        blob = exif_builder.build_blob(stream, layout, directory, raw=True)
        return replace(tiff_container.read_words(stream, layout, directory), exif=blob)
    except (BrokenPhotoError, *PARSER_FAULTS):
        return Metadata()


def _read_preview(raw: Any) -> Metadata:
    """That of the embedded JPEG preview; cameras that do not build TIFFs put it there."""
    import rawpy

    with contextlib.suppress(rawpy.LibRawError, BrokenPhotoError, *PARSER_FAULTS):
        preview = raw.extract_thumb()
        if preview.format == rawpy.ThumbFormat.JPEG:
            return jpeg_container.read_header(MeteredReader(preview.data)).metadata
    return Metadata()


def _read_canon_packet(stream: BinaryIO) -> bytes | None:
    """The XMP of a CR3, which is built like a film: a box of its own, known by its UUID."""
    with contextlib.suppress(BrokenPhotoError, *PARSER_FAULTS):
        for kind, start, size in bmff_items.walk_file(stream):
            stream.seek(start)
            if kind == b"uuid" and read_exactly(stream, 16) == _XMP_BOX:
                return read_exactly(stream, size - 16).rstrip(b"\0") or None
    return None


def _text(fault: Exception) -> str:
    reason = fault.args[0] if fault.args else fault
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)

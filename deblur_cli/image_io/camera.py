"""The two kinds that need an extra: HEIC by pillow-heif and camera RAW by rawpy. Read only."""

from __future__ import annotations

import contextlib
import struct
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

from deblur_cli.image_io import exif_builder, ifd, jpeg_container
from deblur_cli.image_io.faults import BrokenPhotoError
from deblur_cli.image_io.photo import Header, Metadata

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from deblur_cli.image_io.photo import Pixels

HEIF_HINT = "pip install 'deblur-cli[heif]'"
RAW_HINT = "pip install 'deblur-cli[raw]'"
_SRGB_CURVE = (2.4, 12.92)


def decode_heif(path: Path) -> Pixels:
    """(H, W, 3-4), uint8, or uint16 over the full range for 10 and 12 bit; the file's own turns are applied.

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
        planes: Pixels = np.asarray(image)
    except (ValueError, OSError, EOFError, RuntimeError, SyntaxError) as fault:
        reason = f"it is damaged or cut short ({fault}); copy it again from its source"
        raise BrokenPhotoError(reason) from fault
    if planes.dtype == np.uint16:
        spread: Pixels = planes | planes >> np.uint16(max(bits, 10))
        return spread
    return planes[..., np.newaxis] if planes.ndim == 2 else planes


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
    """Size as developed, and the EXIF; the pixels come out of LibRaw turned, so orientation is 1."""
    with open_raw(path) as raw:
        sizes = raw.sizes
        quarter_turned = sizes.flip in (5, 6)
        width, height = (sizes.iwidth, sizes.iheight)[:: -1 if quarter_turned else 1]
        blob = _read_tiff_like(stream) or _read_preview(raw)
    metadata = Metadata(exif=blob, dpi=None)
    return Header("raw", width, height, bits=16, quarter_turned=quarter_turned, metadata=metadata)


def _read_tiff_like(stream: BinaryIO) -> bytes | None:
    """The EXIF of a RAW file that is built like a TIFF; None for the others."""
    try:
        layout = ifd.read_layout(stream)
        directory = ifd.read_directory(stream, layout, layout.first)
        return exif_builder.build_blob(stream, layout, directory, raw=True)
    except (BrokenPhotoError, struct.error):
        return None


def _read_preview(raw: Any) -> bytes | None:
    """The EXIF of the embedded JPEG preview; cameras that do not build TIFFs put it there."""
    import rawpy

    with contextlib.suppress(rawpy.LibRawError, BrokenPhotoError):
        preview = raw.extract_thumb()
        if preview.format == rawpy.ThumbFormat.JPEG:
            return jpeg_container.read_header(BytesIO(preview.data)).metadata.exif
    return None


def _text(fault: Exception) -> str:
    reason = fault.args[0] if fault.args else fault
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)

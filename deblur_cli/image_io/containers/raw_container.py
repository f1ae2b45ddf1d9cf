"""Camera RAW, of many makers; rawpy, an extra, develops it. Read only."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deblur_cli.image_io.containers import bmff_items, jpeg_container, tiff_container
from deblur_cli.image_io.faults import FAULTS, BrokenPhotoError, read_exactly
from deblur_cli.image_io.formats import by_name
from deblur_cli.image_io.limits import MeteredReader
from deblur_cli.image_io.metadata import exif_builder, ifd
from deblur_cli.image_io.photo import Header, Metadata

if TYPE_CHECKING:
    from deblur_cli.image_io.photo import Pixels

_SRGB_CURVE = (2.4, 12.92)
_FLIPS = {3: 3, 5: 8, 6: 6}  # LibRaw's numbers of what it turns, as EXIF orientations
_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # Adobe XMP Specification Part 3, §1.2.7


def read_header(stream: MeteredReader) -> Header:
    """Size as developed, and the metadata; the pixels come out of LibRaw turned, so orientation is 1.

    Raises:
        BrokenPhotoError: not a RAW file that LibRaw knows, or rawpy is not installed.
    """
    with _open(stream.path) as raw:
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
    return Header(width, height, bits=16, turned=turned, metadata=metadata)


def read_xmp(stream: MeteredReader) -> None:
    """Nothing is looked for: no RAW file is a result of this tool."""


def decode(path: Path, header: Header) -> tuple[Pixels, Header]:
    """Developed pixels, (H, W, 3) uint16, sRGB-encoded, the right way up, and their profile.

    White balance is the camera's; brightness is LibRaw's automatic one (1 % of the pixels may clip).

    Raises:
        BrokenPhotoError: damaged, or rawpy is not installed.
    """
    with _open(path) as raw:
        import rawpy

        try:
            developed: Pixels = raw.postprocess(output_bps=16, use_camera_wb=True, gamma=_SRGB_CURVE)
        except rawpy.LibRawError as fault:
            raise BrokenPhotoError(f"LibRaw cannot develop it ({_text(fault)}); convert it to TIFF first") from fault
    from PIL import ImageCms

    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return developed, replace(header, metadata=replace(header.metadata, icc=icc))


def _open(path: Path) -> Any:
    """An open rawpy file, to be used in a `with`."""
    rawpy = by_name("raw").load_engine()
    try:
        return rawpy.imread(str(path))
    except (rawpy.LibRawError, OSError) as fault:
        raise BrokenPhotoError(f"LibRaw cannot read it ({_text(fault)}); convert it to TIFF first") from fault


def _read_tiff_like(stream: MeteredReader) -> Metadata:
    """The metadata of a RAW file that is built like a TIFF; empty for the others."""
    try:
        directory = ifd.read_first(stream)
        blob = exif_builder.build_blob(directory, raw=True)
        return replace(tiff_container.read_words(directory), exif=blob)
    except FAULTS:
        return Metadata()


def _read_preview(raw: Any) -> Metadata:
    """That of the embedded JPEG preview; cameras that do not build TIFFs put it there."""
    import rawpy

    with contextlib.suppress(rawpy.LibRawError, *FAULTS):
        preview = raw.extract_thumb()
        if preview.format == rawpy.ThumbFormat.JPEG:
            return jpeg_container.read_header(MeteredReader(preview.data)).metadata
    return Metadata()


def _read_canon_packet(stream: MeteredReader) -> bytes | None:
    """The XMP of a CR3, which is built like a film: a box of its own, known by its UUID."""
    with contextlib.suppress(*FAULTS):
        for kind, start, size in bmff_items.walk_file(stream):
            stream.seek(start)
            if kind == b"uuid" and read_exactly(stream, 16) == _XMP_BOX:
                return read_exactly(stream, size - 16).rstrip(b"\0") or None
    return None


def _text(fault: Exception) -> str:
    reason = fault.args[0] if fault.args else fault
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)

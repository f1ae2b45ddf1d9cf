"""What a photographer reads of a photo's EXIF in one line. Knows no container."""

import struct
from fractions import Fraction

from deblur_cli.image_io.faults import FAULTS
from deblur_cli.image_io.metadata import ifd
from deblur_cli.image_io.metadata.exif import EXIF_IFD

_MODEL, _TAKEN, _EXPOSURE, _APERTURE, _ISO, _FOCAL = 0x0110, 0x9003, 0x829A, 0x829D, 0x8827, 0x920A


def describe_exif(exif: bytes | None) -> str:
    """Camera, focal length, aperture, exposure time, sensitivity and moment, as far as they are told."""
    try:
        first = ifd.open_blob(exif)
    except FAULTS:
        return ""
    try:
        below: ifd.Directory | None = first.read_at(first.number(EXIF_IFD, 0))
    except FAULTS:
        below = None
    parts = [_text(first, _MODEL)]
    if below is not None:
        focal, aperture, exposure = (_ratio(below, tag) for tag in (_FOCAL, _APERTURE, _EXPOSURE))
        iso = below.number(_ISO, 0)
        parts += [f"{float(focal):g} mm" if focal else "", f"f/{float(aperture):.2g}" if aperture else ""]
        parts += [_describe_exposure(exposure) if exposure else "", f"ISO {iso}" if iso else "", _text(below, _TAKEN)]
    return " · ".join(filter(None, parts))


def _describe_exposure(seconds: Fraction) -> str:
    return f"{float(seconds):.2g} s" if seconds >= Fraction(3, 10) else f"1/{round(1 / seconds)} s"


def _text(directory: ifd.Directory, tag: int) -> str:
    try:
        raw = directory.value(tag) or b""
    except FAULTS:
        return ""
    text = raw.split(b"\0")[0].decode("utf-8", "replace").strip()
    return "".join(letter for letter in text[:80] if letter.isprintable())


def _ratio(directory: ifd.Directory, tag: int) -> Fraction | None:
    entry = directory.entries.get(tag)
    if entry is None or entry.kind != ifd.RATIONAL:
        return None
    try:
        raw = directory.value(tag) or b""
    except FAULTS:
        return None
    if len(raw) != 8 or not any(raw[:4]) or not any(raw[4:]):
        return None
    return Fraction(*struct.unpack(directory.layout.order + "II", raw))

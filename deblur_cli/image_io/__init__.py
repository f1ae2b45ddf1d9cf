"""Photo files in and out: pixels at full depth, the right way up, with every byte of their metadata.

This package knows formats and metadata; it knows no network, no tensor and no command line. A name is imported when
it is first asked for, so that the table of formats costs a help text nothing; NumPy, Pillow and libvips wait for the
first photo.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deblur_cli.image_io.abilities import codec_report
    from deblur_cli.image_io.fitting import find_losses, find_misfit
    from deblur_cli.image_io.formats import default_suffix, find_format, same_format, writable_formats
    from deblur_cli.image_io.photo import Encoding, Metadata, Photo
    from deblur_cli.image_io.reading import probe_size, read_header, read_photo, read_stamp
    from deblur_cli.image_io.writing import check_fit, write_photo

_HOMES = {
    **dict.fromkeys(["find_losses", "find_misfit"], "fitting"),
    **dict.fromkeys(["default_suffix", "find_format", "same_format", "writable_formats"], "formats"),
    **dict.fromkeys(["Encoding", "Metadata", "Photo"], "photo"),
    **dict.fromkeys(["probe_size", "read_header", "read_photo", "read_stamp"], "reading"),
    **dict.fromkeys(["check_fit", "write_photo"], "writing"),
    "codec_report": "abilities",
}
__all__ = [
    "Encoding", "Metadata", "Photo", "check_fit", "codec_report", "default_suffix", "find_format", "find_losses",
    "find_misfit", "probe_size", "read_header", "read_photo", "read_stamp", "same_format", "writable_formats",
    "write_photo",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

"""Photo files in and out: pixels at full depth, the right way up, with every byte of their metadata.

This package knows formats and metadata; it knows no network, no tensor and no command line. Importing it is
cheap: NumPy, Pillow and libvips are imported by the first call that needs them.
"""

from deblur_cli.image_io.abilities import codec_report
from deblur_cli.image_io.fitting import find_losses, find_misfit
from deblur_cli.image_io.formats import WRITABLE_FORMATS, default_suffix, find_format, same_format
from deblur_cli.image_io.photo import Encoding, Metadata, Photo
from deblur_cli.image_io.reading import MAX_MEGAPIXELS, probe_size, read_header, read_photo, read_stamp
from deblur_cli.image_io.writing import check_fit, write_photo

__all__ = [
    "MAX_MEGAPIXELS",
    "WRITABLE_FORMATS",
    "Encoding",
    "Metadata",
    "Photo",
    "check_fit",
    "codec_report",
    "default_suffix",
    "find_format",
    "find_losses",
    "find_misfit",
    "probe_size",
    "read_header",
    "read_photo",
    "read_stamp",
    "same_format",
    "write_photo",
]

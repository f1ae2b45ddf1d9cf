"""Which formats this installation can read and write, in words. Opens no photo."""

from importlib.util import find_spec

from deblur_cli.image_io import formats
from deblur_cli.image_io.faults import BrokenPhotoError
from deblur_cli.image_io.formats import Format


def codec_report() -> dict[str, str]:
    """Format -> what works here, such as `read, write, 8/16 bit`, or `not available: pip install ...`."""
    from deblur_cli.image_io import vips

    try:
        by_vips = set(vips.load_engine().get_suffixes())
    except BrokenPhotoError:
        by_vips = set()
    return {row.name: _describe(row, by_vips) for row in formats.FORMATS}


def _describe(row: Format, by_vips: set[str]) -> str:
    from PIL import features

    module, hint = row.engine
    if not (row.suffixes[0] in by_vips if module == "pyvips" else find_spec(module)):
        return f"not available: {hint}"
    writer = row.writer if row.writer and (not row.writer.coder or features.check(row.writer.coder)) else None
    if row.writer and row.writer.depths != row.depths:
        return f"read {_bits(row.depths)}" + (f", write {_bits(writer.depths)}" if writer else "")
    return f"read, {'write, ' if writer else ''}{_bits(row.depths)}"


def _bits(depths: tuple[int, ...]) -> str:
    return "/".join(map(str, depths)) + " bit"

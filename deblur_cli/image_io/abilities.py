"""Which formats this installation can read and write, in words. Opens no photo."""

from importlib.util import find_spec

from deblur_cli.image_io import camera_raw as camera
from deblur_cli.image_io.faults import BrokenPhotoError


def codec_report() -> dict[str, str]:
    """Format -> what works here, such as `read, write, 8/16 bit`, or `not available: pip install ...`."""
    return _plain_formats() | {
        "heif": "read, 8/10/12 bit" if find_spec("pillow_heif") else f"not available: {camera.HEIF_HINT}",
        "raw": "read, 16 bit" if find_spec("rawpy") else f"not available: {camera.RAW_HINT}",
    }


def _plain_formats() -> dict[str, str]:
    from PIL import features

    from deblur_cli.image_io import vips

    try:
        readable = set(vips.load_engine().get_suffixes())
    except BrokenPhotoError:
        readable = set()
    missing = "not available: pip install 'pyvips[binary]'"
    report = {}
    for name, suffix, depth, writes in (
        ("jpeg", ".jpg", "8 bit", features.check("jpg")),
        ("png", ".png", "8/16 bit", True),
        ("tiff", ".tif", "8/16 bit", True),
        ("webp", ".webp", "8 bit", features.check("webp")),
        ("avif", ".avif", "read 8/10/12 bit, write 8 bit", features.check("avif")),
    ):
        depth_read = depth if writes else depth.removesuffix(", write 8 bit")
        verbs = "" if depth.startswith("read") else ("read, write, " if writes else "read, ")
        report[name] = verbs + depth_read if suffix in readable else missing
    return report

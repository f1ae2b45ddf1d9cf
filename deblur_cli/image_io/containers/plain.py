"""What a container does that libvips reads as it is, and that has room for all metadata that it holds at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from deblur_cli.image_io.photo import Header, Metadata, Pixels


def decode(path: Path, header: Header) -> tuple[Pixels, Header]:
    """Stored pixels; in files of boxes, turned as these say."""
    from deblur_cli.image_io import vips

    return vips.decode(path), header


def check(metadata: Metadata) -> None:
    """Nothing can be too long."""

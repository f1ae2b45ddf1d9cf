"""The table of formats: every row keeps the contract, and a new row with its file is all that a new format takes."""

import inspect
import struct
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from support import photo_factory as factory

from deblur_cli import image_io
from deblur_cli.batch.inputs import PhotoSearch, find_photos
from deblur_cli.batch.naming import Layout, names_a_file
from deblur_cli.batch.plan import build_plan
from deblur_cli.batch.stamp import Stamp
from deblur_cli.commands import options
from deblur_cli.errors import PhotoError
from deblur_cli.image_io import formats
from deblur_cli.image_io.formats import Container, Format, Holds, Writer
from deblur_cli.image_io.photo import Header, Metadata


@pytest.mark.parametrize("row", formats.FORMATS, ids=lambda row: row.name)
def test_every_container_keeps_the_contract(row: Format) -> None:
    for name, promise in inspect.getmembers(Container, inspect.isfunction):
        if not name.startswith("_") and (row.writer or name not in ("encode", "check")):
            wanted = list(inspect.signature(promise).parameters)[1:]
            assert list(inspect.signature(getattr(row.container, name)).parameters) == wanted, name


def test_no_two_formats_claim_one_suffix_or_option() -> None:
    suffixes = [suffix for row in formats.FORMATS for suffix in row.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert len(formats.writable_formats()) == sum(row.writer is not None for row in formats.FORMATS)
    assert ("same", *formats.writable_formats()) == options.FORMATS


def test_what_is_not_written_becomes_something_that_is() -> None:
    for row in formats.FORMATS:
        assert formats.same_format(row.name) in formats.writable_formats().values()


def _toy() -> ModuleType:
    """A format of two sizes and bare RGB, as its file of code."""
    module = ModuleType("deblur_cli.image_io.containers.toy_container")

    def read_header(stream) -> Header:
        stream.seek(4)
        return Header(*struct.unpack("<HH", stream.read(4)))

    def decode(path: Path, header: Header):
        return np.frombuffer(path.read_bytes()[8:], np.uint8).reshape(header.height, header.width, 3), header

    def encode(photo, quality) -> bytes:
        height, width = photo.pixels.shape[:2]
        return b"TOY!" + struct.pack("<HH", width, height) + photo.pixels.tobytes()

    members = {"read_header": read_header, "read_xmp": lambda stream: None, "decode": decode, "encode": encode}
    module.__dict__.update(members, check=lambda metadata: None)
    return module


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer("toy", (8,), Holds.GREY, least_bytes=3, longest_side=50)
    row = Format("toy", "Toy", (".toy", ".gif"), (8,), lambda head: head[:4] == b"TOY!", writer, engine=("sys", ""))
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, row))
    monkeypatch.setitem(sys.modules, "deblur_cli.image_io.containers.toy_container", _toy())


@pytest.mark.usefixtures("toy")
def test_a_new_row_is_read_and_written(tmp_path: Path) -> None:
    photo, path = factory.make_photo(), tmp_path / "a.TOY"
    image_io.write_photo(photo, path, file_format="toy", quality=None, stamp=None, times_of=None)
    back = image_io.read_photo(path)
    assert (back.file_format, image_io.probe_size(path), image_io.read_stamp(path)) == ("toy", (32, 24), None)
    np.testing.assert_array_equal(back.pixels, photo.pixels)
    image_io.write_photo(back, tmp_path / "b.png", file_format="png", quality=None, stamp=None, times_of=None)
    np.testing.assert_array_equal(image_io.read_photo(tmp_path / "b.png").pixels, photo.pixels)


@pytest.mark.usefixtures("toy")
def test_a_new_row_is_planned_named_checked_and_reported(tmp_path: Path) -> None:
    image_io.write_photo(
        factory.make_photo(), tmp_path / "a.toy", file_format="toy", quality=None, stamp=None, times_of=None
    )
    assert names_a_file(str(tmp_path / "out.gif"), single_file=True)  # no longer one of the pictures of others
    found = find_photos([str(tmp_path)], [], PhotoSearch(recursive=False, excluded=None))
    for file_format, name in (("same", "a.toy"), ("toy", "a.toy"), ("jpg", "a.jpg")):
        layout = Layout(tmp_path / "out", False, file_format, "{stem}{ext}", "expert")
        (job,) = build_plan(found, layout, Stamp("expert", {}, {}), overwrite=False).jobs
        assert (job.output.name, job.misfit, job.width) == (name, "", 32)
    clear, deep = factory.make_photo(alpha=True), factory.make_photo(deep=True, metadata=Metadata(comments=(b"a",)))
    with pytest.raises(PhotoError, match="it has transparency, which Toy cannot hold"):
        image_io.check_fit(clear, tmp_path / "a.png", file_format="toy")
    assert image_io.find_losses(deep, "toy") == ("16 bit", "comments")
    assert image_io.codec_report()["toy"] == "read, write, 8 bit"

"""The EXIF blob is patched in place or left alone, and rebuilt from a TIFF without moving its MakerNote."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational
from support import photo_factory as factory

from deblur_cli.image_io.metadata import exif, exif_builder, ifd
from deblur_cli.image_io.metadata.exif_line import describe_exif
from deblur_cli.image_io.metadata.turning import Turn

both_orders = pytest.mark.parametrize("order", ["<", ">"])


def _changed_bytes(before: bytes, after: bytes) -> list[int]:
    assert len(before) == len(after)
    return [at for at in range(len(before)) if before[at] != after[at]]


@both_orders
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_read_in_both_byte_orders(order: str, orientation: int) -> None:
    assert exif.read_orientation(factory.make_exif(orientation, order)) == orientation


@both_orders
def test_settling_a_half_turn_changes_the_orientation_and_the_thumbnail_link_only(order: str) -> None:
    blob = factory.make_exif(3, order)
    settled = exif.settle(blob, Turn(3, 32, 24))
    link = 8 + 2 + 7 * 12
    orientation_value = 8 + 2 + 12 + 8
    changed = _changed_bytes(blob, settled)
    assert set(changed) <= {orientation_value, orientation_value + 1, *range(link, link + 4)}
    assert settled[link : link + 4] == bytes(4)
    assert exif.read_orientation(settled) == 1


@both_orders
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_settling_a_quarter_turn_swaps_the_dimensions(order: str, orientation: int) -> None:
    settled = exif.settle(factory.make_exif(orientation, order, size=(32, 24)), Turn(orientation, 32, 24))
    root = ifd.open_blob(settled)
    below = root.read_at(root.number(exif.EXIF_IFD, 0))
    assert [below.numbers(tag) for tag in (exif.PIXEL_X_DIMENSION, exif.PIXEL_Y_DIMENSION)] == [(24,), (32,)]
    assert factory.find_maker_note(settled) == factory.find_maker_note(factory.make_exif())
    assert root.next_offset == 0


@pytest.mark.parametrize(
    "blob", [b"", b"II*\0", b"garbage that is no TIFF", factory.make_exif()[:60], b"II*\0\xff\xff\0\0"]
)
def test_damaged_blobs_are_left_alone(blob: bytes) -> None:
    assert exif.read_orientation(blob) == 1
    assert exif.read_dpi(blob) is None
    assert exif.settle(blob, Turn(6, 32, 24)) == blob


@settings(deadline=None, database=None, max_examples=60)
@given(st.binary(max_size=120), st.integers(1, 8))
def test_no_bytes_make_the_patcher_fail_or_change_their_length(tail: bytes, orientation: int) -> None:
    for head in (b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b""):
        assert len(exif.settle(head + tail, Turn(orientation, 32, 24))) == len(head + tail)
        assert 1 <= exif.read_orientation(head + tail) <= 8
        exif.with_dpi(head + tail, (72.0, 72.0))


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_nonsense_orientations_count_as_1(orientation: int) -> None:
    assert exif.read_orientation(factory.make_exif(orientation)) == 1


@pytest.mark.parametrize("dpi", [(300.0, 300.0), (72.5, 96.0), (299.9994, 299.9994)])
def test_dpi_put_into_a_blob_is_read_back(dpi: tuple[float, float]) -> None:
    assert exif.read_dpi(exif.with_dpi(None, dpi)) == pytest.approx(dpi, abs=0.001)
    assert exif.with_dpi(factory.make_exif(), dpi) == factory.make_exif()


@both_orders
@pytest.mark.parametrize("shift", [0, 600, 20_000])
def test_blob_rebuilt_from_a_tiff_keeps_a_nearby_maker_note_in_place(order: str, shift: int) -> None:
    blob = factory.make_exif(order=order)
    moved = bytearray(blob) + bytes(shift)
    if shift:
        at = blob.index(factory.MAKER_NOTE)
        moved[at : at + len(factory.MAKER_NOTE)] = bytes(len(factory.MAKER_NOTE))
        moved += factory.MAKER_NOTE
        entry = blob.index(b"\x7c\x92" if order == "<" else b"\x92\x7c") + 8
        moved[entry : entry + 4] = (len(blob) + shift).to_bytes(4, "little" if order == "<" else "big")
    rebuilt = exif_builder.build_blob(ifd.open_blob(bytes(moved)))
    assert rebuilt is not None
    assert factory.find_maker_note(rebuilt) == (factory.MAKER_NOTE, bytes(moved).index(factory.MAKER_NOTE))
    assert exif.read_dpi(rebuilt) == (300.0, 300.0)


@pytest.mark.parametrize(
    ("ratio", "told"),
    [
        (IFDRational, "X100V · 23 mm · f/2.8 · 1/8 s · ISO 800 · 2024:05:06 18:22:00"),
        (float, "X100V · ISO 800 · 2024:05:06 18:22:00"),
    ],
)
def test_a_photographer_reads_one_line_of_it_and_nothing_that_is_no_ratio(ratio: type, told: str) -> None:
    blob = Image.Exif()
    blob[0x0110] = "X100V"
    numbers = {0x829A: ratio(0.125), 0x829D: ratio(2.8), 0x8827: 800, 0x920A: ratio(23.0)}
    blob.get_ifd(0x8769).update({**numbers, 0x9003: "2024:05:06 18:22:00"})
    assert describe_exif(blob.tobytes().removeprefix(b"Exif\0\0")) == told
    assert describe_exif(b"MM") == describe_exif(None) == ""

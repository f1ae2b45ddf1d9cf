"""The stamp goes into a packet and comes back; nobody else's byte is touched."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import photo_factory as factory

from deblur_cli import image_io
from deblur_cli.image_io.metadata import xmp

HOSTILE = [
    "model=\"a\" & <b> 'c'",
    "]]> --> ?> <!-- &#0; &amp;",
    "tab\tline\nreturn\r",
    "zero \0 bell \x07 and a lone surrogate \ud800",
    "back\\slash \\u{41} \\\\",
    "ünïcödé 🙂 \ufffe \u2028",
    "",
    "  spaces  ",
    "x" * 20_000,
]
RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
MALFORMED = [b"not xml", b"<x:xmpmeta>", factory.XMP[:-60], factory.XMP.replace(b"</dc:title>", b""), b"\xff\xfe<\0r\0"]


@pytest.mark.parametrize("recipe", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("file_format", factory.ALL_FORMATS)
def test_stamp_comes_back_from_every_format(tmp_path: Path, file_format: str, recipe: str) -> None:
    photo = factory.make_photo(metadata=image_io.Metadata(xmp=factory.XMP))
    image_io.write_photo(photo, tmp_path / "a", file_format=file_format, quality=50, stamp=recipe, times_of=None)
    assert image_io.read_stamp(tmp_path / "a") == recipe


@pytest.mark.parametrize("file_format", factory.ALL_FORMATS)
def test_photo_without_xmp_gets_a_new_packet_with_the_stamp(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "a"
    image_io.write_photo(factory.make_photo(), path, file_format=file_format, quality=50, stamp="r", times_of=None)
    assert image_io.read_stamp(path) == "r"
    packet = image_io.read_photo(path).metadata.xmp or b""
    assert packet.startswith(b"<?xpacket begin=")
    assert packet.endswith(b'<?xpacket end="w"?>')


@settings(deadline=None, database=None, max_examples=60)
@given(st.text())
def test_any_text_comes_back_and_the_packet_only_grows_by_one_insertion(recipe: str) -> None:
    merged = xmp.merge_stamp(factory.XMP, recipe)
    assert xmp.find_stamp(merged) == recipe
    grown = len(merged) - len(factory.XMP)
    at = factory.XMP.rindex(b"</rdf:RDF>")
    assert merged[:at] + merged[at + grown :] == factory.XMP
    assert xmp.erase_stamp(merged) == factory.XMP


@settings(deadline=None, database=None, max_examples=60)
@given(st.text(), st.text())
def test_second_stamp_replaces_the_first(first: str, second: str) -> None:
    for packet in (None, factory.XMP):
        assert xmp.merge_stamp(xmp.merge_stamp(packet, first), second) == xmp.merge_stamp(packet, second)


def test_stamp_is_about_the_same_subject_as_the_rest_of_the_packet() -> None:
    root = ElementTree.fromstring(xmp.merge_stamp(factory.XMP, "r"))
    name = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
    assert {part.get(f"{name}about") for part in root.iter(f"{name}Description")} == {"uuid:7"}


@pytest.mark.parametrize(
    "packet",
    [
        '<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></r:RDF>',
        '<RDF xmlns="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></RDF>',
        f"<rdf:RDF {RDF}/>",
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {RDF}>\n</rdf:RDF  ></x:xmpmeta>',
        f"\ufeff<rdf:RDF {RDF}></rdf:RDF>\0\0",
    ],
)
def test_any_rdf_prefix_and_form_takes_a_stamp(packet: str) -> None:
    merged = xmp.merge_stamp(packet.encode(), "<r>")
    assert xmp.find_stamp(merged) == "<r>"


@pytest.mark.parametrize(
    "description",
    [
        "<rdf:Description rdf:about='' xmlns:d='{}'><d:recipe>old</d:recipe></rdf:Description>",
        '<rdf:Description xmlns:d="{}" d:recipe="old" rdf:about="" d:other="kept"/>',
    ],
)
def test_stamp_rewritten_by_another_program_is_read_and_replaced(description: str) -> None:
    packet = f"<rdf:RDF {RDF}>{description.format(xmp.NAMESPACE)}</rdf:RDF>".encode()
    assert xmp.find_stamp(packet) == "old"
    merged = xmp.merge_stamp(packet, "new")
    assert xmp.find_stamp(merged) == "new"
    assert b"old" not in merged
    assert merged.count(b"other") == packet.count(b"other")


@pytest.mark.parametrize("packet", MALFORMED)
def test_malformed_packet_is_kept_as_it_is_without_a_stamp(packet: bytes) -> None:
    assert xmp.merge_stamp(packet, "r") == packet
    assert xmp.erase_stamp(packet) == packet
    assert xmp.find_stamp(packet) is None


def test_malformed_packet_does_not_stop_a_photo(tmp_path: Path) -> None:
    photo = factory.make_photo(metadata=image_io.Metadata(xmp=MALFORMED[3]))
    image_io.write_photo(photo, tmp_path / "a.jpg", file_format="jpeg", quality=None, stamp="r", times_of=None)
    assert image_io.read_photo(tmp_path / "a.jpg").metadata.xmp == MALFORMED[3]
    assert image_io.read_stamp(tmp_path / "a.jpg") is None


def test_entity_bomb_is_not_expanded() -> None:
    bomb = f'<!DOCTYPE r [<!ENTITY a "aaaa">]><rdf:RDF {RDF} xmlns:d="{xmp.NAMESPACE}" d:recipe="&a;"/>'
    assert xmp.find_stamp(bomb.encode()) is None


def test_writing_without_a_stamp_removes_one_that_no_longer_is_true(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for stamp, packet in (("r", factory.XMP), (None, factory.XMP), ("r", None), (None, None)):
        photo = factory.make_photo(metadata=image_io.Metadata(xmp=packet))
        if stamp is None:
            photo = image_io.read_photo(path)
        image_io.write_photo(photo, path, file_format="png", quality=None, stamp=stamp, times_of=None)
        assert image_io.read_stamp(path) == stamp
    assert image_io.read_photo(path).metadata.xmp is None


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"RIFF", b"II*\0\xff\xff\xff\xff", b"hello" * 20])
def test_reading_a_stamp_never_fails(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert image_io.read_stamp(tmp_path / "a") is None
    assert image_io.read_stamp(tmp_path / "missing") is None
    assert image_io.read_stamp(tmp_path) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'tiff:Orientation="6"', b'tiff:Orientation="1"'),
        (b"tiff:Orientation = '8'", b"tiff:Orientation = '1'"),
        (b"tiff:x='6'", b"tiff:x='6'"),
    ],
)
def test_xmp_orientation_is_settled_in_place(before: bytes, after: bytes) -> None:
    packet = factory.XMP.replace(b'tiff:Orientation="1"', before)
    assert xmp.settle_orientation(packet) == factory.XMP.replace(b'tiff:Orientation="1"', after)


def test_xmp_orientation_as_an_element_is_settled_in_place() -> None:
    packet = b'<a xmlns:t="http://ns.adobe.com/tiff/1.0/"><t:Orientation>6</t:Orientation></a>'
    assert xmp.settle_orientation(packet) == packet.replace(b">6<", b">1<")


def test_xmp_orientation_that_was_not_applied_is_not_settled(tmp_path: Path) -> None:
    packet = factory.XMP.replace(b'tiff:Orientation="1"', b'tiff:Orientation="6"')
    factory.save_by_pillow(tmp_path / "a.png", "png", factory.make_pixels(), image_io.Metadata(xmp=packet))
    assert image_io.read_photo(tmp_path / "a.png").metadata.xmp == packet
    metadata = image_io.Metadata(xmp=packet, exif=factory.make_exif(6))
    factory.save_by_pillow(tmp_path / "b.png", "png", factory.make_pixels(), metadata)
    assert image_io.read_photo(tmp_path / "b.png").metadata.xmp == factory.XMP


def test_stamp_takes_the_room_of_the_padding_when_a_jpeg_packet_is_nearly_full(tmp_path: Path) -> None:
    padding = b" " * (65_400 - len(factory.XMP))
    full = factory.XMP.replace(b"<?xpacket end", padding + b"<?xpacket end")
    photo = factory.make_photo(metadata=image_io.Metadata(xmp=full))
    path = tmp_path / "a.jpg"
    image_io.write_photo(photo, path, file_format="jpeg", quality=None, stamp="r" * 400, times_of=None)
    packet = image_io.read_photo(path).metadata.xmp or b""
    assert image_io.read_stamp(path) == "r" * 400
    assert len(packet) == 65_504
    assert b"".join((xmp.erase_stamp(packet) or b"").split()) == b"".join(factory.XMP.split())


def test_packet_without_enough_padding_is_not_cut() -> None:
    assert b"".join(xmp.trim_padding(factory.XMP, 10).split()) == b"".join(factory.XMP.split())
    assert xmp.trim_padding(b"no packet", 3) == b"no packet"

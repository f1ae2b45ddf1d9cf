"""Names of formats, the optional readers, the report for `doctor`, and that importing all this costs nothing."""

import contextlib
import struct
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from support import photo_factory as factory

from deblur_cli import image_io
from deblur_cli.errors import PhotoError
from deblur_cli.image_io.containers import raw_container
from deblur_cli.image_io.limits import MeteredReader
from deblur_cli.image_io.metadata import exif
from deblur_cli.image_io.metadata.turning import Turn


@pytest.mark.parametrize(
    ("name", "file_format"),
    [
        ("a.jpg", "jpeg"),
        ("A.JPEG", "jpeg"),
        ("a.b.Png", "png"),
        ("a.TIF", "tiff"),
        ("a.webp", "webp"),
        ("a.avif", "avif"),
        ("IMG_1.HEIC", "heif"),
        ("a.NEF", "raw"),
        ("a.cr3", "raw"),
        ("a.gif", None),
        ("a", None),
        (".jpg", None),
    ],
)
def test_suffix_tells_the_format(name: str, file_format: str | None) -> None:
    assert image_io.find_format(Path(name)) == file_format


def test_every_writable_format_has_a_suffix_that_means_it() -> None:
    for file_format in image_io.writable_formats().values():
        assert image_io.find_format(Path("a" + image_io.default_suffix(file_format))) == file_format
        assert image_io.same_format(file_format) == file_format
    assert image_io.same_format("heif") == "jpeg"
    assert image_io.same_format("raw") == "tiff"


def test_import_loads_no_heavy_library() -> None:
    code = (
        "import sys, deblur_cli.image_io\n"
        "heavy = {'numpy', 'PIL', 'pyvips', 'torch', 'urllib.request', 'xml.etree'} & set(sys.modules)\n"
        "sys.exit(' '.join(sorted(heavy)) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_heic_without_the_extra_names_the_line_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    factory.save_by_pillow(tmp_path / "a.avif", "avif", factory.make_pixels())
    content = (tmp_path / "a.avif").read_bytes()
    size = int.from_bytes(content[:4], "big")
    brands = content[:size].replace(b"avif", b"heic")
    (tmp_path / "a.heic").write_bytes(brands + content[size:])
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PhotoError, match=r"reading HEIC needs an extra: pip install 'deblur-cli\[heif\]'"):
        image_io.read_photo(tmp_path / "a.heic")


def test_raw_without_the_extra_names_the_line_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.nef").write_bytes(b"MM\0*" + bytes(40))
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(PhotoError, match=r"reading camera RAW needs an extra: pip install 'deblur-cli\[raw\]'"):
        image_io.read_photo(tmp_path / "a.nef")


def test_report_covers_every_format() -> None:
    report = image_io.codec_report()
    assert set(report) == {*image_io.writable_formats().values(), "heif", "raw"}
    assert report["png"] == "read, write, 8/16 bit"
    assert report["jpeg"] == "read, write, 8 bit"
    assert all(text.startswith(("read", "not available: pip install")) for text in report.values())


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_heic_is_read_with_its_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    deep = bits > 8
    pixels = factory.make_pixels(deep=deep)
    monkeypatch.setattr(pillow_heif.options, "SAVE_HDR_TO_12_BIT", bits == 12)
    mode = "RGB;16" if deep else "RGB"
    image = pillow_heif.from_bytes(mode=mode, size=(32, 24), data=pixels.tobytes())
    image.save(tmp_path / "a.heic", quality=95, chroma=444, exif=factory.make_exif(6), xmp=factory.XMP)
    photo = image_io.read_photo(tmp_path / "a.heic")
    assert photo.file_format == "heif"
    assert photo.pixels.dtype == (np.uint16 if deep else np.uint8)
    assert image_io.probe_size(tmp_path / "a.heic") == (24, 32)
    expected = np.rot90(pixels, 3).astype(int)
    assert np.abs(photo.pixels.astype(int) - expected).mean() < (600 if deep else 3)
    assert photo.metadata.xmp == factory.XMP
    assert factory.MAKER_NOTE in (photo.metadata.exif or b"")
    assert photo.metadata.exif == exif.settle(factory.make_exif(6), Turn(6, 32, 24))  # its width is the height now
    content = (tmp_path / "a.heic").read_bytes()
    (tmp_path / "a.heic").write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(PhotoError, match="cut short"):
        image_io.read_photo(tmp_path / "a.heic")


def _make_dng(width: int = 64, height: int = 48) -> bytes:
    """A small RAW photo: 16-bit Bayer samples of one flat colour, uncompressed."""
    samples = np.full((height, width), 20_000, "<u2")
    pixels_at, values_at = 8, 8 + samples.nbytes
    matrix = struct.pack("<18i", *(part for value in np.eye(3).ravel() for part in (int(value * 10_000), 10_000)))
    values = [(0x010F, 2, 5, b"Acme\0"), (0x0110, 2, 6, b"Dummy\0"), (0xC614, 2, 11, b"Acme Dummy\0")]
    values += [(0xC621, 10, 9, matrix), (0xC628, 5, 3, struct.pack("<6I", 1, 1, 1, 1, 1, 1))]
    small = [
        (0x00FE, 4, 1, 0), (0x0100, 4, 1, width), (0x0101, 4, 1, height), (0x0102, 3, 1, 16), (0x0103, 3, 1, 1),
        (0x0106, 3, 1, 32803), (0x0111, 4, 1, pixels_at), (0x0112, 3, 1, 6), (0x0115, 3, 1, 1),
        (0x0116, 4, 1, height), (0x0117, 4, 1, samples.nbytes), (0x011C, 3, 1, 1), (0x828D, 3, 2, 0x00020002),
        (0x828E, 1, 4, 0x02010100), (0xC612, 1, 4, 0x00000401), (0xC61D, 4, 1, 65535), (0xC65A, 3, 1, 21),
    ]  # fmt: skip
    rows = [struct.pack("<HHII", *row) for row in small]
    block = b""
    for tag, kind, count, value in values:
        rows.append(struct.pack("<HHII", tag, kind, count, values_at + len(block)))
        block += value + bytes(len(value) % 2)
    rows.sort(key=lambda row: struct.unpack("<H", row[:2]))
    table = struct.pack("<H", len(rows)) + b"".join(rows) + bytes(4)
    return b"II*\0" + struct.pack("<I", values_at + len(block)) + samples.tobytes() + block + table


def test_raw_is_developed_to_16_bit_with_a_profile_and_its_camera_named(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    (tmp_path / "a.dng").write_bytes(_make_dng())
    photo = image_io.read_photo(tmp_path / "a.dng")
    assert photo.file_format == "raw"
    assert photo.pixels.dtype == np.uint16
    assert image_io.probe_size(tmp_path / "a.dng") == photo.pixels.shape[1::-1]
    assert photo.pixels.shape[0] > photo.pixels.shape[1]  # the camera was held upright
    assert (photo.metadata.icc or b"")[16:20] == b"RGB "
    target = tmp_path / "a.tif"
    image_io.write_photo(photo, target, file_format="tiff", quality=None, stamp="r", times_of=None)
    exif = factory.load_by_pillow(target).getexif()
    assert exif[0x010F] == "Acme"
    assert exif.get(0x0112, 1) == 1
    assert image_io.read_stamp(target) == "r"


def test_raw_that_libraw_does_not_know_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    (tmp_path / "a.cr2").write_bytes(b"II*\0" + bytes(200))
    with pytest.raises(PhotoError, match=r"a\.cr2: LibRaw cannot read it .*; convert it to TIFF first$"):
        image_io.read_photo(tmp_path / "a.cr2")


def _make_dng_with(packet: bytes, iptc: bytes) -> bytes:
    """The small RAW photo with XMP and IPTC in the tags that DNG, CR2 and NEF keep them in."""
    content = bytearray(_make_dng())
    at = struct.unpack_from("<I", content, 4)[0]
    count = struct.unpack_from("<H", content, at)[0]
    rows = [bytes(content[at + 2 + 12 * row : at + 14 + 12 * row]) for row in range(count)]
    rows += [
        struct.pack("<HHII", tag, kind, len(block), 0) for tag, kind, block in ((700, 1, packet), (33723, 7, iptc))
    ]
    values = len(content) + len(content) % 2
    rows[-2] = rows[-2][:8] + struct.pack("<I", values)
    rows[-1] = rows[-1][:8] + struct.pack("<I", values + len(packet))
    table = values + len(packet) + len(iptc)
    table += table % 2
    rows.sort(key=lambda row: struct.unpack("<H", row[:2]))
    body = (bytes(content) + bytes(len(content) % 2) + packet + iptc).ljust(table, b"\0")
    return body[:4] + struct.pack("<I", table) + body[8:] + struct.pack("<H", len(rows)) + b"".join(rows) + bytes(4)


def test_xmp_and_iptc_of_a_raw_are_kept_and_turned(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    spaces = b'xmlns:a="http://ns.adobe.com/xmp/sType/Area#" a:x="0.25" a:y="0.125" '
    packet = factory.XMP.replace(b"xmlns:dc=", spaces + b"xmlns:dc=").replace(b'tion="1"', b'tion="6"')
    (tmp_path / "a.dng").write_bytes(_make_dng_with(packet, factory.IPTC))
    photo = image_io.read_photo(tmp_path / "a.dng")
    assert photo.metadata.iptc == factory.IPTC
    expected = packet.replace(b'a:x="0.25" a:y="0.125"', b'a:x="0.875" a:y="0.25"').replace(b'tion="6"', b'tion="1"')
    assert photo.metadata.xmp == expected
    for file_format in ("tiff", "jpeg"):
        image_io.write_photo(photo, tmp_path / "b", file_format=file_format, quality=None, stamp="r", times_of=None)
        back = image_io.read_photo(tmp_path / "b").metadata
        assert back.iptc == factory.IPTC
        assert b"caf\xc3\xa9" in (back.xmp or b"")


ADOBE = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # Adobe XMP Specification Part 3, 1.2.7


def test_xmp_of_a_cr3_is_found_in_its_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a LibRaw that opens anything and finds no preview: nobody here can write a CR3 with pixels in it."""
    lib = pytest.importorskip("rawpy")
    sizes = types.SimpleNamespace(flip=0, iwidth=6, iheight=4)
    thumb = types.SimpleNamespace(format=lib.ThumbFormat.BITMAP)
    opened = contextlib.nullcontext(types.SimpleNamespace(sizes=sizes, extract_thumb=lambda: thumb))
    monkeypatch.setattr(lib, "imread", lambda path: opened)
    box = struct.pack(">I4s", 24 + len(factory.XMP), b"uuid") + ADOBE + factory.XMP
    other = struct.pack(">I4s", 24 + 9, b"uuid") + bytes(25)
    content = struct.pack(">I4s4s", 12, b"ftyp", b"crx ") + other + box
    for given, packet in ((content, factory.XMP), (content[:-3], None), (b"FUJIFILMCCD-RAW ", None)):
        (tmp_path / "a.cr3").write_bytes(given)
        with MeteredReader(tmp_path / "a.cr3") as stream:
            assert raw_container.read_header(stream).metadata.xmp == packet

"""Small photos and metadata for the image_io tests, made by Pillow, libvips and struct, not by the code under test."""

import struct
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pyvips
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

from deblur_cli.image_io import Metadata, Photo

ALL_FORMATS = ("jpeg", "png", "tiff", "webp", "avif")
DEEP_FORMATS = ("png", "tiff")
MAKER_NOTE = b"NoteOfTheMaker\0" + bytes(range(64))
ICC = (
    ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    .tobytes()
    .replace("sRGB".encode("utf-16-be"), "Wide".encode("utf-16-be"))
)
IPTC = b"\x1c\x02\x00\x00\x02\x00\x04\x1c\x02\x78\x00\x09A caption"
XMP = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n <rdf:Description rdf:about="uuid:7"'
    b' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    b' tiff:Orientation="1"><dc:title>caf\xc3\xa9</dc:title></rdf:Description>\n</rdf:RDF></x:xmpmeta>'
    b'   \n   <?xpacket end="w"?>'
)
# How Pillow turns stored pixels of each orientation the right way up: the independent truth of the tests.
PILLOW_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def make_pixels(height: int = 24, width: int = 32, *, deep: bool = False) -> np.ndarray:
    """Smooth colours that no symmetry leaves alone, (H, W, 3)."""
    rows, columns = np.mgrid[0:height, 0:width]
    planes = np.stack([rows * 6 + columns, 200 - columns * 4, 90 + rows * 2 + columns // 2], axis=2)
    return (planes * 257 + rows[..., None] * 3).astype(np.uint16) if deep else planes.astype(np.uint8)


def make_alpha(height: int = 24, width: int = 32, *, deep: bool = False) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    alpha = (rows * 5 + columns * 3) % 256
    return (alpha * 251).astype(np.uint16) if deep else alpha.astype(np.uint8)


def make_exif(orientation: int = 1, order: str = "<", size: tuple[int, int] = (32, 24)) -> bytes:
    """A blob with Make, Orientation, resolution, Exif (MakerNote, sizes), GPS and a thumbnail directory."""

    def row(tag: int, kind: int, count: int, value: int | bytes) -> bytes:
        cell = value if isinstance(value, bytes) else struct.pack(order + ("H2x" if kind == 3 else "I"), value)
        return struct.pack(order + "HHI", tag, kind, count) + cell

    def directory(rows: list[bytes], following: int) -> bytes:
        return struct.pack(order + "H", len(rows)) + b"".join(rows) + struct.pack(order + "I", following)

    note_at, gps_at, thumbnail_at, values_at = 250, 340, 400, 120
    rational = struct.pack(order + "II", 300, 1)
    ifd0 = [
        row(0x010F, 2, 5, values_at),
        row(0x0112, 3, 1, orientation),
        row(0x011A, 5, 1, values_at + 8),
        row(0x011B, 5, 1, values_at + 16),
        row(0x0128, 3, 1, 2),
        row(0x8769, 4, 1, 160),
        row(0x8825, 4, 1, gps_at),
    ]
    exif = [
        row(0x9000, 7, 4, b"0232"),
        row(0x927C, 7, len(MAKER_NOTE), note_at),
        row(0xA002, 4, 1, size[0]),
        row(0xA003, 3, 1, size[1]),
    ]
    gps = [row(1, 2, 2, b"N\0\0\0"), row(2, 5, 3, gps_at + 30)]
    degrees = struct.pack(order + "6I", 48, 1, 8, 1, 30, 1)
    thumbnail = [row(0x0103, 3, 1, 6), row(0x0201, 4, 1, 450), row(0x0202, 4, 1, 4)]
    blob = bytearray(460)
    for at, block in (
        (0, (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)),
        (8, directory(ifd0, thumbnail_at)),
        (values_at, b"Acme\0\0\0\0" + rational + rational),
        (160, directory(exif, 0)),
        (note_at, MAKER_NOTE),
        (gps_at, directory(gps, 0) + degrees),
        (thumbnail_at, directory(thumbnail, 0)),
        (450, b"\xff\xd8\xff\xd9"),
    ):
        blob[at : at + len(block)] = block
    return bytes(blob)


def make_metadata(**changes: object) -> Metadata:
    metadata = Metadata(exif=make_exif(), icc=ICC, xmp=XMP, iptc=IPTC, dpi=(300.0, 300.0), comments=(b"a comment",))
    return replace(metadata, **changes)


def make_photo(*, deep: bool = False, alpha: bool = False, grey: bool = False, **changes: object) -> Photo:
    pixels = make_pixels(deep=deep)
    if grey:
        pixels = np.repeat(pixels[..., :1], 3, axis=2)
    photo = Photo(
        pixels=pixels,
        alpha=make_alpha(deep=deep) if alpha else None,
        grey=grey,
        metadata=Metadata(),
        file_format="png",
    )
    return replace(photo, **changes)


def save_by_pillow(path: Path, file_format: str, pixels: np.ndarray, metadata: Metadata | None = None) -> None:
    """Save 8-bit pixels with EXIF, ICC and XMP by Pillow alone; the EXIF blob is stored as it is."""
    metadata = metadata or Metadata()
    options: dict[str, object] = {"icc_profile": metadata.icc}
    if metadata.exif and file_format != "tiff":
        options["exif"] = metadata.exif if file_format != "jpeg" else b"Exif\0\0" + metadata.exif
    if metadata.xmp and file_format in ("jpeg", "webp", "avif"):
        options["xmp"] = metadata.xmp
    if file_format == "png" and metadata.xmp:
        options["pnginfo"] = info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode())
    if file_format == "tiff":
        options["tiffinfo"] = _tiff_tags(metadata)
    options |= {"jpeg": {"quality": 97, "subsampling": 0}, "webp": {"lossless": True, "exact": True}}.get(
        file_format, {}
    )
    options |= {"avif": {"quality": 97, "subsampling": "4:4:4"}}.get(file_format, {})
    Image.fromarray(pixels).save(path, file_format.upper(), **{key: value for key, value in options.items() if value})


def _tiff_tags(metadata: Metadata) -> TiffImagePlugin.ImageFileDirectory_v2:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if metadata.xmp:
        tags[700] = metadata.xmp
    if metadata.exif:
        source = Image.Exif()
        source.load(metadata.exif)
        tags[0x010F] = source[0x010F]
        tags[0x0112] = source.get(0x0112, 1)
        tags[0x8769] = dict(source.get_ifd(0x8769))
        tags[0x8825] = dict(source.get_ifd(0x8825))
    return tags


def save_by_vips(path: Path, planes: np.ndarray, **options: object) -> None:
    """Save (H, W, C) of 8, 16 bit or float by libvips alone."""
    kind = {"uint8": "uchar", "uint16": "ushort", "float32": "float"}[str(planes.dtype)]
    height, width, bands = planes.shape
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(planes).tobytes(), width, height, bands, kind)
    deep = planes.dtype == np.uint16
    space = ("grey16" if deep else "b-w") if bands < 3 else ("rgb16" if deep else "srgb")
    image.copy(interpretation=space).write_to_file(str(path), **options)


def load_by_vips(path: Path) -> np.ndarray:
    """Stored pixels (H, W, C), no orientation applied."""
    image = pyvips.Image.new_from_file(str(path), fail_on="truncated")
    planes = np.ndarray(
        buffer=image.write_to_memory(),
        dtype=np.uint8 if image.format == "uchar" else np.uint16,
        shape=(image.height, image.width, image.bands),
    )
    return planes.copy()


def load_by_pillow(path: Path) -> Image.Image:
    with Image.open(BytesIO(path.read_bytes())) as image:
        image.load()
        return image


def find_maker_note(blob: bytes) -> tuple[bytes, int]:
    """The MakerNote and its offset, found by Pillow."""
    exif = Image.Exif()
    exif.load(blob)
    note = exif.get_ifd(0x8769)[0x927C]
    return note, blob.index(note)

"""Mutated photos: whatever a file holds, it is read, or refused in one line, and what is written can be read."""

import random
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from PIL import Image
from support import bmff_factory as bmff
from support import jpeg_factory as jpeg
from support import photo_factory as factory
from support import tiff_factory as tiff

from deblur_cli import image_io
from deblur_cli.errors import PhotoError
from deblur_cli.image_io import reading

FILES_A_SEED = 250
MOST_PIXELS = 4_000_000  # larger ones are only probed: decoding them takes a second each
PIXELS = factory.make_pixels(40, 56)
NUMBERS = [0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63]
GOOGLE = (
    'xmlns:C="http://ns.google.com/photos/1.0/container/" xmlns:I="http://ns.google.com/photos/1.0/container/item/"'
)


def _by_pillow(file_format: str, **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(PIXELS).save(buffer, file_format, **options)
    return buffer.getvalue()


def _ours(file_format: str, *, deep: bool = False, alpha: bool = False, grey: bool = False) -> bytes:
    """A file of this package's own with all the metadata there is."""
    photo = factory.make_photo(deep=deep, alpha=alpha, grey=grey, metadata=factory.make_metadata())
    with TemporaryDirectory() as folder:
        path = Path(folder, "a")
        image_io.write_photo(photo, path, file_format=file_format, quality=90, stamp=None, times_of=None)
        return path.read_bytes()


def _motion_photo() -> bytes:
    rows = "".join(f'<r:li><C:Item I:Semantic="{name}" I:Length="9"/></r:li>' for name in ("Primary", "MotionPhoto"))
    packet = jpeg.packet(f"<C:Directory><r:Seq>{rows}</r:Seq></C:Directory>", GOOGLE)
    blob = b"Exif\0\0" + factory.make_exif(6)
    coded = jpeg.with_packet(jpeg.insert(jpeg.code(PIXELS), (0xE1, blob), (0xEC, b"Ducky\0")), packet)
    return coded + jpeg.code(PIXELS[:9, :9]) + bmff.box(b"ftyp", b"mp42" + bytes(8)) + bytes(90)


def _grid() -> bytes:
    tile = bmff.coded_item(bmff.avif(factory.make_pixels(64, 64)))
    tile.properties += [bmff.profile(factory.ICC), bmff.box(b"irot", b"\1")]
    payload, properties = bmff.grid(64, 64, 1)
    words = {
        3: bmff.Item(b"mime", factory.XMP, mime=bmff.XMP_TYPE),
        4: bmff.Item(b"Exif", bytes(4) + factory.make_exif()),
    }
    items = {1: tile, 2: bmff.Item(b"grid", payload, properties), **words}
    return bmff.build(b"avif", items, 2, [(b"dimg", 2, [1]), (b"cdsc", 3, [2]), (b"cdsc", 4, [2])])


SEEDS: dict[str, Callable[[], bytes]] = {
    "motion photo": _motion_photo,
    "JPEG": lambda: _ours("jpeg"),
    "progressive JPEG": lambda: jpeg.code(PIXELS, progressive=True),
    "grey JPEG": lambda: _ours("jpeg", grey=True),
    "PNG": lambda: _ours("png", alpha=True),
    "deep PNG": lambda: _ours("png", deep=True, grey=True),
    "palette PNG": lambda: (Image.fromarray(PIXELS).quantize(16).save(buffer := BytesIO(), "PNG"), buffer.getvalue())[
        1
    ],
    "TIFF": lambda: _ours("tiff", deep=True),
    "big-endian TIFF": lambda: tiff.build(tiff.photo_tags(PIXELS), {"strip": PIXELS.tobytes()}, ">"),
    "BigTIFF": lambda: tiff.build(tiff.photo_tags(PIXELS), {"strip": PIXELS.tobytes()}, big=True),
    "LZW TIFF": lambda: _by_pillow("TIFF", compression="tiff_lzw"),
    "WebP": lambda: _ours("webp", alpha=True),
    "AVIF": lambda: _ours("avif", alpha=True),
    "AVIF grid": _grid,
}


def _mutate(content: bytes, dice: random.Random) -> bytes:
    """One to three changes of the kinds that disks, writers and attackers make."""
    block = bytearray(content)
    head = dice.choice([len(block), 4096, 512, 64])
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(min(head, len(block)) or 1)
        size = dice.choice([1, 2, 4, 8, 40, 900])
        kind = dice.randrange(7)
        if kind == 0:
            block[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            code = dice.choice([">H", "<H", ">I", "<I", ">Q", "<Q"])
            number = dice.choice(NUMBERS) & (1 << 8 * struct.calcsize(code)) - 1
            block[at : at + struct.calcsize(code)] = struct.pack(code, number)
        elif kind == 2:
            del block[at : at + size]
        elif kind == 3:
            block[at:at] = block[at : at + size] * dice.choice([1, 2, 50])
        elif kind == 4:
            block[at : at + size] = bytes(min(size, len(block) - at))
        elif kind == 5:
            other = dice.randrange(len(block))
            block[at : at + size] = block[other : other + size]
        else:
            del block[max(1, len(block) - size) :]
    return bytes(block) or b"\0"


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_mutated_photo_is_read_and_written_or_refused_in_one_line(tmp_path: Path, seed: str) -> None:
    content = SEEDS[seed]()
    dice = random.Random(seed)  # a string seeds the same numbers on every machine
    path, target, read = tmp_path / "a", tmp_path / "b", 0
    for _ in range(FILES_A_SEED):
        path.write_bytes(_mutate(content, dice))
        image_io.read_stamp(path)
        try:
            header = reading.read_header(path)
            if header.width * header.height > MOST_PIXELS:
                continue
            photo = image_io.read_photo(path)
            file_format = dice.choice(["png", "jpeg", "tiff", "webp"])
            image_io.check_fit(photo, path, file_format=file_format)
        except PhotoError as fault:
            assert str(fault).startswith(f"{path}: ")
            assert "\n" not in str(fault)
            continue
        image_io.write_photo(photo, target, file_format=file_format, quality=90, stamp="r", times_of=None)
        assert image_io.read_photo(target).pixels.shape == photo.pixels.shape
        read += 1
    assert read > 0, "every file was refused: the mutations are too strong to test anything"


@pytest.mark.parametrize("seed", SEEDS)
def test_unchanged_seed_is_read(tmp_path: Path, seed: str) -> None:
    (tmp_path / "a").write_bytes(SEEDS[seed]())
    assert np.ptp(image_io.read_photo(tmp_path / "a").pixels) > 0

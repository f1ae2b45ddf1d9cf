"""Whose result a file is and whether it was edited: what the next run replaces, skips and refuses."""

import json
import os
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_cli.batch import origin
from deblur_cli.batch.jobs import Job
from deblur_cli.batch.origin import decide, hash_pixels, read_original
from deblur_cli.batch.stamp import Stamp, stamped
from deblur_cli.errors import InputError, PhotoError
from deblur_cli.image_io import read_photo, read_stamp, write_photo
from deblur_cli.image_io.seal import BLANK, is_unbroken
from deblur_cli.system.files import hash_file

STAMP = Stamp(model="expert", weights={}, options={"seed": 0})
OTHER = Stamp(model="expert", weights={}, options={"seed": 1})
FORMATS = ("jpeg", "png", "tiff", "webp", "avif")
ORIENTATION = 0x112


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def take(name, seed=0, **options):
    """A photo of random shapes; the same for the same seed."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (8, 12, 3), np.uint8)
    Image.fromarray(noise).resize((48, 32)).save(path, **options)
    return path


def finish(source, output, stamp=OTHER, file_format="png", *, modern=True):
    """What a run leaves at `output`; that of an earlier version if it is not modern."""
    photo, found = read_original(source)
    proofs = found.proofs if modern else {"input_sha256": found.input_sha256}
    text = stamp.text(file_format=file_format, **proofs)
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    write_photo(photo, Path(output), file_format=file_format, quality=None, stamp=text, times_of=found.times)
    return Path(output)


def action(source, output, file_format="png", **options):
    settings = {"overwrite": False, **options}
    return decide(Job(Path(source), Path(output), file_format, "new"), STAMP, **settings).action


def refusal(source, output, file_format="png"):
    with pytest.raises(InputError, match=r"^[^\n]+$") as fault:
        action(source, output, file_format)
    return str(fault.value)


def test_a_result_of_another_photo_of_the_same_name_is_somebody_else_s():
    finish(take("card/IMG_0001.png"), "out/IMG_0001.png", STAMP)
    take("card/IMG_0001.png", seed=1)  # the next card, mounted at the same place
    text = refusal("card/IMG_0001.png", "out/IMG_0001.png")
    assert text.startswith("out/IMG_0001.png: was made from another photo than card/IMG_0001.png; choose another")
    assert action("card/IMG_0001.png", "out/IMG_0001.png", overwrite=True) == "replace"


def test_two_photos_that_differ_in_one_pixel_are_two_photos():
    source = take("a.png")
    finish(source, "out.png")
    pixels = np.asarray(Image.open(source)).copy()
    pixels[3, 3, 0] ^= 1
    Image.fromarray(pixels).save(source)
    assert "was made from another photo" in refusal(source, "out.png")


@pytest.mark.parametrize("stamp", [STAMP, OTHER])
def test_a_photo_that_was_moved_or_renamed_is_the_same(stamp):
    source = take("card/a.png")
    finish(source, "out.png", stamp)
    shutil.move(source, "moved.png")
    assert action("moved.png", "out.png") == ("skip" if stamp is STAMP else "replace")


@pytest.mark.parametrize("stamp", [STAMP, OTHER])
def test_a_photo_with_other_words_about_it_is_the_same_and_done_again(stamp):
    source = take("a.jpg")
    finish(source, "out.png", stamp)
    content = source.read_bytes()
    source.write_bytes(content[:2] + b"\xff\xfe\0\x08rated5" + content[2:])
    assert hash_file(source) != stamped(read_stamp(Path("out.png")), "input_sha256")
    assert action(source, "out.png") == "replace"


@pytest.mark.parametrize("turned", range(2, 9))
def test_a_photo_with_another_orientation_is_the_same(turned):
    source = take("a.jpg")
    finish(source, "out.png")
    exif = Image.Exif()
    exif[ORIENTATION] = turned
    content = source.read_bytes()
    block = exif.tobytes()
    source.write_bytes(content[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2) + block + content[2:])
    assert action(source, "out.png") == "replace"


def test_a_lossless_copy_in_another_format_is_the_same_photo():
    source = take("a.png")
    finish(source, "out.png")
    Image.open(source).save("a.tif", compression="tiff_lzw")
    assert action("a.tif", "out.png") == "replace"


def test_pixels_have_one_hash_whichever_way_they_are_turned_and_another_when_they_are_others():
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (1, 2), (3, 2), (40, 40), (65, 33)):
        photo = read_photo(take("a.png"))
        symmetric = rng.integers(0, 255, (height, width, 3), np.uint8)
        symmetric = symmetric // 2 + symmetric[:, ::-1] // 2
        for pixels in (rng.integers(0, 65535, (height, width, 3), np.uint16), symmetric):
            found = set()
            for rows, columns, across in product((1, -1), (1, -1), (False, True)):
                turned = pixels[::rows, ::columns]
                turned = turned.swapaxes(0, 1) if across else turned
                found.add(hash_pixels(origin.Photo(turned, None, False, photo.metadata, "png")))
            assert len(found) == 1
            other = pixels.copy()
            other[0, 0, 0] += 1
            assert hash_pixels(origin.Photo(other, None, False, photo.metadata, "png")) not in found


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_result_as_it_was_written_is_replaced_whatever_its_time_and_place(file_format):
    source = take("a.png")
    output = finish(source, f"made.{file_format}", file_format=file_format)
    assert is_unbroken(output.read_bytes(), stamped(read_stamp(output), "result_sha256"))
    with Image.open(output) as image:
        image.load()  # a checksum of the format would be noticed here
    shutil.copy(output, "copied")
    os.utime("copied", (4e9, 4e9))
    assert action(source, "copied", file_format) == "replace"


@pytest.mark.parametrize("file_format", FORMATS)
def test_an_edited_result_is_not_replaced_though_its_time_is_kept_and_the_photo_is_newer(file_format):
    source = take("a.png")
    output = finish(source, f"made.{file_format}", file_format=file_format)
    with Image.open(output) as image:
        grey, words = image.convert("L").convert("RGB"), image.info.get("xmp") or image.tag_v2[700]
    options = {"compression": None, "tiffinfo": {700: words}} if file_format == "tiff" else {"xmp": words}
    if file_format == "png":
        content = output.read_bytes()
        output.write_bytes(content[:-12] + b"\0\0\0\4teXtabcd\0\0\0\0" + content[-12:])
    else:
        grey.save(output, file_format, **options)
    os.utime(output, (1, 1))
    assert stamped(read_stamp(output), "result_sha256") != BLANK
    assert refusal(source, output, file_format).endswith(
        "was changed since this tool wrote it; use --overwrite to replace it"
    )
    assert action(source, output, file_format, overwrite=True) == "replace"


def test_a_rating_given_to_the_result_counts_as_a_change():
    source = take("a.png")
    output = finish(source, "made.jpg", file_format="jpeg")
    content = output.read_bytes()
    output.write_bytes(content[:2] + b"\xff\xfe\0\x08rated5" + content[2:])
    assert read_stamp(output)
    assert "was changed since" in refusal(source, output, "jpeg")


def test_a_result_of_the_same_work_is_skipped_edited_or_not():
    source = take("a.png")
    output = finish(source, "made.png", STAMP)
    os.utime(output, (4e9, 4e9))
    assert action(source, output) == "skip"


def test_of_results_of_earlier_versions_the_file_and_the_time_decide():
    source = take("a.jpg")
    output = finish(source, "made.png", modern=False)
    assert action(source, output) == "replace"
    os.utime(output, (4e9, 4e9))
    assert "was changed since" in refusal(source, output)
    os.utime(output, (1, 1))
    source.write_bytes(source.read_bytes() + b"\0")  # the same pixels: nothing in the stamp says so
    assert "was made from another photo" in refusal(source, output)
    current = finish(take("b.jpg"), "current.png", STAMP, modern=False)
    assert action("b.jpg", current) == "skip"


def test_a_photo_that_cannot_be_read_is_left_to_the_work_which_names_it():
    output = finish(take("a.png"), "made.png")
    Path("link.png").symlink_to("nowhere.png")
    Path("half.png").write_bytes(Path("a.png").read_bytes()[:80])
    for source in ("link.png", "half.png"):
        assert action(source, output) == "replace"
        assert decide(Job(Path(source), output, "png", "new"), STAMP, overwrite=False).seen is None


def test_the_bytes_that_are_hashed_are_those_that_are_decoded(monkeypatch):
    source, other = take("a.png"), take("b.png", seed=1)
    good, reads = origin.read_photo, []

    def read_and_replace(path):
        photo = good(path)
        if not reads:
            shutil.copy(other, path)
        reads.append(path)
        return photo

    monkeypatch.setattr(origin, "read_photo", read_and_replace)
    photo, found = read_original(source)
    assert found.input_sha256 == hash_file(other)
    assert np.array_equal(photo.pixels, good(other).pixels)


def test_a_photo_that_never_stands_still_is_named(monkeypatch):
    source, good = take("a.png"), origin.read_photo
    seeds = iter(range(1, 100))
    monkeypatch.setattr(origin, "read_photo", lambda path: (good(path), take("a.png", seed=next(seeds)))[0])
    with pytest.raises(PhotoError, match=r"^a\.png: changes while it is read; run again when whoever"):
        read_original(source)


def test_what_a_stamp_says_of_the_photo_and_the_file_is_no_part_of_the_work():
    output = finish(take("a.png"), "made.png", STAMP)
    told = json.loads(read_stamp(output))
    assert {len(told[name]) for name in ("input_sha256", "pixels_sha256", "result_sha256")} == {64}
    assert told["result_sha256"] != BLANK

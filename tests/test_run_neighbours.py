"""`deblur run` among other files, other runs and other programs: what it takes, leaves, waits for and refuses."""

import json
import os
import shutil
import threading
from functools import partial
from pathlib import Path

import pytest
from support.photo_folders import broken, photo, tree

from deblur_cli.batch.stamp import stamped
from deblur_cli.image_io import read_stamp
from deblur_cli.system import claims
from deblur_cli.system.files import hash_file, host

pytestmark = pytest.mark.usefixtures("inverting")


@pytest.fixture
def deblur(command):
    return partial(command, "run")


def test_the_second_card_does_not_replace_the_results_of_the_first(deblur):
    photo("card1/IMG_0001.JPG")
    photo("card2/IMG_0001.JPG", shade=10)
    deblur("card1", "-o", "out")
    first = Path("out/IMG_0001.JPG").read_bytes()
    for options in ((), ("--seed", "1"), ("--dry-run",)):
        status, out, err = deblur("card2", "-o", "out", *options)
        assert (status, out, len(err)) == (2, [], 1)
        assert "was made from another photo than card2/IMG_0001.JPG" in err[0]
    assert Path("out/IMG_0001.JPG").read_bytes() == first
    assert deblur("card2/IMG_0001.JPG", "-o", "out/IMG_0001.JPG")[0] == 2
    assert deblur("card2", "-o", "out", "--overwrite")[0] == 0


def test_a_retouched_result_is_kept_when_the_photo_is_rated_later(deblur):
    source = photo("in/a.jpg")
    deblur("in", "-o", "out")
    result = Path("out/a.jpg")
    result.write_bytes(result.read_bytes() + b"retouched")
    os.utime(result, (1, 1))
    content = source.read_bytes()
    source.write_bytes(content[:2] + b"\xff\xfe\0\x08rated5" + content[2:])
    status, _, err = deblur("in", "-o", "out")
    assert (status, len(err)) == (2, 1)
    assert "was changed since this tool wrote it; use --overwrite" in err[0]
    assert result.read_bytes().endswith(b"retouched")


def test_a_rated_photo_is_done_again_and_its_result_carries_the_rating(deblur):
    source = photo("in/a.jpg")
    deblur("in", "-o", "out")
    content = source.read_bytes()
    source.write_bytes(content[:2] + b"\xff\xfe\0\x08rated5" + content[2:])
    assert deblur("in", "-o", "out")[:2] == (0, ["out/a.jpg"])
    assert b"rated5" in Path("out/a.jpg").read_bytes()
    assert stamped(read_stamp(Path("out/a.jpg")), "input_sha256") == hash_file(source)


def test_own_results_in_the_input_folder_are_told_and_left_out(deblur):
    photo("in/p.jpg")
    deblur("in", "-o", "in", "--name", "{stem}_a{ext}")
    status, out, err = deblur("in", "-o", "in", "--name", "{stem}_b{ext}")
    assert (status, out) == (0, ["in/p_b.jpg"])
    assert "deblur: 1 result of this tool left out; name a file to restore it again" in err
    assert deblur("in/p_a.jpg", "-o", "in", "--name", "{stem}_c{ext}")[1] == ["in/p_a_c.jpg"]
    summary = json.loads("\n".join(deblur("in", "-o", "in", "--name", "{stem}_b{ext}", "--json")[1]))["summary"]
    assert (summary["skipped"], summary["results_left_out"]) == (1, 3)


@pytest.fixture
def locked(monkeypatch):
    """A folder that may not be listed; by the system's word, for a test may run as root."""
    photo("in/2024/a.jpg")
    photo("in/lost+found/b.jpg")
    good = os.scandir

    def scandir(path="."):
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied", str(path))
        return good(path)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_locked_sub_folder_is_one_line_the_rest_is_done_and_the_status_is_3(deblur, locked, options):
    for _ in range(2):
        status, _, err = deblur("in", "-r", "-o", "out", "-q", *options)
        assert status == 3
        assert err == [
            "deblur: in/lost+found: cannot list this folder (Permission denied); its photos are left out",
            "deblur: error: 1 folder could not be listed; the photos there are left out",
        ]
    assert Path("out/2024/a.jpg").exists() == (not options)


def test_a_disk_with_nothing_but_a_locked_folder_says_so(deblur, locked):
    shutil.rmtree("in/2024")
    status, _, err = deblur("in", "-r", "-o", "out")
    assert (status, len(err)) == (2, 1)
    assert "in/lost+found: cannot list this folder (Permission denied)" in err[0]


def test_raw_and_jpeg_of_one_name_go_side_by_side_as_the_message_says(deblur):
    photo("in/a.jpg")
    photo("in/a.png", shade=10)
    status, _, err = deblur("in", "-o", "out", "--format", "webp")
    assert status == 2
    advised = err[0].split("--name '")[1].rstrip("'")
    assert deblur("in", "-o", "out", "--format", "webp", "--name", advised)[0] == 0
    assert tree("out") == ["a_jpg.webp", "a_png.webp"]


@pytest.mark.parametrize("target", ["nowhere.jpg", "a.jpg"])
def test_an_input_that_became_a_broken_link_while_its_output_is_there_fails_alone(deblur, target):
    photo("in/a.jpg")
    photo("in/b.jpg")
    deblur("in/a.jpg", "-o", "out")
    Path("in/a.jpg").unlink()
    Path("in/a.jpg").symlink_to(target)
    before = Path("out/a.jpg").read_bytes()
    status, out, err = deblur("in", "-o", "out", "-q")
    assert (status, out, len(err)) == (3, ["out/b.jpg"], 2)
    assert err[0].startswith("deblur: in/a.jpg: ")
    assert Path("out/a.jpg").read_bytes() == before


@pytest.mark.parametrize("name", [f".a.jpg.deblur-{host()}-0123456789abcdef.tmp", ".a.jpg.deblur-999999.tmp"])
def test_a_folder_with_the_name_of_a_leftover_is_left(deblur, name):
    photo("in/a.jpg")
    Path("out", name).mkdir(parents=True)
    assert deblur("in", "-o", "out")[:2] == (0, ["out/a.jpg"])
    assert Path("out", name).is_dir()


def test_an_output_folder_that_may_not_be_listed_is_written_to(deblur, monkeypatch):
    photo("in/a.jpg")
    Path("out").mkdir()
    good = Path.iterdir

    def iterdir(folder):
        if folder.name == "out":
            raise PermissionError(13, "Permission denied", str(folder))
        return good(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert deblur("in", "-o", "out")[:2] == (0, ["out/a.jpg"])


def test_inputs_that_vanish_under_way_are_named_and_never_the_output_folder(deblur, inverting):
    for name in ("a", "b", "c", "d"):
        photo(f"in/{name}.png")

    def restore(blurry):
        shutil.rmtree("in", ignore_errors=True)
        return 1 - blurry

    inverting.answer = restore
    status, out, err = deblur("in", "-o", "out", "-q")
    assert status == 3
    assert "out/a.png" in out  # what was read is written, with the time that its file had
    assert all("cannot be written" not in line for line in err)
    assert all(line.startswith("deblur: in/") for line in err[:-1])


def test_a_run_that_waits_for_another_says_so_and_counts_its_photos_as_skipped(deblur):
    photo("in/a.png")
    photo("in/b.png")
    Path("out").mkdir()
    claim = claims.take(Path("out/a.png"))
    finished = threading.Timer(1.0, claim.release)
    finished.start()
    status, _, err = deblur("in", "-o", "out")
    finished.join()
    assert status == 0
    assert "deblur: in/a.png: another run is at work on this photo; waiting for it" in err
    assert tree("out") == ["a.png", "b.png"]


def test_a_broken_photo_keeps_no_claim(deblur):
    broken("in/a.jpg")
    photo("in/b.jpg")
    assert deblur("in", "-o", "out", "-q")[0] == 3
    assert tree("out") == ["b.jpg"]


def test_what_a_killed_run_left_goes_even_when_nothing_is_left_to_do(deblur):
    photo("in/a.jpg")
    deblur("in", "-o", "out")
    Path("out/.a.jpg.12345678.deblur-claim").write_text(host())
    assert deblur("in", "-o", "out")[0] == 0
    assert tree("out") == ["a.jpg"]

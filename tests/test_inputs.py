import io
import os
import sys
from pathlib import Path

import pytest

from deblur_cli.batch.inputs import PhotoSearch, find_photos, read_list
from deblur_cli.errors import InputError

FLAT = PhotoSearch(recursive=False, excluded=None)
DEEP = PhotoSearch(recursive=True, excluded=None)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """holiday/ with photos, other files and sub-folders, in the current folder."""
    monkeypatch.chdir(tmp_path)
    names = ["b.jpg", "a.JPG", "._a.jpg", ".hidden.png", "Thumbs.db", "notes.txt", "day 1/c.tif", "day 1/x/d.webp"]
    for name in [*names, ".git/e.jpg"]:
        path = tmp_path / "holiday" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Path("holiday")


def places(*arguments, listed=(), search=FLAT):
    return [photo.relative.as_posix() for photo in find_photos(arguments, listed, search).photos]


def test_a_folder_gives_its_visible_photos_in_the_order_of_their_names(folder):
    found = find_photos([str(folder)], [], FLAT)
    assert [photo.path for photo in found.photos] == [folder / "a.JPG", folder / "b.jpg"]
    assert found.ignored == 4
    assert not any(photo.named for photo in found.photos)


def test_recursive_mirrors_the_tree_and_skips_hidden_folders(folder):
    assert places("holiday/", search=DEEP) == ["a.JPG", "b.jpg", "day 1/c.tif", "day 1/x/d.webp"]


def test_a_named_file_keeps_its_name_only(folder):
    assert places("holiday/day 1/c.tif", "holiday/b.jpg") == ["c.tif", "b.jpg"]


def test_a_photo_named_twice_is_found_once(folder):
    assert places("holiday/b.jpg", "holiday", "./holiday/../holiday/b.jpg", "holiday/*.jpg") == ["b.jpg", "a.JPG"]


def test_a_quoted_glob_mirrors_the_tree_below_its_fixed_part(folder):
    assert places("holiday/**/*.*") == ["a.JPG", "b.jpg", "day 1/c.tif", "day 1/x/d.webp"]
    assert places("holi*/day 1/*.tif") == ["holiday/day 1/c.tif"]


def test_a_glob_descends_into_matched_folders_only_when_recursive(folder):
    assert places("holiday/*") == ["a.JPG", "b.jpg"]
    assert places("holiday/*", search=DEEP) == ["a.JPG", "b.jpg", "day 1/c.tif", "day 1/x/d.webp"]


def test_a_file_whose_name_looks_like_a_glob_is_taken_literally(folder):
    (folder / "[b].jpg").touch()
    assert places("holiday/[b].jpg") == ["[b].jpg"]


def test_names_of_any_script_are_found(tmp_path):
    names = ["ünï çödé.jpg", "写真.png", "emoji 📷.tiff"]
    for name in names:
        (tmp_path / name).touch()
    assert set(places(str(tmp_path))) == set(names)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_no_unicode_is_found(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    os.close(os.open(raw, os.O_CREAT | os.O_WRONLY))
    [photo] = find_photos([str(tmp_path)], [], FLAT).photos
    assert os.fsencode(photo.path) == raw


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("nowhere.jpg", "nowhere.jpg: no such file or folder"),
        ("holiday/b.jpg/c.jpg", "no such file or folder"),
        ("holiday/*.avif", "nothing matches"),
        ("holiday/notes.txt", "holiday/notes.txt: no photo format"),
    ],
)
def test_a_wrong_argument_is_named(folder, argument, text):
    with pytest.raises(InputError, match=r"^[^\n]+$") as fault:
        find_photos([argument], [], FLAT)
    assert text in str(fault.value)


def test_a_link_to_nothing_is_missing_when_named_and_left_to_the_work_when_met(folder):
    (folder / "link.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(InputError, match="no such file"):
        find_photos(["holiday/link.jpg"], [], FLAT)
    assert "link.jpg" in places("holiday")


def test_linked_folders_are_not_followed(folder):
    (folder / "day 1" / "up").symlink_to(folder.resolve())
    assert len(places("holiday", search=DEEP)) == 4


def test_the_output_folder_inside_an_input_folder_is_not_scanned(folder):
    (folder / "sharp").mkdir()
    (folder / "sharp" / "b.jpg").touch()
    search = PhotoSearch(recursive=True, excluded=folder / "sharp")
    assert "sharp/b.jpg" not in places("holiday", search=search)
    assert "sharp/b.jpg" not in places("holiday/**/*.jpg", search=search)
    assert places("holiday/sharp", search=search) == ["b.jpg"]


@pytest.mark.parametrize(
    "content", [b"a.jpg\nb c.jpg\n", b"a.jpg\r\nb c.jpg\r\n", b"\na.jpg\n\nb c.jpg", b"a.jpg\0b c.jpg\0"]
)
def test_a_list_is_read_by_lines_or_by_nul(tmp_path, monkeypatch, content):
    (tmp_path / "list").write_bytes(content)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert read_list(str(tmp_path / "list")) == read_list("-") == ["a.jpg", "b c.jpg"]


def test_a_list_with_nul_keeps_newlines_in_names(tmp_path):
    (tmp_path / "list").write_bytes(b"a\nb.jpg\0c.jpg")
    assert read_list(str(tmp_path / "list")) == ["a\nb.jpg", "c.jpg"]


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(InputError, match=r"--files-from .*none: No such file"):
        read_list(str(tmp_path / "none"))


def test_a_listed_relative_path_keeps_its_folders(folder):
    listed = ["./holiday/day 1/c.tif", "holiday/b.jpg", str(folder.resolve() / "a.JPG"), "holiday/../holiday/day 1"]
    assert places(listed=listed) == ["holiday/day 1/c.tif", "holiday/b.jpg", "a.JPG"]


def test_a_missing_listed_path_is_named(folder):
    with pytest.raises(InputError, match=r"nowhere\.jpg: no such file or folder \(named by --files-from\)"):
        find_photos([], ["nowhere.jpg"], FLAT)


def test_an_empty_argument_is_no_folder(folder):
    with pytest.raises(InputError, match=r"an INPUT is empty"):
        find_photos([""], [], FLAT)


def test_a_link_to_itself_is_refused_when_named_and_left_to_the_work_when_met(folder):
    (folder / "loop.jpg").symlink_to("loop.jpg")
    with pytest.raises(InputError, match=r"loop\.jpg"):
        find_photos(["holiday/loop.jpg"], [], FLAT)
    assert "loop.jpg" in places("holiday")
    assert "loop.jpg" in places("holiday/*.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_when_named_and_passed_over_when_met(folder):
    os.mkfifo(folder / "pipe.jpg")
    for arguments, listed in ((["holiday/pipe.jpg"], []), ([], ["holiday/pipe.jpg"])):
        with pytest.raises(InputError, match=r"pipe\.jpg: is a pipe or a device"):
            find_photos(arguments, listed, FLAT)
    assert places("holiday") == places("holiday/*.*") == ["a.JPG", "b.jpg"]


def test_a_deep_glob_does_not_follow_linked_folders(folder):
    (folder / "day 1" / "up").symlink_to(folder.resolve())
    Path("link").symlink_to(folder)
    assert places("holiday/**/*.*") == places("link/**/*.*") == ["a.JPG", "b.jpg", "day 1/c.tif", "day 1/x/d.webp"]
    assert places("holiday/*/up/b.*") == ["day 1/up/b.jpg"]

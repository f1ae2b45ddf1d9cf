"""Quoted globs, and what lies around photos that is none: bracketed names, folders of other programs, locked ones."""

import os
from pathlib import Path

import pytest

from deblur_cli.batch.inputs import PhotoSearch, find_photos, read_list
from deblur_cli.errors import InputError

FLAT, DEEP = PhotoSearch(recursive=False, excluded=None), PhotoSearch(recursive=True, excluded=None)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def touch(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def places(*arguments, listed=(), search=FLAT):
    return [photo.relative.as_posix() for photo in find_photos(arguments, listed, search).photos]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("trip [2020]/*.jpg", ["a.jpg"]),
        ("trip [2020]/**/*.jpg", ["a.jpg", "day 2/c.jpg", "day [1]/b.jpg"]),
        ("trip [2020]/day [1]/*.jpg", ["b.jpg"]),
        ("./trip [2020]/day*/*.jpg", ["day 2/c.jpg", "day [1]/b.jpg"]),
        ("trip*/day [1]/*.jpg", ["trip [2020]/day [1]/b.jpg"]),
        ("trip ?2020?/*.jpg", ["trip [2020]/a.jpg"]),
        ("trip [[]2020]/*.jpg", ["trip [2020]/a.jpg"]),
        ("[0-9]/*.jpg", ["2/d.jpg"]),
    ],
)
def test_a_folder_with_brackets_that_exists_is_taken_literally(pattern, expected):
    touch("trip [2020]/a.jpg", "trip [2020]/day [1]/b.jpg", "trip [2020]/day 2/c.jpg", "trip 2/x.jpg", "2/d.jpg")
    assert places(pattern) == expected
    if pattern[0] != ".":
        assert places(f"{Path.cwd()}/{pattern}") == expected


def test_a_glob_at_the_end_of_which_stand_two_stars_matches_files_of_all_folders():
    touch("in/a.jpg", "in/day/b.jpg")
    assert places("in/**") == ["a.jpg", "day/b.jpg"]


NAS = ["@eaDir/IMG_1.jpg/SYNOPHOTO_THUMB_XL.jpg", "#recycle/a.jpg", "#snapshot/x/a.jpg", ".@__thumb/a.jpg"]
OTHERS = ["$RECYCLE.BIN/S-1/a.jpg", "System Volume Information/a.jpg", "__MACOSX/day/a.jpg", "@Recycle/a.jpg"]


@pytest.mark.parametrize("name", [*NAS, *OTHERS, "day/@eaDir/a.jpg", "day/@EADIR/a.jpg"])
def test_folders_of_other_programs_are_passed_over_like_hidden_ones_unless_named(name):
    touch("in/IMG_1.jpg", f"in/{name}")
    for arguments in (("in",), ("in/**/*.jpg",), ("in/*/*.jpg", "in/IMG_1.jpg"), ("in/*",)):
        if name.count("/") == 1 and arguments == ("in/*/*.jpg", "in/IMG_1.jpg"):
            with pytest.raises(InputError, match="nothing matches"):
                places(*arguments, search=DEEP)
        elif arguments[0] != "in/*/*.jpg":
            assert places(*arguments, search=DEEP) == ["IMG_1.jpg"]
    assert places(str(Path("in", name).parent), search=DEEP) == [Path(name).name]


def test_folders_of_photographers_are_searched_whatever_sign_they_begin_with():
    touch("in/#1 wedding/a.jpg", "in/@home/b.jpg", "in/$ale/c.jpg", "in/lost+found/d.jpg")
    assert len(places("in", search=DEEP)) == 4


@pytest.fixture
def locked(monkeypatch):
    """A folder that may not be listed; by the system's word, for a test may run as root."""
    touch("in/a.jpg", "in/b/c.jpg", "in/lost+found/d.jpg", "in/z/e.jpg")
    good = os.scandir

    def scandir(path="."):
        if Path(path).name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return good(path)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.parametrize("argument", ["in", "in/**/*.jpg", "in/*"])
def test_a_sub_folder_that_cannot_be_listed_is_told_in_one_line_and_the_rest_is_found(locked, argument):
    found = find_photos([argument], [], DEEP)
    assert [photo.path.name for photo in found.photos] == ["a.jpg", "c.jpg", "e.jpg"]
    assert found.unread == ("in/lost+found: cannot list this folder (Permission denied); its photos are left out",)


@pytest.mark.parametrize(("arguments", "listed"), [(["in/lost+found"], []), ([], ["in/lost+found"])])
def test_a_folder_that_is_named_and_cannot_be_listed_is_refused(locked, arguments, listed):
    with pytest.raises(InputError, match=r"^in/lost\+found: cannot list this folder \(Permission denied\)$"):
        find_photos(arguments, listed, DEEP)


def test_the_fixed_folder_of_a_glob_that_cannot_be_listed_is_refused(locked):
    with pytest.raises(InputError, match="cannot list this folder"):
        find_photos(["in/lost+found/*.jpg"], [], DEEP)


NAMES = ["a b.jpg", "写真.png", "ünï.tif"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_lists_as_windows_writes_them_are_read(encoding, end):
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    Path("list.txt").write_bytes((mark + end.join(NAMES) + end).encode(encoding))
    assert read_list("list.txt") == NAMES


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_list_in_utf_16_without_a_mark_is_known_by_its_line_ends(encoding):
    Path("list.txt").write_bytes("a.jpg\r\nb.jpg\r\n".encode(encoding))
    assert read_list("list.txt") == ["a.jpg", "b.jpg"]


def test_short_names_between_nul_are_no_utf_16():
    Path("list.txt").write_bytes(b"1\x002\x00")
    assert read_list("list.txt") == ["1", "2"]


def test_a_list_that_is_damaged_is_named():
    Path("list.txt").write_bytes(b"\xff\xfea")
    with pytest.raises(InputError, match=r"^--files-from list\.txt: is neither UTF-8 nor UTF-16; save it as UTF-8$"):
        read_list("list.txt")

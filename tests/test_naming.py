from pathlib import Path

import pytest

from deblur_cli.batch.inputs import FoundPhoto
from deblur_cli.batch.naming import Layout, check_template, names_a_file
from deblur_cli.errors import InputError


def destination(source, *, output="out", name="{stem}{ext}", file_format="same", is_file=False):
    layout = Layout(Path(output), is_file, file_format, name, model="expert")
    photo = FoundPhoto(Path("in") / source, Path(source), named=True)
    path, found = layout.destination(photo)
    return path.as_posix(), found


@pytest.mark.parametrize(
    ("source", "file_format", "expected"),
    [
        ("a.JPG", "same", ("out/a.JPG", "jpeg")),
        ("a.jpeg", "jpg", ("out/a.jpeg", "jpeg")),
        ("day/a.b.tif", "same", ("out/day/a.b.tif", "tiff")),
        ("a.jpg", "png", ("out/a.png", "png")),
        ("a.png", "webp", ("out/a.webp", "webp")),
        ("a.nef", "same", ("out/a.tif", "tiff")),
        ("a.heic", "same", ("out/a.jpg", "jpeg")),
    ],
)
def test_the_output_keeps_name_tree_and_suffix_unless_the_format_changes(source, file_format, expected):
    assert destination(source, file_format=file_format) == expected


def test_a_template_fills_its_fields():
    assert destination("a.png", name="{stem}_{model}-x{ext}") == ("out/a_expert-x.png", "png")


def test_braces_in_a_photo_s_own_name_are_no_fields():
    assert destination("{model}.png") == ("out/{model}.png", "png")


def test_a_template_that_ends_in_the_wrong_suffix_is_refused():
    with pytest.raises(InputError, match=r"--name \{stem\}.jpg: a.jpg is no png file"):
        destination("a.png", name="{stem}.jpg")


@pytest.mark.parametrize(
    "template", ["{stem}{date}{ext}", "{stem.parent}", "{stem!r}{ext}", "{stem:>9}", "{}", "{0}", "{stem", "x/{stem}"]
)
def test_unknown_fields_and_tricks_are_refused_in_one_line(template):
    with pytest.raises(InputError, match=r"^--name [^\n]+$"):
        check_template(template)


def test_an_output_file_has_the_format_of_its_suffix():
    assert destination("a.jpg", output="new.png", is_file=True) == ("new.png", "png")
    assert destination("a.jpg", output="new.png", is_file=True, file_format="png") == ("new.png", "png")


@pytest.mark.parametrize(
    ("output", "file_format", "text"),
    [("new.png", "jpg", "contradicts --format jpg"), ("new.heic", "same", "read but not written")],
)
def test_an_output_file_of_another_or_unwritable_format_is_refused(output, file_format, text):
    with pytest.raises(InputError, match=text):
        destination("a.jpg", output=output, is_file=True, file_format=file_format)


def test_what_counts_as_an_output_file(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    assert names_a_file("new.jpg", single_file=True)
    assert not names_a_file("new", single_file=True)
    assert not names_a_file("new.jpg/", single_file=False)
    assert not names_a_file(str(tmp_path / "folder.jpg"), single_file=False)
    with pytest.raises(InputError, match=r"new.jpg: names one photo.*use a folder, new.jpg/"):
        names_a_file("new.jpg", single_file=False)


@pytest.mark.parametrize("template", ["", "."])
def test_a_template_without_a_name_is_refused(template):
    with pytest.raises(InputError, match=r"^--name '\.?': is no name for a file[^\n]*$"):
        check_template(template)


@pytest.mark.parametrize(("output", "text"), [("sharp.JXL", "cannot be written"), ("-", "standard output")])
def test_an_output_that_looks_like_a_file_but_cannot_be_one_is_refused(tmp_path, monkeypatch, output, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=text):
        names_a_file(output, single_file=True)
    Path("sharp.JXL").mkdir()
    assert not names_a_file("sharp.JXL", single_file=True)
    assert not names_a_file("./-", single_file=True)


def test_a_very_long_output_is_left_to_the_plan():
    assert not names_a_file("x" * 5000, single_file=True)

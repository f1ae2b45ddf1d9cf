import shutil
import unicodedata
from collections import namedtuple
from pathlib import Path

import pytest
from PIL import Image

from deblur_cli.batch.inputs import PhotoSearch, find_photos
from deblur_cli.batch.naming import Layout
from deblur_cli.batch.origin import read_original
from deblur_cli.batch.plan import build_plan
from deblur_cli.batch.stamp import Stamp
from deblur_cli.errors import BackendError, InputError
from deblur_cli.image_io import write_photo

STAMP = Stamp(model="expert", weights={"expert": "ab12"}, options={"dtype": "auto", "seed": 0})
OTHER = Stamp(model="expert", weights={"expert": "ab12"}, options={"dtype": "auto", "seed": 1})


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def photo(name, shade=90):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), (shade, 80, 70)).save(path)
    return path


def finish(source, output, stamp=STAMP):
    """What a finished run leaves at `output`."""
    read, origin = read_original(Path(source))
    text = stamp.text(file_format="jpeg", **origin.proofs)
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    write_photo(read, Path(output), file_format="jpeg", quality=None, stamp=text, times_of=origin.times)


def plan(*inputs, output="out", name="{stem}{ext}", file_format="same", overwrite=False):
    found = find_photos(inputs, [], PhotoSearch(recursive=True, excluded=Path(output)))
    layout = Layout(Path(output), Path(output).suffix != "", file_format, name, "expert")
    return build_plan(found, layout, STAMP, overwrite=overwrite)


def actions(*inputs, **options):
    return [job.action for job in plan(*inputs, **options).jobs]


def refusal(*inputs, **options):
    with pytest.raises(InputError, match=r"^[^\n]+$") as fault:
        plan(*inputs, **options)
    return str(fault.value)


def test_a_new_photo_is_planned_with_its_size_and_nothing_is_written():
    source = photo("in/day/a.jpg")
    made = plan("in")
    [job] = made.jobs
    assert (job.source, job.output, job.file_format) == (source, Path("out/day/a.jpg"), "jpeg")
    assert (job.action, job.width, job.height) == ("new", 6, 4)
    assert (made.todo, made.skipped) == ((job,), ())
    assert [path.name for path in Path().iterdir()] == ["in"]


def test_a_broken_photo_is_planned_too_for_the_work_to_report():
    photo("in/a.jpg")
    Path("in/b.jpg").write_bytes(b"no photo")
    assert [(job.action, job.pixels) for job in plan("in").jobs] == [("new", 24), ("new", 0)]


def test_a_folder_without_photos_is_nothing_to_do():
    Path("in").mkdir()
    Path("in/notes.txt").touch()
    assert refusal("in") == "nothing to do: no photo found (1 other file)"


def test_two_inputs_with_one_output_are_named_as_a_pair():
    photo("x/a.jpg")
    photo("y/a.jpg")
    assert "x/a.jpg and y/a.jpg -> out/a.jpg" in refusal("x", "y")
    assert refusal("x", "y").endswith("; give each an --output of its own")


@pytest.mark.parametrize("name", ["{stem}{ext}", "{stem}_s{ext}", "sharp{ext}", "{stem}_{model}.webp"])
def test_two_files_of_one_photo_are_told_apart_by_their_suffixes_as_the_message_says(name):
    for made in ("x/a.jpg", "x/a.png", "x/a.tif", "x/day/b.png"):
        photo(made)
    text = refusal("x", file_format="webp", name=name)
    assert "x/a.jpg and x/a.png -> out/" in text
    advised = text.split("--name '")[1].removesuffix("'")
    outputs = {job.output for job in plan("x", file_format="webp", name=advised).jobs}
    assert len(outputs) == 4
    assert all("_jpg" in path.name or "_png" in path.name or "_tif" in path.name for path in outputs)


def test_advice_that_cannot_help_is_not_given():
    photo("x/a.jpg")
    photo("x/a.JPG")
    assert refusal("x").endswith("; give each an --output of its own")


@pytest.mark.parametrize(("one", "two"), [("a.jpg", "A.JPG"), ("é.jpg", unicodedata.normalize("NFD", "é.jpg"))])
def test_names_that_some_file_systems_take_for_one_collide(one, two):
    photo(f"x/{one}")
    photo(f"y/{two}")
    assert "share one output" in refusal("x", "y")


def test_many_collisions_are_counted_not_listed():
    for number in range(5):
        photo(f"x/{number}.jpg")
        photo(f"y/{number}.jpg")
    assert "; and 2 more;" in refusal("x", "y")


def test_an_output_that_is_an_input_is_refused():
    photo("in/a.jpg")
    assert "would replace an input: in/a.jpg" in refusal("in", output="in")
    assert "would replace an input: in/a.jpg" in refusal("in", output="in", overwrite=True)
    assert "would replace an input" in refusal("in/a.jpg", output="in/../in/a.jpg")


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_an_output_that_is_an_input_through_a_link_is_refused(link):
    source = photo("in/a.jpg").resolve()
    Path("out").mkdir()
    link(Path("out/a.jpg"), source)
    assert "would replace an input: out/a.jpg" in refusal("in", overwrite=True)


def test_an_output_folder_that_is_a_link_to_the_input_folder_is_refused():
    photo("in/a.jpg")
    Path("out").symlink_to("in")
    assert "would replace an input" in refusal("in")


def test_the_output_of_one_input_may_not_be_another_input():
    photo("in/a.jpg")
    photo("in/a_sharp.jpg")
    assert "would replace an input: in/a_sharp.jpg" in refusal("in", output="in", name="{stem}_sharp{ext}")


def test_a_result_beside_its_input_is_no_input_of_the_next_run():
    source = photo("in/a.jpg")
    finish(source, "in/a_sharp.jpg")
    for name in ("{stem}_sharp{ext}", "{stem}_other{ext}", "{stem}{ext}"):
        made = plan("in", output="in" if name != "{stem}{ext}" else "out", name=name)
        assert [job.source for job in made.jobs] == [source]
        assert made.results == 1


def test_results_in_sub_folders_and_among_the_matches_of_a_glob_are_left_out_too():
    finish(photo("in/a.jpg"), "in/sharp/day/a.jpg")
    assert [job.source for job in plan("in", output="in/other").jobs] == [Path("in/a.jpg")]
    assert [job.source for job in plan("in/**/*.jpg").jobs] == [Path("in/a.jpg")]


def test_a_result_that_is_named_is_restored_again_unless_the_same_line_makes_it():
    finish(photo("in/a.jpg"), "in/a_x.jpg")
    assert [job.source for job in plan("in/a_x.jpg").jobs] == [Path("in/a_x.jpg")]
    assert [job.source for job in plan("in", "in/a_x.jpg").jobs] == [Path("in/a.jpg"), Path("in/a_x.jpg")]
    [job] = plan("in/a.jpg", "in/a_x.jpg", output="in", name="{stem}_x{ext}").jobs  # `*.jpg` of a shell
    assert (job.source, job.action) == (Path("in/a.jpg"), "skip")


def test_a_folder_of_nothing_but_results_is_nothing_to_do_and_says_so():
    finish(photo("a.jpg"), "in/a.jpg")
    text = "nothing to do: no photo found (0 other files); 1 result of this tool left out; name a file"
    assert refusal("in").startswith(text)


def test_somebody_else_s_file_is_refused_unless_overwritten():
    photo("in/a.jpg")
    photo("out/a.jpg")
    assert refusal("in") == "out/a.jpg: exists and was not made by this tool; use --overwrite to replace it"
    assert actions("in", overwrite=True) == ["replace"]


def test_an_unreadable_file_is_somebody_else_s_and_an_empty_one_is_none():
    photo("in/a.jpg")
    Path("out").mkdir()
    Path("out/a.jpg").write_bytes(b"half a fi")
    assert "was not made by this tool" in refusal("in")
    Path("out/a.jpg").write_bytes(b"")
    assert actions("in") == ["new"]


def test_the_same_stamp_is_skipped_and_another_is_replaced():
    source = photo("in/a.jpg")
    finish(source, "out/a.jpg")
    assert actions("in") == ["skip"]
    assert actions("in", overwrite=True) == ["replace"]
    finish(source, "out/a.jpg", OTHER)
    assert actions("in") == ["replace"]


@pytest.mark.parametrize("output", ["file/out", "file"])
def test_a_folder_below_a_file_is_refused(output):
    photo("in/a.jpg")
    Path("file").touch()
    assert refusal("in", output=output) == "file: is a file, so no folder can be made there"


def test_an_output_that_is_a_folder_is_refused():
    photo("in/a.jpg")
    Path("out/a.jpg").mkdir(parents=True)
    assert "out/a.jpg: is a folder" in refusal("in")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write to")
def test_a_folder_that_cannot_be_written_is_refused():
    photo("in/a.jpg")
    assert refusal("in", output="/proc/out").startswith("/proc: cannot write here (")


def test_a_disk_that_is_clearly_too_full_is_refused(monkeypatch):
    photo("in/a.png")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(100, 95, 5))
    with pytest.raises(BackendError, match="free; make room first"):
        plan("in")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(100, 80, 20))
    assert actions("in") == ["new"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_name_that_is_too_long_is_refused_before_the_work(exists):
    photo("a.png")
    if exists:
        Path("out").mkdir()
    assert "File name too long" in refusal("a.png", name="{stem}" + "x" * 300 + "{ext}")
    assert "File name too long" in refusal("a.png", output="x" * 300)


def test_a_folder_that_cannot_be_entered_is_refused(monkeypatch):
    photo("a.png")

    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "is_dir", refuse)
    assert refusal("a.png", output="locked/out") == "locked/out: cannot write here (Permission denied)"


def test_an_output_folder_that_is_a_link_to_itself_is_refused():
    photo("in/day/a.png")
    Path("loop").symlink_to("loop")
    for output in ("loop", "loop/deeper"):
        assert refusal("in", output=output).startswith("loop: is a file")
        assert refusal("in/**/*.png", output=output).startswith("loop: is a file")

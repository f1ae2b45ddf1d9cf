"""`deblur inspect` from end to end."""

import json
from functools import partial

import pytest
from support.blurred_scene import blur, line, save, scene
from support.photo_folders import broken, photo, tree

from deblur_cli.batch.inspection import choose
from deblur_cli.restoration.blur_measure import measure_blur

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture
def deblur(command):
    return partial(command, "inspect")


@pytest.fixture
def card(own_folder):
    """A sharp and a moved photo."""
    save(scene(), "in/still.png")
    save(blur(scene(), line(24, 45)), "in/day 1/moved.png")


@pytest.mark.usefixtures("card")
def test_a_table_tells_each_photo_and_writes_nothing(deblur):
    before = tree(".")
    status, out, _ = deblur("in", "-r")
    rows = [line.split("\t") for line in out]
    assert status == 0
    assert rows[0] == ["photo", "verdict", "length", "direction", "sharpness", "noise", "choice"]
    assert [row[:2] for row in rows[1:]] == [["in/day 1/moved.png", "motion"], ["in/still.png", "sharp"]]
    assert (rows[2][2:4], rows[2][-1]) == (["-", "-"], "leave it")
    assert rows[1][-1] in ("standard", "best", "shake")
    assert tree(".") == before


@pytest.mark.usefixtures("card")
def test_json_is_one_document(deblur):
    status, out, err = deblur("in/*.png", "in/day 1", "--json")
    report = json.loads("\n".join(out))
    assert (status, err) == (0, [])
    still, moved = report["photos"]
    assert (still["verdict"], still["length"], still["direction"], still["choice"]) == ("sharp", None, None, "leave it")
    assert (moved["input"], moved["width"], moved["height"]) == ("in/day 1/moved.png", *scene().shape[1::-1])
    assert abs(moved["direction"] - 45) < 12
    assert set(moved["shares"]) == {"sharp", "motion", "defocus"}
    assert report["failed"] == []


def test_a_photo_that_cannot_be_read_is_told_in_one_line_and_the_others_are_looked_at(deblur):
    photo("in/a.jpg")
    broken("in/b.jpg")
    status, out, err = deblur("in", "--quiet")
    assert status == 3
    assert [line.split("\t")[:2] for line in out[1:]] == [["in/a.jpg", "empty"]]
    assert len(err) == 2
    assert "in/b.jpg" in err[0]
    assert err[1] == "deblur: error: 1 of 2 photos could not be read"
    status, out, _ = deblur("in", "--json")
    assert (status, json.loads("\n".join(out))["failed"][0]["input"]) == (3, "in/b.jpg")


@pytest.mark.parametrize(("words", "text"), [((), "no input"), (("no.jpg",), "no.jpg"), ((".",), "no photo found")])
def test_where_there_is_nothing_to_look_at_the_status_is_2(deblur, words, text):
    status, out, err = deblur(*words)
    assert (status, out, len(err)) == (2, [], 1)
    assert text in err[0]


def test_a_slight_blur_asks_for_the_careful_model_and_none_for_nothing():
    assert choose(measure_blur(scene())) == "leave it"
    slight = measure_blur(blur(scene(), line(20, 10)))
    assert choose(slight) in ("standard", "best", "shake")

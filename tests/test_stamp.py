import json

from deblur_cli.batch.stamp import Stamp, describe_same_work, stamped

STAMP = Stamp(model="expert", weights={"expert": "ab12"}, options={"dtype": "auto", "seed": 0})


def text_of(stamp=STAMP, *, file_format="jpeg", input_sha256="cd34"):
    return stamp.text(file_format=file_format, input_sha256=input_sha256)


def with_field(text, key, value):
    return json.dumps({**json.loads(text), key: value}, indent=3)


def test_a_stamp_is_one_line_of_json_that_tells_model_weights_options_and_input():
    text = text_of()
    assert "\n" not in text
    told = json.loads(text)
    assert told["tool"] == "deblur-cli"
    assert (told["model"], told["weights"]) == ("expert", {"expert": "ab12"})
    assert (told["dtype"], told["seed"], told["format"]) == ("auto", 0, "jpeg")
    assert stamped(text, "input_sha256") == "cd34"


def test_two_stamps_are_the_same_whatever_the_version_and_the_spelling_of_the_json():
    assert describe_same_work(text_of(), with_field(text_of(), "version", "99.0"))


def test_every_other_field_makes_it_other_work():
    for key in json.loads(text_of()):
        if key != "version":
            assert not describe_same_work(text_of(), with_field(text_of(), key, "something else")), key
    assert not describe_same_work(text_of(), with_field(text_of(), "tile", 512))


def test_a_damaged_stamp_is_like_no_other_and_names_no_input():
    for damaged in ("", "{", "[]", "3", "null"):
        assert not describe_same_work(damaged, damaged)
        assert stamped(damaged, "input_sha256") == ""

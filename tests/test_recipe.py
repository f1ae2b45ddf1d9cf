import json

from deblur_cli.batch.stamp import Stamp, same_recipe, stamped

RECIPE = Stamp(model="expert", weights={"expert": "ab12"}, options={"dtype": "auto", "seed": 0})


def stamp(recipe=RECIPE, *, file_format="jpeg", input_sha256="cd34"):
    return recipe.stamp(file_format=file_format, input_sha256=input_sha256)


def with_field(text, key, value):
    return json.dumps({**json.loads(text), key: value}, indent=3)


def test_a_stamp_is_one_line_of_json_that_tells_model_weights_options_and_input():
    text = stamp()
    assert "\n" not in text
    told = json.loads(text)
    assert told["tool"] == "deblur-cli"
    assert (told["model"], told["weights"]) == ("expert", {"expert": "ab12"})
    assert (told["dtype"], told["seed"], told["format"]) == ("auto", 0, "jpeg")
    assert stamped(text, "input_sha256") == "cd34"


def test_two_stamps_are_the_same_whatever_the_version_and_the_spelling_of_the_json():
    assert same_recipe(stamp(), with_field(stamp(), "version", "99.0"))


def test_every_other_field_makes_another_recipe():
    for key in json.loads(stamp()):
        if key != "version":
            assert not same_recipe(stamp(), with_field(stamp(), key, "something else")), key
    assert not same_recipe(stamp(), with_field(stamp(), "tile", 512))


def test_a_damaged_stamp_is_like_no_other_and_names_no_input():
    for damaged in ("", "{", "[]", "3", "null"):
        assert not same_recipe(damaged, damaged)
        assert stamped(damaged, "input_sha256") == ""

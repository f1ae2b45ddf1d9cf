"""What models are called: the few that the list shows, names of before, and names that the user took first."""

import json
import logging
import re
import tomllib
from functools import partial

import pytest
from support.manifest_tables import HUB, MODEL

from deblur_cli import weights
from deblur_cli.app import run_app
from deblur_cli.backends import load_model
from deblur_cli.benchmark.bench_plan import Options, build_bench_plan
from deblur_cli.benchmark.datasets import PairSearch
from deblur_cli.commands.options import DEFAULT_MODEL, complete_model
from deblur_cli.commands.weights_tables import show_choices
from deblur_cli.weights import store
from deblur_cli.weights.entries import ModelEntry
from deblur_cli.weights.manifest import find_files, user_manifest_path
from deblur_cli.weights.model_spec import ModelSpec, find_expert, resolve
from deblur_cli.weights.user_manifest import to_toml

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def deblur(command):
    return partial(command, "weights")


def test_list_has_tabs_in_a_pipe_and_is_json_on_demand(deblur):
    status, out, err = deblur("list", "--all")
    assert (status, err) == (0, [])
    heading, *lines = [line.split("\t") for line in out]
    assert heading == ["model", "state", "size", "licence", "summary"]
    rows = {name: cells for name, *cells in lines}
    assert rows["nafnet-64"][:2] == ["absent", "271.8 MB"]
    assert rows["standard"][0] == "bundled"
    models = json.loads("\n".join(deblur("list", "--json")[1]))["models"]
    assert [model["name"] for model in models] == list(rows)
    assert {"state", "bytes", "files", "scores", "aliases", "listed", "seconds_24mp"} <= set(models[0])
    assert [model["name"] for model in models if model["default"]] == [weights.find_model(DEFAULT_MODEL).name]


def test_list_shows_the_choice_with_the_default_marked_and_the_users_own(deblur, mine):
    deblur("add", "my-net", "mine.pth", "--summary", "My own.")
    status, out, err = deblur("list")
    assert (status, err) == (0, [])
    listed = [entry.name for entry in weights.read_manifest().models.values() if entry.listed]
    assert [line.split("\t")[0] for line in out[1:]] == [*listed, "my-net"]
    assert len(out) <= 1 + 5 + 1
    default = weights.find_model(DEFAULT_MODEL)
    marked = [line for line in out if "(default)" in line]
    assert len(marked) == 1
    assert marked[0].split("\t")[0] == default.name
    assert marked[0].endswith(f"\t(default) {default.summary}")
    assert not any(name in "\n".join(out) for name in ("bundled-generic", "bundled-flow", "stable-diffusion"))


def test_list_tells_the_time_of_a_photo_and_shows_the_default_even_where_nobody_has_listed_it(capsys):
    entries = [
        ModelEntry("a", "expert", "First.", {}, untrained="x", listed=True, seconds_24mp=56.4),
        ModelEntry("b", "expert", "Second.", {}, untrained="x", seconds_24mp=400),
        ModelEntry("c", "expert", "Third.", {}, untrained="x"),
    ]
    show_choices(entries, "b")
    assert [line.split("\t") for line in capsys.readouterr().out.splitlines()] == [
        ["model", "state", "24 MP", "good for"],
        ["a", "untrained", "56 s", "First."],
        ["b", "untrained", "7 min", "(default) Second."],
    ]


@pytest.mark.parametrize(
    ("arguments", "titles"),
    [
        ([], ["model", "state", "24", "MP", "good", "for"]),
        (["--all"], ["model", "state", "size", "licence", "summary"]),
    ],
)
def test_list_is_a_table_on_a_terminal(monkeypatch, capsys, arguments, titles):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run_app(["weights", "list", *arguments]) == 0
    streams = capsys.readouterr()
    lines = re.sub(r"\x1b\[[\d;]*m", "", streams.out).splitlines()
    assert lines[0].split() == titles
    assert ("more models: deblur weights list --all" in streams.err) is not bool(arguments)


def test_show_finds_a_model_under_its_name_of_before(deblur):
    assert deblur("show", "bundled-expert") == deblur("show", "quick")
    assert {"name: quick", "aliases: bundled-expert"} <= set(deblur("show", "quick")[1])


@pytest.mark.parametrize("name", ["nafnet-32", "bundled-expert"])  # a name, and one of before
def test_a_user_entry_never_shadows_a_shipped_one_silently(deblur, caplog, name):
    shipped = weights.find_model(name)
    tables = {"files": {"f": HUB, "bundled-expert": HUB}, "models": {name: MODEL, "mine": MODEL}}
    user_manifest_path().parent.mkdir()
    user_manifest_path().write_text(to_toml(tables))
    line = f"deblur: {name}: a model that ships with the tool has this name now and is the one that runs; rename yours"
    assert weights.find_model(name) == shipped
    assert deblur("list")[0] == 0
    assert [record.getMessage() for record in caplog.records] == [f"{line} in {user_manifest_path()}"]
    assert weights.find_model("mine").files["expert"].repository == "a/b"
    assert store.find_state(find_files("bundled-expert")[0]) == "bundled"
    assert deblur("remove", name)[0] == 0
    assert weights.find_model(name) == shipped
    assert set(tomllib.loads(user_manifest_path().read_text())["models"]) == {"mine"}
    assert "ships with the tool and cannot be removed" in deblur("remove", name)[2][0]


def test_a_fault_in_an_entry_that_is_left_out_is_no_fault(deblur):
    user_manifest_path().parent.mkdir()
    user_manifest_path().write_text('[models.quick]\nbackend = 3\n[models.bundled]\nfiles = "f"\n')
    assert deblur("list")[0] == 0
    for name in ("quick", "bundled"):
        assert weights.find_model(name).user is False
        assert deblur("remove", name)[0] == 0


def test_a_file_of_the_users_with_the_name_of_a_shipped_one_serves_the_users_models_only(deblur):
    user_manifest_path().parent.mkdir()
    user_manifest_path().write_text(
        to_toml({"files": {"nafnet-32": HUB}, "models": {"mine": {**MODEL, "files": {"expert": "nafnet-32"}}}})
    )
    assert weights.find_model("mine").files["expert"].repository == "a/b"
    assert weights.find_model("nafnet-32").files["expert"].repository == "nyanko7/nafnet-models"
    assert find_files("nafnet-32")[0].repository == "nyanko7/nafnet-models"
    assert weights.read_manifest().files["nafnet-32"].repository == "nyanko7/nafnet-models"


def test_every_command_takes_a_name_of_before_and_tells_the_present_one(deblur):
    specs = tuple(map(ModelSpec.parse, ("bundled-expert", "quick", "bundled:steps=2")))
    plan = build_bench_plan((), Options(models=specs), PairSearch())
    assert list(plan.models) == ["quick", "quick+flow:steps=2"]
    assert load_model("bundled-expert", device="cpu").name == "quick"
    stamped = resolve("bundled-expert")
    assert (stamped.name, stamped.hashes, stamped.settings) == ("quick", weights.find_model("quick").hashes, {})
    assert find_expert("bundled-expert") == weights.find_model("quick")
    deblur("add", "mine", str(store.locate(find_files("quick")[0])), "--like", "bundled-expert")
    assert weights.find_model("mine").summary.startswith("As quick, from ")


def test_the_shell_is_offered_present_names_and_nothing_is_told_beside_them(caplog, monkeypatch):
    user_manifest_path().parent.mkdir()
    user_manifest_path().write_text(to_toml({"files": {"f": HUB}, "models": {"quick": MODEL, "mine": MODEL}}))
    logger = logging.getLogger("deblur_cli")
    monkeypatch.setattr(logger, "disabled", False)
    names = [name for name, _ in complete_model("")]
    assert {"quick", "mine"} <= set(names)
    assert "bundled-expert" not in names
    assert caplog.records == []

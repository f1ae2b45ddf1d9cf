"""The store and the tables of `deblur weights`; nothing here goes to a network."""

import json
import tomllib
from functools import partial
from pathlib import Path

import pytest
from support.deblur_process import call, run_python
from support.manifest_tables import BYTES, COMMIT, MODEL, SHA256
from support.start_up import HEAVY, PROBE, count_modules

from deblur_cli import weights
from deblur_cli.errors import WeightsError
from deblur_cli.weights import store
from deblur_cli.weights.manifest import find_files, user_manifest_path
from deblur_cli.weights.user_manifest import to_toml

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def deblur(command):
    return partial(command, "weights")


def test_a_model_that_is_not_trained_is_listed_and_never_pulled(deblur):
    line = "deblur train flow --base sd3-medium makes its adapter"
    tables = {"models": {"big": {**MODEL, "files": {}, "untrained": line}}}
    user_manifest_path().parent.mkdir(parents=True)
    user_manifest_path().write_text(to_toml(tables))
    listed = {row.split()[0]: row.split()[1] for row in deblur("list")[1]}
    assert listed["big"] == "untrained"
    assert f"untrained: {line}" in deblur("show", "big")[1]
    assert deblur("pull", "big") == (1, [], [f"deblur: error: big: is not trained yet; {line}"])
    assert deblur("verify", "big")[0] == 0


def test_add_by_path_runs_like_another_model(deblur, mine):
    status, out, err = deblur("add", "my-net", "mine.pth", "--like", "nafnet-32", "--licence", 'my "own"')
    assert (status, out) == (0, [])
    assert err == [f"deblur: my-net: added to {user_manifest_path()}; runs with deblur run --model my-net"]
    entry, like = weights.find_model("my-net"), weights.find_model("nafnet-32")
    assert (entry.backend, entry.network, entry.config) == (like.backend, like.network, like.config)
    assert entry.checkpoint_key is None  # wherever the tensors lie in this file
    assert (entry.user, entry.files["expert"].licence) == (True, 'my "own"')
    assert weights.fetch(entry.files["expert"]).path == mine
    assert deblur("path", "my-net")[1] == [str(mine)]
    assert deblur("list")[1][-1].split()[:2] == ["my-net", "local"]


def test_a_file_that_has_changed_since_it_was_added_is_never_used(deblur, mine):
    deblur("add", "my-net", "mine.pth")
    mine.write_bytes(BYTES[::-1])
    with pytest.raises(WeightsError, match=r"has changed since it was added .*deblur weights remove my-net"):
        weights.fetch(find_files("my-net")[0])
    assert deblur("verify", "my-net")[0] == 1
    mine.unlink()
    with pytest.raises(WeightsError, match="is gone"):
        weights.fetch(find_files("my-net")[0])


ADD_FAULTS = [
    (["nafnet-32", "mine.pth"], "a model that ships with the tool has this name"),
    (["bundled-expert", "mine.pth"], "a model that ships with the tool has this name"),
    (["a b", "mine.pth"], "no usable name"),
    (["x", "nowhere.pth"], "nowhere.pth: no such file"),
    (["x", "hf://a/b@main/c.pth"], "needs @ and a full commit of 40 hex digits"),
    (["x", "hf://a/b/c.pth"], "needs @ and a full commit of 40 hex digits"),
    (["x", "hf://a"], "must have the form hf://OWNER/REPOSITORY@REVISION/FILE"),
    (["x", f"hf://a/b@{COMMIT}/../c"], "must have the form hf://"),
    (["x", "mine.pth", "--sha256", "12"], "--sha256 12: must be 64 hex digits"),
    (["x", "mine.pth", "--sha256", "0" * 64], f"its sha256 is {SHA256}, not the one"),
]


@pytest.mark.parametrize(("arguments", "text"), ADD_FAULTS, ids=[" ".join(row[0])[:40] for row in ADD_FAULTS])
def test_what_cannot_be_added_is_refused_with_status_2(deblur, mine, arguments, text):
    status, out, err = deblur("add", *arguments)
    assert (status, out, len(err)) == (2, [], 1)
    assert text in err[0]
    assert not user_manifest_path().exists()


PART = {"path": "expert/net.safetensors", "bytes": len(BYTES), "sha256": SHA256, "licence": "MIT"}
FOLDER = {"format": 1, "name": "theirs", "summary": "A model.", "backend": "expert", "files": {"expert": PART}}


def write_folder(text):
    Path("whole/expert").mkdir(parents=True)
    Path("whole/expert/net.safetensors").write_bytes(BYTES)
    Path("whole/model.json").write_text(text if isinstance(text, str) else json.dumps(text), "utf-8")


def test_a_folder_with_its_model_json_is_added_as_it_says(deblur):
    expert = {"network": "nafnet", "config": {"width": 32}, "checkpoint_key": "params", "dtypes": ["float32"]}
    write_folder({**FOLDER, **expert, "made_by": "a later version, which adds keys"})
    assert deblur("add", "mine", "whole")[0] == 0
    entry = weights.find_model("mine")
    assert (entry.network, entry.config, entry.checkpoint_key) == ("nafnet", {"width": 32}, "params")
    assert (entry.summary, entry.dtypes, entry.files["expert"].licence) == ("A model.", ("float32",), "MIT")
    assert deblur("path", "mine")[1] == [str(Path("whole/expert/net.safetensors").resolve())]
    assert "you have added this name before" in deblur("add", "mine-expert", "whole/model.json")[2][0]
    assert deblur("add", "ours", "whole", "--licence", "ask me", "--summary", "Ours.")[0] == 0
    entry = weights.find_model("ours")
    assert (entry.summary, entry.files["expert"].licence) == ("Ours.", "ask me")


DUAL = {**FOLDER, "backend": "dual_expert", "files": dict.fromkeys(("expert", "codec", "base", "lora"), PART)}
HUB_PART = {"repository": "a/b", "revision": COMMIT, "name": "c", "bytes": 7, "sha256": SHA256}
FOLDER_FAULTS = [
    ("{", "damaged, it is no JSON"),
    ("[" * 200_000, "damaged, it is no JSON"),
    ('{"format": 1, "config": {"a": 1e999}}', "1e999 is no number"),
    ('{"format": 1, "config": {"a": NaN}}', "NaN is no number"),
    ('{"format": 1, "config": {"a": "\\ud800"}}', "damaged, it is no JSON"),
    ("[]", "is no model.json of this tool"),
    ('{"architectures": ["Bert"]}', "is no model.json of this tool"),
    (" " * (1 << 21), "is no model.json of this tool"),
    ({**FOLDER, "format": 2}, "has the format 2, this version knows 1"),
    ({**FOLDER, "backend": "magic"}, "its backend 'magic' is none of expert, dual_expert"),
    ({**FOLDER, "backend": ["expert"]}, "backend must be a text"),
    ({**FOLDER, "summary": "a\nb"}, "summary = 'a\\nb' must be a text"),
    ({**FOLDER, "files": {}}, "files must be expert"),
    ({**FOLDER, "files": []}, "files must be a table"),
    ({**FOLDER, "files": {"expert": PART, "codec": PART}}, "files must be expert"),
    ({**DUAL, "files": {"expert": PART}}, "files must be base, codec, expert, lora"),
    ({**FOLDER, "files": {"expert": "net"}}, "the expert must be a table"),
    ({**FOLDER, "files": {"expert": {"bytes": 1}}}, "neither a path nor repository, revision and name"),
    ({**FOLDER, "files": {"expert": {**PART, "path": "../net"}}}, "the expert's path leaves the folder"),
    ({**FOLDER, "files": {"expert": {**PART, "path": "/etc/passwd"}}}, "the expert's path leaves the folder"),
    ({**FOLDER, "files": {"expert": {**PART, "sha256": None}}}, "the expert lacks its sha256"),
    ({**FOLDER, "files": {"expert": {**PART, "bytes": "7"}}}, "the expert lacks its size"),
    ({**FOLDER, "files": {"expert": {**PART, "bytes": -7}}}, "bytes = -7 must be a whole number above 0"),
    ({**FOLDER, "files": {"expert": {**PART, "gated": "perhaps"}}}, "gated = 'perhaps' must be true or false"),
    ({**FOLDER, "files": {"expert": {**PART, "licence": 3}}}, "licence = 3 must be a text"),
    ({**FOLDER, "files": {"expert": {**PART, "trained_on": []}}}, "trained_on must be a table"),
    ({**FOLDER, "files": {"expert": {**HUB_PART, "revision": "main"}}}, "revision = 'main' must be a full commit"),
    ({**FOLDER, "files": {"expert": {**HUB_PART, "repository": "a"}}}, "repository = 'a' must be OWNER/NAME"),
    ({**FOLDER, "config": {"a": None}}, "config = {'a': None} must be a table of plain values"),
    ({**FOLDER, "tiling": {"size": "all"}}, "tiling = {'size': 'all'} must be a table"),
    ({**DUAL, "flow": {"steps": 0}}, "steps must be 1 to 1000"),
    ({**DUAL, "flow": {"speed": 3}}, "flow: unknown key 'speed'"),
    (
        {**DUAL, "files": {**DUAL["files"], "lora": {**PART, "trained_on": {"codec": "f" * 64}}}},
        "the lora was trained on another codec (ffffffffffff…, not ",
    ),
    ({**FOLDER, "files": {"expert": {**PART, "path": "expert/other"}}}, "expert/other: is not there"),
    ({**FOLDER, "files": {"expert": {**PART, "bytes": 7}}}, f"has {len(BYTES)} bytes, model.json says 7"),
]


@pytest.mark.parametrize(("text", "fault"), FOLDER_FAULTS, ids=[row[1][:40] for row in FOLDER_FAULTS])
def test_a_damaged_or_foreign_model_json_is_one_line(deblur, text, fault):
    write_folder(text)
    status, out, err = deblur("add", "x", "whole")
    assert (status, out, len(err)) == (1, [], 1)
    assert fault in err[0]
    assert str(Path("whole").resolve()) in err[0]
    assert not user_manifest_path().exists()


def test_a_folder_that_is_no_model_is_said(deblur):
    Path("photos").mkdir()
    assert "photos: no model.json there; name a file, or a folder that" in deblur("add", "x", "photos")[2][0]
    write_folder(FOLDER)
    assert "--like: is for a single file" in deblur("add", "x", "whole", "--like", "nafnet-32")[2][0]
    assert "--sha256: is for a single file" in deblur("add", "x", "hf://a/b", "--sha256", SHA256)[2][0]
    assert "nothing is fetched offline" in deblur("add", "x", "hf://a/b")[2][0]
    assert "must have the form hf://OWNER/REPOSITORY" in deblur("add", "x", "hf://../b")[2][0]
    assert "no usable name" in deblur("add", "x" * 60, "whole")[2][0]
    assert not user_manifest_path().exists()


def test_a_name_is_added_once_and_removed_once(deblur, mine):
    deblur("add", "one", "mine.pth")
    deblur("add", "two", f"hf://a/b@{COMMIT}/c.pth")
    assert "you have added this name before" in deblur("add", "one", "mine.pth")[2][0]
    assert deblur("remove", "one")[0] == 0
    assert "no model of your own has this name" in deblur("remove", "one")[2][0]
    assert "ships with the tool" in deblur("remove", "bundled")[2][0]
    assert set(tomllib.loads(user_manifest_path().read_text())["files"]) == {"two"}
    assert mine.exists()


@pytest.mark.parametrize("text", ["files = 3", "[models.x]\nbackend = 3", "not toml", "\x00"])
def test_a_broken_user_manifest_is_named_and_shipped_models_still_run(deblur, text):
    user_manifest_path().parent.mkdir()
    user_manifest_path().write_text(text)
    status, _, err = deblur("list")
    assert (status, len(err)) == (1, 1)
    assert str(user_manifest_path()) in err[0]
    assert weights.fetch(weights.find_model("bundled").files["expert"]).path.is_file()


def test_import_checks_the_bytes_and_keeps_a_copy(deblur, mine):
    deblur("add", "theirs", f"hf://a/b@{COMMIT}/c.pth", "--sha256", SHA256)
    Path("wrong.pth").write_bytes(BYTES[::-1])
    status, out, err = deblur("import", "theirs", "wrong.pth")
    assert (status, out, len(err)) == (1, [], 1)
    assert "this is not theirs, fetch it again from hf://a/b@" in err[0]
    assert deblur("list")[1][-1].split()[:2] == ["theirs", "absent"]
    status, out, err = deblur("import", "theirs", "mine.pth")
    assert (status, err) == (0, [])
    mine.unlink()
    assert Path(out[0]).read_bytes() == BYTES
    assert weights.fetch(find_files("theirs")[0]).path == Path(out[0])
    assert deblur("list")[1][-1].split()[:2] == ["theirs", "imported"]


def test_import_of_another_size_is_refused_before_it_is_read(deblur):
    with Path("long.pth").open("wb") as stream:
        stream.truncate(1 << 36)  # a hole: reading it would take minutes
    assert "has 68719476736 bytes, expected 68671121" in deblur("import", "nafnet-32", "long.pth")[2][0]


def test_import_pins_what_nobody_has_hashed(deblur, mine, monkeypatch):
    page = {"page": "https://drive.example/x", "licence": "MIT", "source": "s"}
    user_manifest_path().parent.mkdir()
    user_manifest_path().write_text(to_toml({"files": {"f": page}, "models": {"hand": MODEL}}))
    with pytest.raises(WeightsError, match=r"fetch https://drive\.example/x, then deblur weights import f FILE"):
        weights.fetch(find_files("hand")[0])
    assert f"pinned to {SHA256}" in deblur("import", "hand", "mine.pth")[2][0]
    assert weights.find_model("hand").hashes == {"expert": SHA256}
    store.locate(find_files("hand")[0]).write_bytes(BYTES[::-1])
    with pytest.raises(WeightsError, match="expected"):
        weights.fetch(find_files("hand")[0])


def test_import_of_what_needs_none_is_refused(deblur, mine):
    assert deblur("import", "bundled-expert", "mine.pth")[0] == 2
    assert deblur("import", "quick", "mine.pth")[0] == 2
    assert "name one of bundled-expert" in deblur("import", "bundled", "mine.pth")[2][0]
    assert "no such file" in deblur("import", "nafnet-32", "nowhere.pth")[2][0]


def test_show_tells_where_figures_come_from(deblur):
    _, out, _ = deblur("show", "nafnet-64")
    assert "  psnr: 33.7103" in out
    assert any("no licence tag" in line for line in out)
    assert (
        "  origin: hf://nyanko7/nafnet-models@08e8c701eb662688cccda3bf3074e90e902bcd3b/NAFNet-GoPro-width64.pth" in out
    )
    facts = json.loads("\n".join(deblur("show", "nafnet-64", "--json")[1]))
    assert facts["files"][0]["state"] == "absent"


def test_verify_reads_what_is_there_and_passes_over_what_is_not(deblur):
    status, out, err = deblur("verify")
    assert (status, err) == (0, [])
    assert {line.split()[0]: line.split()[1] for line in out}["bundled-expert"] == "verified"
    status, _, err = deblur("verify", "nafnet-32")
    assert (status, err) == (1, ["deblur: error: not usable: nafnet-32; run deblur weights pull nafnet-32"])


@pytest.mark.parametrize(
    "arguments", [["list"], ["list", "--all"], ["list", "--json"], ["verify"], ["show", "nafnet-64"], ["--help"]]
)
def test_nothing_heavy_is_imported(arguments, tmp_path):
    answer = run_python(["-c", PROBE, "weights", *arguments], HF_HOME=str(tmp_path))
    assert answer.returncode == 0
    assert answer.stderr.endswith("heavy: ")
    assert "torch" in HEAVY


@pytest.mark.parametrize("arguments", [["list"], ["verify"]])
def test_it_loads_few_modules(arguments):
    assert count_modules(["weights", *arguments]) <= 240


COMMANDS = ("list", "show", "pull", "verify", "path", "add", "remove", "import")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    answer = call(["weights", command, "--help"])
    assert answer.returncode == 0
    assert f"deblur weights {command}" in answer.stdout
    assert "Example" in answer.stdout


def test_completion_knows_the_models():
    answer = call([], _DEBLUR_COMPLETE="complete_bash", COMP_WORDS="deblur weights pull naf", COMP_CWORD="3")
    assert sorted(answer.stdout.split()) == ["nafnet-32", "nafnet-64", "nafnet-64+flow", "nafnet-reds-64"]

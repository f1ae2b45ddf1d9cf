"""The manifests: what they may hold, and that the shipped one holds it; nothing here goes to a network."""

import subprocess
import sys
import tomllib
import zipfile

import pytest
from support.manifest_tables import HUB, MODEL, SHA256

from deblur_cli import weights
from deblur_cli.commands.options import DEFAULT_MODEL
from deblur_cli.errors import WeightsError
from deblur_cli.system.typed_tables import TableFault
from deblur_cli.weights import store
from deblur_cli.weights.entries import Manifest
from deblur_cli.weights.manifest import find_files
from deblur_cli.weights.schema import build_manifest
from deblur_cli.weights.user_manifest import to_toml

pytestmark = pytest.mark.usefixtures("own_home")


def build(files, models=None):
    return build_manifest({"files": files, "models": models or {}}, Manifest({}, {}))


def test_the_shipped_manifest_names_the_public_models():
    models = weights.read_manifest().models
    assert {"standard", "quick", "nafnet-32", "nafnet-64"} <= set(models)
    entry = weights.find_model("nafnet-64")
    assert (entry.backend, entry.network, entry.checkpoint_key) == ("expert", "nafnet", "params")
    assert entry.config["width"] == 64
    assert entry.files["expert"].bytes == 271_778_961
    assert entry.hashes == {"expert": entry.files["expert"].sha256}
    assert weights.find_model("bundled").network == "dense_unet"


def test_the_networks_of_one_shape_from_one_repository_differ_in_their_weights_only():
    gopro, reds = (weights.find_model(name) for name in ("nafnet-64", "nafnet-reds-64"))
    assert (gopro.network, gopro.config, gopro.checkpoint_key) == (reds.network, reds.config, reds.checkpoint_key)
    files = [entry.files["expert"] for entry in (gopro, reds)]
    assert len({(file.repository, file.revision, file.licence) for file in files}) == 1
    assert len({file.sha256 for file in files}) == 2
    assert files[1].bytes == 271_756_689
    assert reds.scores[0].data.startswith("REDS")


def test_a_model_may_say_how_its_flow_runs_and_a_wrong_value_is_named():
    entry = build({"f": HUB}, {"m": {**MODEL, "flow": {"steps": 8, "strength": 0.5}}}).models["m"]
    assert entry.flow == {"steps": 8, "strength": 0.5}
    for table, text in (
        ({"steps": 0}, "steps must be 1 to 1000"),
        ({"step": 4}, "unknown key 'step'; FlowSettings has steps,"),
    ):
        with pytest.raises(TableFault) as caught:
            build({"f": HUB}, {"m": {**MODEL, "flow": table}})
        assert str(caught.value).startswith(f"[models.m] flow: {text}")


def test_a_model_answers_to_its_names_of_before_and_is_told_under_the_present_one():
    entry = weights.find_model("bundled-expert")
    assert entry == weights.find_model("quick")
    assert (entry.name, entry.aliases) == ("quick", ("bundled-expert",))
    assert find_files("bundled-expert") == find_files("quick")


def test_no_name_of_a_shipped_model_means_two():
    manifest = weights.read_manifest()
    for entry in manifest.models.values():
        for name in (entry.name, *entry.aliases):
            assert manifest.resolve(name) == entry.name
            assert name not in manifest.files or {file.key for file in entry.files.values()} == {name}


def test_five_models_at_most_are_listed_and_the_default_is_one_that_runs_from_the_package():
    manifest = weights.read_manifest()
    listed = {entry.name for entry in manifest.models.values() if entry.listed}
    default = weights.find_model(DEFAULT_MODEL)
    assert default.name in listed
    assert len(listed) <= 5
    assert not any(manifest.models[name].untrained for name in listed)
    assert {file.kind for file in default.files.values()} == {"bundled"}


def test_every_shipped_file_has_size_hash_licence_and_source():
    for file in weights.read_manifest().files.values():
        assert file.licence and file.source
        assert (file.bytes and file.sha256) or "not published" in file.source or "published neither" in file.source


def test_a_shipped_file_without_hash_is_fetched_by_hand_or_belongs_to_a_model_that_is_not_trained():
    manifest = weights.read_manifest()
    open_ended = {file.key for file in manifest.files.values() if not file.sha256 and file.kind != "page"}
    runnable = [entry for entry in manifest.models.values() if not entry.untrained]
    assert not open_ended & {file.key for entry in runnable for file in entry.files.values()}


def test_a_file_on_a_page_may_have_a_name_and_keeps_its_kind_when_imported():
    page = {"page": "https://x", "licence": "x", "source": "x"}
    files = build({"f": page, "g": {**page, "name": "model.pth"}}).files
    assert store.imported_path(files["f"]).name == "weights"
    assert store.imported_path(files["g"]).name == "model.pth"


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(WeightsError, match=r"--model nothing: unknown model; known are .*nafnet-32"):
        weights.find_model("nothing")


FAULTS = [
    ({**HUB, "licenc": "x"}, "[files.f] unknown key 'licenc'"),
    ({**HUB, "path": "a"}, "must have exactly one of path, repository, local, page"),
    ({"licence": "MIT", "source": "s"}, "must have exactly one of"),
    ({key: HUB[key] for key in HUB if key != "licence"}, "[files.f] lacks licence"),
    ({key: HUB[key] for key in HUB if key != "revision"}, "[files.f] lacks revision"),
    ({**HUB, "revision": "main"}, "revision = 'main' must be a full commit of 40 hex digits"),
    ({**HUB, "sha256": "ABC"}, "sha256 = 'ABC' must be 64 hex digits"),
    ({**HUB, "bytes": "12"}, "bytes = '12' must be a whole number above 0"),
    ({**HUB, "bytes": True}, "bytes = True must be a whole number above 0"),
    ({**HUB, "gated": "no"}, "gated = 'no' must be true or false"),
    ({**HUB, "repository": "a/b/c"}, "repository = 'a/b/c' must be OWNER/NAME"),
    ({**HUB, "name": "../c"}, "name = '../c' must be a path inside the repository"),
    ({**HUB, "licence": "a\nb"}, "licence = 'a\\nb' must be a text"),
    ({"path": "/etc/passwd", "bytes": 1, "sha256": SHA256, "licence": "x", "source": "x"}, "relative path inside"),
    ({"path": "a", "bytes": 1, "licence": "x", "source": "x"}, "[files.f] lacks sha256"),
    ({"page": "http://x", "licence": "x", "source": "x"}, "page = 'http://x' must be an https:// address"),
    ("text", "[files.f] must be a table, not 'text'"),
]


@pytest.mark.parametrize(("table", "text"), FAULTS, ids=[row[1] for row in FAULTS])
def test_a_fault_in_a_file_is_one_line_that_names_it(table, text):
    with pytest.raises(TableFault) as caught:
        build({"f": table})
    assert text in str(caught.value)
    assert "[files.f]" in str(caught.value)
    assert "\n" not in str(caught.value)


MODEL_FAULTS = [
    ({**MODEL, "files": {"expert": "g"}}, "role expert: there is no [files.g]"),
    ({**MODEL, "files": {}}, "files must be a table"),
    ({**MODEL, "speed": 3}, "unknown key 'speed'"),
    ({"summary": "s", "files": {"expert": "f"}}, "lacks backend"),
    ({**MODEL, "tiling": {"size": "big"}}, "tiling = {'size': 'big'} must be a table of size, context, feather"),
    ({**MODEL, "config": []}, "config = [] must be a table"),
    ({**MODEL, "dtypes": ["int4"]}, "dtypes = ['int4'] must be a list of"),
    ({**MODEL, "scores": [{"data": "GoPro"}]}, "lacks psnr, ssim, source"),
    ({**MODEL, "aliases": "old"}, "aliases = 'old' must be a list of names"),
    ({**MODEL, "aliases": ["a b"]}, "aliases = ['a b'] must be a list of names"),
    ({**MODEL, "aliases": ["m"]}, "alias m is the name of another model"),
    ({**MODEL, "aliases": ["o", "o"]}, "alias o is an alias of another model"),
    ({**MODEL, "listed": 1}, "listed = 1 must be true or false"),
    ({**MODEL, "seconds_24mp": 0}, "seconds_24mp = 0 must be a number above 0"),
]


@pytest.mark.parametrize(("table", "text"), MODEL_FAULTS, ids=[row[1] for row in MODEL_FAULTS])
def test_a_fault_in_a_model_is_one_line_that_names_it(table, text):
    with pytest.raises(TableFault) as caught:
        build({"f": HUB}, {"m": table})
    assert text in str(caught.value)
    assert str(caught.value).startswith("[models.m]")


@pytest.mark.parametrize("name", ["", "a b", "../up", "-a", "a/b", "x" * 65])
def test_a_name_must_be_safe_everywhere(name):
    with pytest.raises(TableFault, match="no usable name"):
        build({name: HUB})


def test_what_is_written_reads_back_the_same():
    tables = {
        "files": {"f.1": HUB},
        "models": {"m": {**MODEL, "config": {"a b": [1, [2.5]], "c": True, "d": 'ü"\\\x7f'}}},
    }
    assert tomllib.loads(to_toml(tables)) == tables


def test_a_bundled_file_with_wrong_bytes_is_never_used(monkeypatch, tmp_path):
    file = weights.find_model("bundled").files["expert"]
    monkeypatch.setattr(store, "PACKAGE", tmp_path)
    with pytest.raises(WeightsError, match="missing; reinstall deblur-cli"):
        weights.fetch(file)
    (tmp_path / file.path).parent.mkdir()
    with (tmp_path / file.path).open("wb") as stream:
        stream.truncate(file.bytes)
    with pytest.raises(WeightsError, match=r"sha256 is .*reinstall deblur-cli"):
        weights.fetch(file)
    assert store.find_state(file) == "damaged"


def test_a_checkout_finds_its_manifest_one_folder_up():
    assert weights.manifest_path() == store.PACKAGE.parent / "weights_manifest.toml"


def test_the_wheel_carries_the_manifest_where_it_is_looked_for(tmp_path, monkeypatch):
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=store.PACKAGE.parent, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 96_000_000
    with zipfile.ZipFile(wheel) as archive:
        archive.extract("deblur_cli/weights_manifest.toml", tmp_path)
        packed = set(archive.namelist())
    tree = store.PACKAGE.rglob("*")
    ours = {f"deblur_cli/{path.relative_to(store.PACKAGE)}" for path in tree if path.suffix in (".py", ".html", ".svg")}
    assert len(ours) > 100
    assert ours <= packed
    monkeypatch.setattr("deblur_cli.weights.manifest.PACKAGE", tmp_path / "deblur_cli")
    assert weights.manifest_path() == tmp_path / "deblur_cli" / "weights_manifest.toml"
    assert weights.manifest_path().read_bytes() == (store.PACKAGE.parent / "weights_manifest.toml").read_bytes()

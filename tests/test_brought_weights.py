"""Weights that people bring, in the forms in which they have them, and what describes more than it holds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.hub_user import stay_offline
from support.nafnet_factory import TINY, build_lively
from torch import Tensor, nn

from deblur_cli import weights
from deblur_cli.app import run_app
from deblur_cli.backends import load_model
from deblur_cli.checkpoint import limited_by, read_metadata
from deblur_cli.errors import WeightsError
from deblur_cli.system.files import hash_file
from deblur_cli.weights.manifest import user_manifest_path
from deblur_cli.weights.user_manifest import to_toml

NETWORK = build_lively()
STATE = NETWORK.state_dict()
OTHER = build_lively(seed=1).state_dict()
CONFIG = {name: getattr(TINY, name) for name in TINY.__dataclass_fields__}
CONFIG = {name: list(value) if isinstance(value, tuple) else value for name, value in CONFIG.items()}


def below(prefix: str, state: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in (state or STATE).items()}


FORMS: dict[str, Any] = {
    "bare": dict(STATE),
    "params": {"params": STATE},
    "params_ema": {"params_ema": STATE},
    "both, averaged": {"params": OTHER, "params_ema": STATE},
    "both, the other order": {"params_ema": STATE, "params": OTHER},
    "state_dict": {"state_dict": STATE, "epoch": 3, "optimizer": {"lr": 0.1}},
    "state_dict with module.": {"state_dict": below("module."), "epoch": 3},
    "bare with module.": below("module."),
    "compiled": {"model": below("_orig_mod.")},
    "Lightning": {"state_dict": below("net_g.module."), "global_step": 7},
    "another word": {"generator": STATE},
}
FLAT: dict[str, dict[str, Tensor]] = {
    "bare": STATE,
    "module.": below("module."),
    "params.": below("params."),
    "both": {**below("params.", OTHER), **below("params_ema.")},
}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty home in which `like` is a tiny NAFNet with a file in its published form."""
    stay_offline(tmp_path, monkeypatch)
    torch.save({"params": OTHER}, "like.pth")
    assert run_app(["weights", "add", "like", "like.pth", "--like", "nafnet-32"]) == 0
    tables = {"files": {}, "models": {}}
    file = weights.find_model("like").files["expert"]
    told = {"local": file.local, "bytes": file.bytes, "sha256": file.sha256, "licence": "none", "source": "a test"}
    tables["files"]["like"] = told
    shape = {"backend": "expert", "network": "nafnet", "summary": "tiny", "files": {"expert": "like"}}
    tables["models"]["like"] = {**shape, "checkpoint_key": "params", "config": CONFIG}
    user_manifest_path().write_text(to_toml(tables))


def bring(name: str, *, like: str | None = "like") -> dict[str, Tensor]:
    """The weights of the network that runs once this file was added."""
    assert run_app(["weights", "add", "mine", name, *(["--like", like] if like else [])]) == 0
    found: dict[str, Tensor] = load_model("mine", device="cpu", dtype="float32").module.state_dict()
    return found


def assert_same(found: dict[str, Tensor]) -> None:
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[key], value) for key, value in STATE.items())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".pth", ".ckpt"])
def test_every_form_of_a_pickled_checkpoint_runs_like_another_model(form: str, suffix: str) -> None:
    torch.save(FORMS[form], f"net{suffix}")
    assert_same(bring(f"net{suffix}"))


@pytest.mark.parametrize("form", FLAT)
def test_every_form_of_safetensors_runs_like_another_model(form: str) -> None:
    save_file({key: value.clone() for key, value in FLAT[form].items()}, "net.safetensors")
    assert_same(bring("net.safetensors"))


@pytest.mark.parametrize(
    "content",
    [
        {**STATE, "strange.weight": torch.zeros(2)},
        {key: value for key, value in STATE.items() if key != "ending.bias"},
        {"params": {**below("module."), "strange.weight": torch.zeros(2)}},
        {"params": {**STATE, "ending.bias": torch.zeros(7)}},
        {"epoch": 3},
    ],
)
def test_what_lacks_a_weight_or_has_one_too_many_is_refused_in_one_line(content: dict[str, Any]) -> None:
    torch.save(content, "net.pth")
    with pytest.raises(WeightsError, match=r"^[^\n]*net\.pth: [^\n]+$"):
        bring("net.pth")


def test_a_model_that_names_its_table_takes_no_other() -> None:
    torch.save({"params_ema": STATE}, "like.pth")
    table = user_manifest_path().read_text()
    file = Path("like.pth")
    table = table.replace(weights.find_model("like").files["expert"].sha256 or "", hash_file(file))
    lines = [line if not line.startswith("bytes") else f"bytes = {file.stat().st_size}" for line in table.splitlines()]
    user_manifest_path().write_text("\n".join(lines))
    with pytest.raises(WeightsError, match="no table 'params', but params_ema"):
        load_model("like", device="cpu")


HUGE: list[tuple[str, Any]] = [
    ("width", 10**6),
    ("width", 2**70),
    ("width", -1),
    ("width", 0),
    ("middle_blocks", 10**6),
    ("encoder_blocks", [1] * 4000),
    ("encoder_blocks", [10**6] * 4),
    ("encoder_blocks", []),
    ("train_size", 10**9),
]


@pytest.mark.parametrize(("key", "value"), HUGE)
def test_a_file_that_describes_more_than_it_holds_is_one_line(key: str, value: Any) -> None:
    save_file(STATE, "net.safetensors", metadata={"config": json.dumps({**CONFIG, key: value})})
    user_manifest_path().unlink()
    tables = {"models": {"plain": {"backend": "expert", "network": "nafnet", "summary": "s", "files": {"expert": "f"}}}}
    path = Path("net.safetensors").resolve()
    told = {"local": str(path), "bytes": path.stat().st_size, "sha256": hash_file(path)}
    user_manifest_path().write_text(
        to_toml({"files": {"f": {**told, "licence": "none", "source": "a test"}}, **tables})
    )
    try:
        load_model("plain", device="cpu")
    except WeightsError as fault:
        assert "\n" not in str(fault)
    else:
        assert key == "train_size"  # no weight depends on it


@pytest.mark.parametrize("text", ["[" * 200_000, '"' + "x" * 2_000_000 + '"', "9" * 5000, "{"])
def test_metadata_that_is_deep_long_or_no_json_is_one_line(text: str) -> None:
    save_file({"a": torch.zeros(2)}, "net.safetensors", metadata={"config": text})
    with pytest.raises(WeightsError, match=r"^net\.safetensors: not a weights file of this tool \([^\n]{0,300}\)$"):
        read_metadata(Path("net.safetensors"))


def test_a_network_within_its_file_is_built_and_the_limit_ends_with_the_block() -> None:
    save_file(STATE, "net.safetensors")
    for build in (lambda: build_lively(TINY), lambda: nn.Linear(10, 10)):
        with limited_by(Path("net.safetensors")):
            build()
    with pytest.raises(ValueError, match="more weights than the file has bytes"), limited_by(Path("net.safetensors")):
        nn.Linear(10_000, 10_000)
    nn.Linear(1000, 1000)


def test_a_file_that_is_not_there_is_told_by_who_reads_it() -> None:
    with pytest.raises(WeightsError, match="nowhere"), limited_by(Path("nowhere.safetensors")):
        read_metadata(Path("nowhere.safetensors"))


BIG = 1 << 20
MANIFESTS: list[tuple[str, Callable[[], str]]] = [
    ("huge", lambda: "a = 1\n" * BIG),
    ("deep", lambda: "a = " + "[" * 100_000 + "]" * 100_000),
    ("dotted", lambda: "a." * 50_000 + "a = 1"),
    ("dates", lambda: "[models.x]\nbackend = 1979-05-27\n"),
    ("binary", lambda: "\0\1\2"),
]


@pytest.mark.parametrize("text", [row[1] for row in MANIFESTS], ids=[row[0] for row in MANIFESTS])
def test_a_manifest_of_ones_own_that_is_too_much_is_one_line_and_stops_no_shipped_model(
    text: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    user_manifest_path().write_text(text())
    assert run_app(["weights", "list"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert len(lines[0]) < 600
    assert weights.find_model("bundled-expert").name == "quick"


def test_a_manifest_as_notepad_saves_it_is_read() -> None:
    user_manifest_path().write_bytes(b"\xef\xbb\xbf" + user_manifest_path().read_bytes())
    assert weights.find_model("like").name == "like"


@pytest.mark.parametrize(
    "config",
    [
        {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": 1}}}}}}}}},
        {"a": [0] * 5000},
        {"width": 2**70},
        {"x" * 5000: 1},
    ],
)
def test_a_config_out_of_proportion_is_refused_when_it_is_added(config: Any, tmp_path: Path) -> None:
    part = {"path": "net.safetensors", "bytes": 3, "sha256": "0" * 64}
    table = {"format": 1, "name": "n", "summary": "s", "backend": "expert", "files": {"expert": part}, "config": config}
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/net.safetensors").write_bytes(b"abc")
    (tmp_path / "folder/model.json").write_text(json.dumps(table))
    before = user_manifest_path().read_bytes()
    assert run_app(["weights", "add", "whole", "folder"]) == 1
    assert user_manifest_path().read_bytes() == before


@pytest.mark.parametrize("path", ["x" * 5000, "写" * 90, "a/" * 600 + "b"])
def test_a_path_that_no_file_system_takes_is_one_line(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    part = {"path": path, "bytes": 3, "sha256": "0" * 64}
    table = {"format": 1, "name": "n", "summary": "s", "backend": "expert", "files": {"expert": part}}
    Path("folder").mkdir()
    Path("folder/model.json").write_text(json.dumps(table))
    assert run_app(["weights", "add", "whole", "folder"]) == 1
    assert run_app(["weights", "add", "mine", "x" * 5000]) == 2
    assert capsys.readouterr().err.count("\n") == 2

"""A dual expert from files: what belongs together is loaded as it was saved, what does not is refused in one line."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.deblur_process import run_python
from support.dual_expert_factory import (
    CHANNELS,
    WINDOW,
    build_codec,
    levels_apart,
    lively,
    photo,
)
from support.export_factory import write_expert
from torch import Tensor

from deblur_cli import weights
from deblur_cli.backends import load_model
from deblur_cli.errors import InputError, WeightsError
from deblur_cli.networks.dense_unet import DenseUNet, DenseUNetConfig
from deblur_cli.networks.flow_transformer import FlowTransformer, FlowTransformerConfig, LoraSettings
from deblur_cli.restoration.pipeline import restore_image
from deblur_cli.system.files import hash_file
from deblur_cli.weights import ModelEntry, WeightsFile
from deblur_cli.weights.entries import FlowSettings
from deblur_cli.weights.model_spec import ModelSpec

SMALL_FLOW = {
    "sample_size": 8, "in_channels": CHANNELS, "out_channels": CHANNELS, "num_layers": 1, "num_attention_heads": 2,
    "attention_head_dim": 8, "joint_attention_dim": 8, "caption_projection_dim": 16, "pooled_projection_dim": 8,
    "pos_embed_max_size": 4, "patch_size": 2,
}  # fmt: skip


def save(tensors: dict[str, Tensor], path: Path, **metadata: Any) -> str:
    save_file(tensors, path, metadata={key: json.dumps(value) for key, value in metadata.items()})
    return hash_file(path)


def build_flow() -> FlowTransformer:
    """Widened and adapted, every matrix of it random."""
    torch.manual_seed(0)
    flow = FlowTransformer(FlowTransformerConfig("sd3", SMALL_FLOW, WINDOW))
    flow.widen()
    flow.attach_lora(LoraSettings(2))
    lively(flow, 1)
    return flow


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A dual expert as a training leaves it."""
    paths = {role: tmp_path / f"{role}.safetensors" for role in ("expert", "codec", "base", "lora", "prompt")}
    expert = DenseUNetConfig(4, (8, 12), (1, 1), (1,))
    save(lively(DenseUNet(expert)).state_dict(), paths["expert"], config=asdict(expert))
    codec, flow = build_codec(), build_flow()
    sha = {"codec": save(codec.state_dict(), paths["codec"], config=asdict(codec.config))}
    sha["base"] = save(flow.base_state(), paths["base"], config=flow.config.to_json(), trained_on=dict(sha))
    sha["prompt"] = save({"prompt": torch.randn(1, 3, 8), "pooled": torch.randn(1, 8)}, paths["prompt"])
    config = {"rank": 2, "targets": ["attention"], "start_noise": 0.15, "window": WINDOW}
    save(flow.adapter_state(), paths["lora"], config=config, trained_on={**sha, "expert": "ab" * 32})
    return paths


@pytest.fixture
def load(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`load_model` with an entry of these files, less some of them."""

    def call(*without: str, flow: dict[str, Any] | None = None, dtype: str = "auto", **wanted: Any) -> Any:
        roles = {
            role: WeightsFile(role, "MIT", "s", path.stat().st_size, hash_file(path), local=str(path))
            for role, path in files.items()
            if role not in without
        }
        entry = ModelEntry("mine", "dual_expert", "s", roles, flow=flow or {})
        monkeypatch.setattr(weights, "find_model", lambda name: entry)
        return load_model(ModelSpec("mine", **wanted), device="cpu", dtype=dtype)

    monkeypatch.setenv("HF_HOME", str(files["codec"].parent))
    return call


def test_files_become_the_networks_that_were_saved(files: dict[str, Path], load: Callable[..., Any]) -> None:
    backend = load(dtype="float32", flow={"steps": 2}, strength=0.5)
    assert backend.settings == FlowSettings(steps=2, strength=0.5, start_noise=0.15)
    assert [name for name, _ in backend.module.named_children()] == ["expert", "codec", "flow"]
    flow, x_t, t = build_flow(), torch.randn(2, CHANNELS, 8, 8), torch.tensor([0.0, 0.7])
    from safetensors.torch import load_file

    prompt = load_file(files["prompt"])
    flow.set_prompt(prompt["prompt"], prompt["pooled"])
    with torch.inference_mode():
        assert torch.allclose(backend.module.flow(x_t, t, x_t + 1), flow(x_t, t, x_t + 1), atol=1e-5)


def test_a_loaded_backend_restores_and_bfloat16_agrees_with_float32(load: Callable[..., Any]) -> None:
    blurry = photo(150, 130)
    free = {"guard": False}  # to which random networks are all at fault
    exact, fast = (restore_image(blurry, load("expert", dtype=name, flow=free)) for name in ("float32", "bfloat16"))
    assert levels_apart(exact, blurry) > 10
    error = np.square(exact.astype(float) - fast.astype(float)).mean()
    assert 10 * np.log10(255**2 / error) > 35


def say_otherwise(path: Path, **metadata: Any) -> None:
    """Other metadata in a file of weights."""
    from deblur_cli.checkpoint import read_content, read_metadata

    save(read_content(path), path, **{**read_metadata(path), **metadata})


def parents_of(files: dict[str, Path], *roles: str) -> dict[str, str]:
    return {role: hash_file(files[role]) for role in roles}


def test_it_runs_without_expert_and_without_prompt(files: dict[str, Path], load: Callable[..., Any]) -> None:
    say_otherwise(files["lora"], trained_on=parents_of(files, "codec", "base"))
    backend = load("expert", "prompt", strength=0.0)
    assert np.array_equal(restore_image(photo(), backend), photo())


def test_another_prompt_than_the_adapters_is_refused(files: dict[str, Path], load: Callable[..., Any]) -> None:
    with pytest.raises(WeightsError, match=r"with another prompt than none; use it with the one of sha256 \w{12}…"):
        load("prompt")
    save({"prompt": torch.randn(1, 3, 8), "pooled": torch.randn(1, 8)}, files["prompt"])
    with pytest.raises(WeightsError, match=r"with another prompt than .*prompt.safetensors; use it with the one"):
        load()
    say_otherwise(files["lora"], trained_on=parents_of(files, "codec", "base"))
    with pytest.raises(WeightsError, match=r"with another prompt than .*prompt.safetensors; use it without any"):
        load()


def test_the_flow_looks_through_the_window_of_its_adapter(files: dict[str, Path], load: Callable[..., Any]) -> None:
    """A base of this tool has one window; an adapter from before it told one is taken at the base's word."""
    config = {"rank": 2, "targets": ["attention"], "start_noise": 0.15}
    say_otherwise(files["lora"], config=config)
    assert load().module.flow.config.window == WINDOW
    for window, text in ((WINDOW - 2, "works in no others; 6 were asked for"), ("8", "window must be a whole number")):
        say_otherwise(files["lora"], config={**config, "window": window})
        with pytest.raises(WeightsError, match=text):
            load()


def test_a_training_of_every_weight_runs_too(files: dict[str, Path], load: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    flow = FlowTransformer(FlowTransformerConfig("sd3", SMALL_FLOW, WINDOW))
    flow.widen()
    lively(flow, 7)
    told = {"config": {"rank": 2, "targets": ["attention"], "start_noise": 0.0, "window": WINDOW}}
    parents = parents_of(files, "codec", "base")
    save({**flow.base_state(), **flow.adapter_state()}, files["lora"], **told, trained_on=parents)
    flow.to(memory_format=torch.channels_last)  # as the backend lays it out: on some processors sums depend on it
    x_t, t = torch.randn(2, CHANNELS, 8, 8), torch.tensor([0.0, 0.7])
    with torch.inference_mode():
        assert torch.equal(load("prompt", dtype="float32").module.flow(x_t, t, x_t + 1), flow(x_t, t, x_t + 1))


def test_a_base_alone_is_the_generic_baseline_where_the_entry_says_so(load: Callable[..., Any]) -> None:
    assert load("lora", flow={"generic_noise": 0.4}).settings.generic_noise == 0.4
    with pytest.raises(WeightsError, match=r"mine: needs a lora, or flow.generic_noise"):
        load("lora")
    with pytest.raises(WeightsError, match="generic_noise is for a base without a lora"):
        load(flow={"generic_noise": 0.4})


@pytest.mark.parametrize("role", ["codec", "base"])
def test_another_codec_or_base_is_refused(role: str, files: dict[str, Path], load: Callable[..., Any]) -> None:
    network: Any = build_codec(seed=9) if role == "codec" else lively(build_flow(), 9)
    if role == "codec":
        save(network.state_dict(), files["codec"], config=asdict(network.config))
    else:
        save(network.base_state(), files["base"], config=network.config.to_json())
    with pytest.raises(WeightsError, match=f"was trained on another {role} than .*{role}.safetensors; use the one"):
        load()


def test_another_expert_is_welcome(files: dict[str, Path], load: Callable[..., Any]) -> None:
    config = DenseUNetConfig(4, (8, 12), (1, 1), (1,))
    save(lively(DenseUNet(config), 8).state_dict(), files["expert"], config=asdict(config))
    assert restore_image(photo(40, 50), load()).shape == (40, 50, 3)


@pytest.mark.parametrize(
    ("role", "change", "text"),
    [
        ("lora", {"trained_on": {"codec": "x"}}, "was trained on another codec"),
        ("lora", {"trained_on": {}}, "does not say which codec"),
        ("lora", {"config": {"rank": 2, "targets": ["attention"]}}, "lacks 'start_noise'"),
        ("lora", {"config": {"rank": 3, "targets": ["attention"], "start_noise": 0}}, "do not fit the network"),
        ("lora", {"config": {"rank": 2, "targets": ["heads"], "start_noise": 0}}, "targets must name"),
        ("lora", {"config": {"rank": 2, "targets": ["attention"], "start_noise": 2}}, "start_noise must be"),
        ("base", {"config": {"kind": "sd9"}}, "base.safetensors: "),
        ("base", {"config": {}}, "base.safetensors: "),
        ("codec", {"config": {"channel": 4}}, "codec.safetensors: "),
    ],
)
def test_a_file_that_does_not_fit_is_one_line_with_its_name(
    role: str, change: dict[str, Any], text: str, files: dict[str, Path], load: Callable[..., Any]
) -> None:
    from deblur_cli.checkpoint import read_content, read_metadata

    metadata = {**read_metadata(files[role]), **change}
    if role != "lora":  # the files that come after it must still fit
        for child in ("base", "lora"):
            save(read_content(files[child]), files[child], **{**read_metadata(files[child]), "trained_on": {}})
    save(read_content(files[role]), files[role], **metadata)
    sha = parents_of(files, "codec", "base", "prompt")
    if role != "lora":
        save(read_content(files["lora"]), files["lora"], **{**read_metadata(files["lora"]), "trained_on": sha})
    with pytest.raises(WeightsError, match=text) as caught:
        load()
    assert "\n" not in str(caught.value)


def test_roles_that_are_missing_are_named(load: Callable[..., Any]) -> None:
    with pytest.raises(WeightsError, match="mine: has no file in the role base"):
        load("base")


def test_an_entry_that_is_not_trained_is_refused_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = ModelEntry("big", "dual_expert", "s", {}, untrained="deblur train flow --base sd3-medium")
    monkeypatch.setattr(weights, "find_model", lambda name: entry)
    with pytest.raises(WeightsError, match="big: is not trained yet; deblur train flow --base sd3-medium"):
        load_model("big")


def test_an_unknown_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "find_model", lambda name: ModelEntry(name, "exprt", "s", {}))
    with pytest.raises(WeightsError, match="unknown backend 'exprt'; known are expert, dual_expert, deblurdiff"):
        load_model("m", device="cpu")


def test_only_a_model_with_a_flow_takes_steps_or_another_expert() -> None:
    for wanted in ({"steps": 2}, {"strength": 0.5}, {"expert": "best"}):
        with pytest.raises(InputError):
            load_model(ModelSpec("bundled-expert", **wanted), device="cpu")


def test_another_expert_by_its_path_takes_the_place_of_the_entrys(
    files: dict[str, Path], load: Callable[..., Any]
) -> None:
    other = files["expert"].with_name("other.safetensors")
    write_expert(other)
    blurry = photo(70, 90)
    restored = restore_image(blurry, load(strength=0.0, expert=str(other)))
    assert np.array_equal(restored, restore_image(blurry, load_model(other, device="cpu")))
    assert not np.array_equal(restored, restore_image(blurry, load(strength=0.0)))


def test_an_expert_alone_imports_no_diffusers() -> None:
    code = "import sys; from deblur_cli.backends import load_model; load_model('bundled-expert', device='cpu'); "
    code += "sys.exit(bool({'diffusers', 'peft'} & set(sys.modules)))"
    assert run_python(["-c", code]).returncode == 0

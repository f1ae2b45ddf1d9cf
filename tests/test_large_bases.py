"""Scaled-down copies of SD3.5-medium and FLUX.2-klein: trained, exported, fetched and run by the same code as ours."""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinPipeline, StableDiffusion3Pipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from support.export_factory import write_expert
from support.hub_server import REPOSITORY, REVISION, Hub, serve_hub
from support.hub_user import use_empty_home, use_server
from support.pipeline_factory import write_pipeline
from support.small_bases import KNOWN_BASES
from support.training_factory import texture, write_pictures, write_recipe
from transformers import AutoTokenizer, CLIPTextModelWithProjection, Qwen3ForCausalLM, T5EncoderModel

from deblur_cli import weights
from deblur_cli.app import run_app
from deblur_cli.backends import load_model
from deblur_cli.backends.dual_expert import DualExpertBackend
from deblur_cli.backends.dual_expert_files import load_dual_expert
from deblur_cli.backends.flow_base import BaseFiles, find_base, load_base, read_base_config
from deblur_cli.checkpoint import read_content, read_metadata, save_tensors
from deblur_cli.errors import WeightsError
from deblur_cli.networks.flow_transformer import FlowTransformer, LoraSettings
from deblur_cli.restoration.pipeline import restore_image
from deblur_cli.sampling.rectified_flow import interpolate, velocity_target
from deblur_cli.system.files import hash_file
from deblur_cli.training import bases
from deblur_cli.weights import ModelEntry, WeightsFile
from deblur_cli.weights.manifest import user_manifest_path
from deblur_cli.weights.model_spec import ModelSpec, ResolvedModel
from deblur_cli.weights.user_manifest import to_toml

CHANNELS = {"sd3": 16, "flux2": 32}
KINDS = sorted(CHANNELS)
WINDOW = 8  # latents; the position table of the small SD3 reaches to 48
WHOLE = "transformer/diffusion_pytorch_model.safetensors"
FLOW = """
[flow]
rank = 4
[latents]
windows = 4
side = 64
held_out = 8
"""
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub, pictures, recipes and a tiny expert, in a folder that is the current one."""
    from huggingface_hub import constants

    use_empty_home(tmp_path, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.chdir(tmp_path)
    write_pictures(Path("data"))
    write_expert(Path("expert.safetensors"))
    with serve_hub() as server:
        use_server(server.url, monkeypatch)
        yield server


def publish(hub: Hub, kind: str) -> None:
    """The pipeline's transformer goes to the Hub, as the manifest's model `big` whose hashes nobody knows."""
    write_pipeline(kind, Path("pipeline"))
    table = {"repository": REPOSITORY, "revision": REVISION, "licence": "community", "source": "its page"}
    names = {"base_config": "transformer/config.json", "base": WHOLE}
    for name in names.values():
        hub.files[name] = Path("pipeline", name).read_bytes()
    files = {f"big-{role}": {**table, "name": name} for role, name in names.items()}
    roles = {role: f"big-{role}" for role in names}
    model = {"backend": "dual_expert", "summary": "s", "untrained": "train it", "files": roles}
    user_manifest_path().parent.mkdir(exist_ok=True)
    user_manifest_path().write_text(to_toml({"files": files, "models": {"big": model}}))
    assert run_app(["weights", "add", "tiny", "expert.safetensors", "--licence", "none"]) == 0


def train(what: str, recipe: str, *more: str) -> int:
    path = write_recipe(Path(f"{what}.toml"), recipe, batch=4, learning_rate=1e-2, ema_decay=0.9)
    fixed = ["--data", "data", "--out", f"run-{what}", "--device", "cpu", "--quiet", "--expert", "tiny"]
    return run_app(["train", what, *fixed, "--recipe", str(path), *more])


def enliven(path: Path) -> None:
    """A decoder that was trained for a second changes no pixel by a level; a random one shows all that a flow does."""
    tensors, generator = load_file(path), torch.Generator().manual_seed(0)
    for key, value in tensors.items():
        if key.startswith("decoder.") and value.ndim > 1:
            scale = value[0].numel() ** -0.5 * (0.1 if ".head." in key else 1.0)
            tensors[key] = scale * torch.randn(value.shape, generator=generator)
    save_tensors(tensors, path, read_metadata(path))


def train_all(kind: str, steps: int = 2) -> None:
    codec = f"[network]\nchannels = {CHANNELS[kind]}\nwidths = [8, 16]\n"
    assert train("codec", codec, "--anchor", "pipeline/vae") == 0
    enliven(Path("run-codec/codec.safetensors"))
    assert run_app(["train", "prompt", "--pipeline", "pipeline", "--out", "prompt.safetensors"]) == 0
    large = ["--set", 'flow.base_dtype="bfloat16"', "--set", "flow.checkpointing=true"]
    files = ["--codec", "run-codec/codec.safetensors", "--base", "big", "--prompt", "prompt.safetensors"]
    assert train("flow", FLOW, *files, *large, "--set", f"schedule.steps={steps}") == 0


def rebuild() -> FlowTransformer:
    """The adapted network as the training has it."""
    flow = bases.load_frozen_base("big", window=WINDOW, prompt=Path("prompt.safetensors")).network
    flow.widen()
    flow.attach_lora(LoraSettings(4, ("attention", "mlp")))
    flow.load_adapter(read_content(Path("run-flow/lora.safetensors")))
    return flow


def loss_of(flow: FlowTransformer, windows: torch.Tensor) -> float:
    """On the windows that it was trained on, at fixed times and noise."""
    blurry, estimate, sharp = windows.float().repeat(4, 1, 1, 1, 1).unbind(1)
    x_0 = estimate + 0.1 * torch.randn(estimate.shape, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(0.1, 0.9, len(x_0))
    with torch.inference_mode():
        velocity = flow(interpolate(x_0, sharp, t), t, blurry if flow.is_widened else None)
    return float((velocity - velocity_target(x_0, sharp)).square().mean())


def run_unexported(*, guard: bool = True) -> DualExpertBackend:
    """The backend of the files where the training has left them."""
    cache = weights.store.locate(weights.find_model("big").files["base"])
    assert cache is not None
    lora, codec = Path("run-flow/lora.safetensors"), Path("run-codec/codec.safetensors")
    paths = {"expert": Path("expert.safetensors"), "codec": codec, "base": cache, "lora": lora}
    paths["prompt"] = Path("prompt.safetensors")
    files = {
        role: WeightsFile(role, "MIT", "s", path.stat().st_size, hash_file(path), local=str(path))
        for role, path in paths.items()
    }
    entry = ModelEntry("parts", "dual_expert", "s", files)
    model = ResolvedModel(ModelSpec("parts"), entry, {"steps": 2, "guard": guard})
    return load_dual_expert(model, torch.device("cpu"), "float32")


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_base_goes_all_the_way_from_the_hub_to_a_picture(
    kind: str, hub: Hub, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also window for window: SD3's position table is cropped around its middle, so another one shows other places."""
    publish(hub, kind)
    train_all(kind, steps=12)
    adapted, windows = rebuild(), load_file(next(Path("run-flow").glob("latents-*.safetensors")))["trained"]
    plain = bases.load_frozen_base("big", window=WINDOW, prompt=Path("prompt.safetensors"))
    assert loss_of(adapted, windows) < 0.9 * loss_of(plain.network, windows)
    told = read_metadata(Path("run-flow/lora.safetensors"))
    assert told["config"]["window"] == WINDOW
    assert told["trained_on"]["base"] == hashlib.sha256(hub.files[WHOLE]).hexdigest()
    assert told["trained_on"]["prompt"] == hash_file(Path("prompt.safetensors"))

    unexported = run_unexported(guard=False)
    running, x_t, t = unexported.module.get_submodule("flow"), windows[:2, 0].float(), torch.tensor([0.0, 0.6])
    assert running.config.window == WINDOW
    with torch.inference_mode():
        assert torch.allclose(running(x_t, t, x_t.flip(0)), adapted(x_t, t, x_t.flip(0)), atol=1e-4)

    parts = ["--codec", "run-codec/codec.safetensors", "--lora", "run-flow/lora.safetensors", "--base", "big"]
    parts += ["--prompt", "prompt.safetensors", "--expert", "expert.safetensors", "--steps", "2"]
    assert run_app(["train", "export", *parts, "--out", "out", "--quiet"]) == 0
    assert not Path("out/transformer").exists()
    model = json.loads(Path("out/model.json").read_text())
    assert model["files"]["base"]["repository"] == model["files"]["base_config"]["repository"] == REPOSITORY
    model["flow"]["guard"] = False  # to which random networks are all at fault
    Path("out/model.json").write_text(json.dumps(model))
    shutil.rmtree("home")  # another machine
    assert run_app(["weights", "add", "mine", "out"]) == 0
    assert run_app(["weights", "pull", "mine", "--quiet"]) == 0
    texture(50, 150).save("photo.png")
    fixed = ["--model", "mine", "--device", "cpu", "--dtype", "float32", "--quiet"]
    assert run_app(["run", "photo.png", "-o", "sharp.png", *fixed]) == 0, capfd.readouterr().err
    sharp, photo = np.array(Image.open("sharp.png")), np.array(Image.open("photo.png"))
    assert np.array_equal(sharp, restore_image(photo, unexported))
    unexported.settings = dataclasses.replace(unexported.settings, strength=0.0)
    assert np.abs(sharp.astype(int) - restore_image(photo, unexported)).mean() > 3


def test_a_folder_of_diffusers_is_exported_whole(hub: Hub) -> None:
    publish(hub, "sd3")
    train_all("sd3")
    parts = ["--codec", "run-codec/codec.safetensors", "--lora", "run-flow/lora.safetensors"]
    parts += ["--base", "pipeline/transformer", "--expert", "expert.safetensors", "--out", "out"]
    assert run_app(["train", "export", *parts, "--quiet"]) == 2  # its prompt is missing
    assert not Path("out").exists()
    assert run_app(["train", "export", *parts, "--prompt", "prompt.safetensors", "--quiet"]) == 0
    for name in ("transformer/config.json", WHOLE):
        assert Path("out", name).read_bytes() == hub.files[name]
    assert run_app(["weights", "add", "mine", "out"]) == 0
    Path("pipeline").rename("gone")
    photo = np.array(texture(50, 100))
    exported = load_model("mine:steps=2", device="cpu", dtype="float32")
    assert np.array_equal(restore_image(photo, exported), restore_image(photo, run_unexported()))


def test_a_large_base_without_its_prompt_is_one_line_with_the_command(
    hub: Hub, capfd: pytest.CaptureFixture[str]
) -> None:
    publish(hub, "sd3")
    codec = "[network]\nchannels = 16\nwidths = [8, 16]\n"
    assert train("codec", codec) == 0
    capfd.readouterr()
    files = ["--codec", "run-codec/codec.safetensors", "--base", "big"]
    assert train("flow", FLOW, *files) == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert "needs its empty prompt" in error
    assert "deblur train prompt --pipeline FOLDER --out prompt.safetensors" in error
    assert not hub.gets()  # refused before anything large is fetched
    assert train("flow", FLOW, *files, "--prompt", "nowhere.safetensors") == 2
    assert "--prompt nowhere.safetensors: no such file" in capfd.readouterr().err
    assert train("flow", FLOW, *files, "--prompt", "expert.safetensors") == 1
    assert "expert.safetensors: lacks 'prompt'" in capfd.readouterr().err


# --- the empty prompt ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t5", [True, False])
def test_the_prompt_of_sd3_is_that_of_diffusers(t5: bool, tmp_path: Path) -> None:
    folder = write_pipeline("sd3", tmp_path / "sd3", t5=t5)
    assert run_app(["train", "prompt", "--pipeline", str(folder), "--out", str(tmp_path / "p.safetensors")]) == 0
    pipeline = StableDiffusion3Pipeline.__new__(StableDiffusion3Pipeline)  # without a transformer to load
    kinds = {"": CLIPTextModelWithProjection, "_2": CLIPTextModelWithProjection, "_3": T5EncoderModel}
    for suffix, kind in kinds.items():
        there = t5 or suffix != "_3"
        encoder = kind.from_pretrained(folder / f"text_encoder{suffix}") if there else None
        object.__setattr__(pipeline, f"text_encoder{suffix}", encoder)
        tokens = AutoTokenizer.from_pretrained(folder / f"tokenizer{suffix}") if there else None
        object.__setattr__(pipeline, f"tokenizer{suffix}", tokens)
    joint = type("Config", (), {"joint_attention_dim": 32})
    object.__setattr__(pipeline, "transformer", type("Transformer", (), {"config": joint}))
    object.__setattr__(pipeline, "tokenizer_max_length", 77)
    with torch.inference_mode():
        embeds = pipeline.encode_prompt("", "", "", device=torch.device("cpu"), do_classifier_free_guidance=False)
    found = load_file(tmp_path / "p.safetensors")
    assert found["prompt"].shape == (1, 77 + 256, 32)
    assert torch.equal(found["prompt"], embeds[0].bfloat16())
    assert torch.equal(found["pooled"], embeds[2].bfloat16())
    assert bool(found["prompt"][:, 77:].any()) is t5


def test_the_prompt_of_flux2_is_that_of_diffusers(tmp_path: Path) -> None:
    folder = write_pipeline("flux2", tmp_path / "klein")
    assert run_app(["train", "prompt", "--pipeline", str(folder), "--out", str(tmp_path / "p.safetensors")]) == 0
    encoder = Qwen3ForCausalLM.from_pretrained(folder / "text_encoder")
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    with torch.inference_mode():
        wanted = Flux2KleinPipeline._get_qwen3_prompt_embeds(encoder, tokenizer, "")
    found = load_file(tmp_path / "p.safetensors")
    assert found.keys() == {"prompt"}
    assert torch.equal(found["prompt"], wanted.bfloat16())


def lose_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    del tensors["model.layers.3.mlp.up_proj.weight"]
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("break_it", "text"),
    [
        (shutil.rmtree, "no such folder"),
        (lambda folder: (folder / "model_index.json").unlink(), "is of no StableDiffusion3Pipeline or Flux2KleinP"),
        (lambda folder: shutil.rmtree(folder / "text_encoder"), "its text encoders cannot be used"),
        (lambda folder: shutil.rmtree(folder / "tokenizer"), "its text encoders cannot be used"),
        (
            lambda folder: (folder / "text_encoder/model.safetensors").write_bytes(b"{}"),
            "its text encoders cannot be used",
        ),
        (lambda folder: lose_a_tensor(folder / "text_encoder/model.safetensors"), "lacks layers.3.mlp.up_proj.weight"),
    ],
)
def test_a_pipeline_that_is_not_whole_is_one_line(
    break_it: Any, text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write_pipeline("flux2", tmp_path / "klein")
    break_it(folder)
    capfd.readouterr()
    assert run_app(["train", "prompt", "--pipeline", str(folder), "--out", str(tmp_path / "p.safetensors")]) in (1, 2)
    error = capfd.readouterr().err
    assert text in error
    assert error.count("\n") == 1, error
    assert not (tmp_path / "p.safetensors").exists()


# --- the files of a base ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_base_in_shards_is_the_base_in_one_file(kind: str, tmp_path: Path) -> None:
    folder = write_pipeline(kind, tmp_path / "pipeline") / "transformer"
    whole = load_base(find_base(folder), WINDOW, torch.bfloat16)
    from diffusers import Flux2Transformer2DModel, SD3Transformer2DModel

    transformer = {"sd3": SD3Transformer2DModel, "flux2": Flux2Transformer2DModel}[kind].from_pretrained(
        folder, torch_dtype=torch.bfloat16
    )
    transformer.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    files = find_base(tmp_path / "shards")
    assert len(files.weights) > 1
    again, state = load_base(files, WINDOW, torch.bfloat16), whole.base_state()
    assert again.config == whole.config
    assert all(torch.equal(value, state[key]) for key, value in again.base_state().items())
    assert find_base(folder).sha256 == hash_file(folder / "diffusion_pytorch_model.safetensors")
    files.weights[1].unlink()
    with pytest.raises(WeightsError, match="which is not there; copy the whole folder again"):
        find_base(tmp_path / "shards")


def test_a_config_that_does_not_fit_names_its_file(tmp_path: Path) -> None:
    folder = write_pipeline("sd3", tmp_path / "pipeline") / "transformer"
    with pytest.raises(WeightsError, match="window must be at most 48, what pos_embed_max_size allows"):
        read_base_config(find_base(folder), 50)
    (folder / "config.json").rename(folder / "other.json")
    with pytest.raises(WeightsError, match=r"config\.json: is not there"):
        load_base(find_base(folder), WINDOW, torch.float32)
    elsewhere = find_base(folder / "diffusion_pytorch_model.safetensors", folder / "other.json")
    assert load_base(elsewhere, WINDOW, torch.float32).config.window == WINDOW


@pytest.mark.parametrize("name", ["sd3.5-medium", "flux2-klein-4b"])
def test_the_real_config_as_diffusers_writes_it_is_the_known_base_in_any_window(name: str, tmp_path: Path) -> None:
    known = KNOWN_BASES[name]
    with torch.device("meta"):
        FlowTransformer(known).transformer.save_config(tmp_path)
    found = read_base_config(BaseFiles((tmp_path / "none.safetensors",), tmp_path / "config.json"), 64)
    assert (found.settings, found.kind, found.window) == (known.settings, known.kind, 64)


def test_a_second_training_reads_no_picture(hub: Hub) -> None:
    """The latents and the held-out windows are in one file, found by the pictures' bytes."""
    publish(hub, "sd3")
    train_all("sd3")
    (made,) = Path("run-flow").glob("latents-*.safetensors")
    pictures = list(Path("data").rglob("*.png"))
    for path in pictures:
        os.utime(path, (1, 1))
    shutil.copy(made, "kept.safetensors")
    files = ["--codec", "run-codec/codec.safetensors", "--base", "big", "--prompt", "prompt.safetensors"]
    again = ["--latents", "run-flow", "--out", "again"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "open", lambda *_, **__: pytest.fail("a picture was read"))
        assert train("flow", FLOW, *files, *again) == 0
    assert made.read_bytes() == Path("kept.safetensors").read_bytes()
    texture(99).save("data/photos/1.png")
    assert train("flow", FLOW, *files, *again[:-1], "anew") == 0
    assert len(list(Path("run-flow").glob("latents-*.safetensors"))) == 2

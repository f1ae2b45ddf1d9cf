"""A trained model as a folder: written, judged and read back."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support.deblur_process import call, run_python
from support.export_factory import (
    LAYOUT,
    PUSH,
    TRAINING,
    content,
    export,
    hash_of,
    hashes_of,
    refusal,
    write_base,
    write_blend,
    write_codec,
    write_expert,
    write_lora,
    write_training,
)
from support.start_up import PROBE

from deblur_cli import weights
from deblur_cli.app import run_app
from deblur_cli.backends import load_model, restore_image
from deblur_cli.weights.manifest import user_manifest_path
from deblur_cli.weights.model_folder import ModelFolder


@pytest.fixture
def work(tmp_path, monkeypatch):
    write_training(tmp_path, monkeypatch)
    return tmp_path


def test_the_folder_is_laid_out_as_diffusers_lays_out_its_own(work, capfd):
    assert export("--steps", "8", "--strength", "0.5") == 0
    out, err = capfd.readouterr()
    assert out == "out\n"
    assert err == "deblur: use it with: deblur weights add out out\n"
    assert sorted(content(Path("out"))) == LAYOUT
    model = json.loads(Path("out/model.json").read_text())
    assert (model["format"], model["backend"], model["flow"]) == (1, "dual_expert", {"steps": 8, "strength": 0.5})
    for role, source in (("expert", "expert"), ("codec", "codec"), ("base", "base"), ("lora", "lora")):
        part, path = model["files"][role], Path(f"{source}.safetensors")
        assert Path("out", part["path"]).read_bytes() == path.read_bytes()
        assert (part["sha256"], part["bytes"]) == (hash_of(path), path.stat().st_size)
    assert set(model["files"]["lora"]["trained_on"]) == {"codec", "base", "expert"}


def test_diffusers_reads_the_transformer_by_itself(work):
    from diffusers import SD3Transformer2DModel
    from safetensors.torch import load_file

    assert export("--quiet") == 0
    network = SD3Transformer2DModel.from_pretrained("out/transformer", torch_dtype=torch.bfloat16)
    stored = load_file("base.safetensors")
    state = network.state_dict()
    assert state.keys() == stored.keys()
    assert all(torch.equal(state[key], value) for key, value in stored.items())


def test_an_exported_folder_is_added_and_says_how_it_runs(work):
    assert export("--steps", "2", "--quiet") == 0
    assert run_app(["weights", "add", "mine", "out", "--summary", "My own."]) == 0
    entry = weights.find_model("mine")
    assert (entry.backend, entry.flow, entry.summary) == ("dual_expert", {"steps": 2, "strength": 1.0}, "My own.")
    assert [entry.files[role].key for role in ("expert", "base")] == ["mine-expert", "mine-base"]
    assert entry.files["codec"].sha256 == hash_of(Path("codec.safetensors"))
    backend = load_model("mine", device="cpu", dtype="float32")
    assert (backend.settings.steps, backend.settings.start_noise) == (2, 0.1)
    assert run_app(["weights", "verify", "mine"]) == 0
    assert run_app(["weights", "remove", "mine"]) == 0
    assert "files" not in user_manifest_path().read_text()


def test_an_exported_model_makes_the_picture_of_its_files(work):
    """Strength 0 is the expert's own picture; the whole one differs, and is the same from other names and places."""
    from PIL import Image

    assert export("--steps", "2", "--quiet") == 0
    assert run_app(["weights", "add", "mine", "out"]) == 0
    shutil.copytree("out", "moved")
    assert run_app(["weights", "add", "moved", "moved"]) == 0
    assert run_app(["weights", "add", "alone", "expert.safetensors"]) == 0
    colours = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    Image.fromarray(colours).resize((90, 70), Image.Resampling.BICUBIC).save("photo.png")
    pictures = {}
    for model in ("mine", "moved", "alone", "mine:strength=0"):
        fixed = ["--device", "cpu", "--dtype", "float32", "--quiet", "--overwrite"]
        assert run_app(["run", "photo.png", "-o", "result.png", "--model", model, *fixed]) == 0
        pictures[model] = np.asarray(Image.open("result.png"))
    assert np.array_equal(pictures["mine"], pictures["moved"])
    assert np.array_equal(pictures["mine:strength=0"], pictures["alone"])
    assert not np.array_equal(pictures["mine"], pictures["alone"])


def test_a_file_that_has_changed_in_the_folder_is_never_used(work, capfd):
    assert export("--quiet") == 0
    assert run_app(["weights", "add", "mine", "out"]) == 0
    path = Path("out/codec/diffusion_pytorch_model.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    capfd.readouterr()
    with pytest.raises(weights.store.WeightsError, match=r"has changed since it was added .*remove mine-codec"):
        load_model("mine", device="cpu")


def test_an_expert_alone_is_a_model_too(work):
    assert export("--licence", "MIT", codec=None, base=None, lora=None) == 0
    assert sorted(content(Path("out"))) == [path for path in LAYOUT if path.startswith(("README", "expert", "model"))]
    assert run_app(["weights", "add", "mine", "out"]) == 0
    entry = weights.find_model("mine")
    assert (entry.backend, entry.files["expert"].licence) == ("expert", "MIT")
    assert load_model("mine", device="cpu", dtype="float32").restore(torch.rand(1, 3, 16, 16)).shape == (1, 3, 16, 16)


def test_an_expert_with_its_blend_is_a_model_too_and_a_flow_runs_on_it(work):
    write_blend(Path("blend.safetensors"), hashes_of("expert"))
    assert export("--blend", "blend.safetensors", codec=None, base=None, lora=None, out="alone") == 0
    assert export("--blend", "blend.safetensors", out="whole") == 0
    assert "| blend of its estimate with other versions of the photo |" in Path("whole/README.md").read_text()
    blocks = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8), scale_factor=8)
    moved = torch.nn.functional.avg_pool2d(blocks, (1, 9), 1, (0, 4))  # of noise no deconvolution is offered
    blurry = (moved[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    for folder in ("alone", "whole"):
        assert run_app(["weights", "add", f"my-{folder}", folder]) == 0
        restored = restore_image(blurry, load_model(f"my-{folder}", device="cpu", dtype="float32"))
        assert 0.25 < abs(restored.astype(float) - blurry).mean() < 25


def test_an_expert_that_has_a_blend_brings_it_along(work, capfd):
    write_blend(Path("blend.safetensors"), hashes_of("expert"))
    assert export("--blend", "blend.safetensors", codec=None, base=None, lora=None, out="alone") == 0
    assert run_app(["weights", "add", "blended", "alone"]) == 0
    assert export(expert="blended", out="whole") == 0
    assert content(Path("whole/blend")) == content(Path("alone/blend"))
    capfd.readouterr()
    assert export("--blend", "blend.safetensors", expert="blended", out="twice") == 2
    assert "--expert blended: has a blend of its own; leave --blend out" in capfd.readouterr().err


def test_an_exported_transformer_is_a_base_again(work):
    assert export("--quiet") == 0
    assert export("--quiet", out="again", base="out/transformer") == 0
    assert content(Path("again")).keys() == content(Path("out")).keys()
    assert Path("again/model.json").read_text() == Path("out/model.json").read_text().replace('"out"', '"again"')


def test_the_card_tells_what_the_files_know(work):
    assert export("--name", "my-sharp", "--licence", "CC-BY-4.0", "--data-note", "My own photos, CC0.") == 0
    card = Path("out/README.md").read_text()
    head = card.split("---")[1].splitlines()
    assert {"license: cc-by-4.0", "library_name: deblur-cli", "pipeline_tag: image-to-image", "- lora"} <= set(head)
    assert "deblur weights add my-sharp PATH/TO/THIS/FOLDER\n" in card
    assert "deblur run photos/ -o sharp/ --model my-sharp\n" in card
    assert "| r-space codec | 4018 | 20.5 | 12 | adamw 0.001 | 3 |" in card
    assert "| LoRA adapter | 0.75 | 0.05 | 0.2 |" in card
    assert "Data: My own photos, CC0." in card
    assert hash_of(Path("lora.safetensors")) in card
    assert not any(word in card for word in ("TODO", "here>", "None"))


@pytest.mark.parametrize(
    ("licence", "lines"),
    [
        ("Apache-2.0", ["license: apache-2.0"]),
        ("my own: ask me", ["license: other", 'license_name: "my-own-ask-me"']),
        ("???", ["license: other", 'license_name: "see-below"']),
    ],
)
def test_the_front_matter_is_what_the_hub_reads(work, licence, lines):
    import yaml

    assert export("--licence", licence, codec=None, base=None, lora=None) == 0
    card = Path("out/README.md").read_text()
    assert card.startswith("---\n" + "\n".join(lines) + "\n")
    assert yaml.safe_load(card.split("---")[1])["tags"][0] == "deblurring"
    assert f"Licence: {licence}." in card


def test_what_lies_on_the_hub_is_named_and_not_copied(work, capfd):
    files = {
        "on-the-hub": {
            "repository": "stability/big",
            "revision": "0" * 40,
            "name": "transformer/model.safetensors",
            "bytes": 5_000_000_000,
            "sha256": "a" * 64,
            "licence": "community",
            "source": "its page",
            "gated": True,
        }
    }
    models = {
        "big": {"backend": "dual_expert", "summary": "s", "untrained": "train it", "files": {"base": "on-the-hub"}}
    }
    user_manifest_path().parent.mkdir()
    user_manifest_path().write_text(weights.user_manifest.to_toml({"files": files, "models": models}))
    codec, expert = hash_of(Path("codec.safetensors")), hash_of(Path("expert.safetensors"))
    write_lora(Path("lora.safetensors"), {"codec": codec, "base": "a" * 64, "expert": expert})
    assert export("--quiet", base="big") == 0
    part = json.loads(Path("out/model.json").read_text())["files"]["base"]
    assert (part["repository"], part["revision"], part["gated"]) == ("stability/big", "0" * 40, True)
    assert not Path("out/transformer").exists()
    assert 'base_model: "stability/big"' in Path("out/README.md").read_text()
    assert run_app(["weights", "add", "mine", "out"]) == 0
    assert weights.find_model("mine").files["base"] == dataclasses.replace(
        weights.find_model("big").files["base"], key="mine-base", source="its model.json"
    )


def test_an_expert_of_the_hub_keeps_its_network_and_stays_there(work):
    assert export("--quiet", expert="nafnet-64") == 0
    assert not Path("out/expert").exists()
    assert run_app(["weights", "add", "mine", "out"]) == 0
    entry, like = weights.find_model("mine"), weights.find_model("nafnet-64")
    assert (entry.network, entry.config, entry.checkpoint_key) == (like.network, like.config, like.checkpoint_key)
    assert entry.files["expert"].origin == like.files["expert"].origin
    assert entry.files["expert"].sha256 == like.files["expert"].sha256


def test_another_expert_is_told_and_not_refused(work, capfd):
    write_expert(Path("other.safetensors"), seed=1)
    assert export(expert="other.safetensors") == 0
    assert "the flow was trained with another expert" in capfd.readouterr().err
    assert "Note: the flow was trained with another expert" in Path("out/README.md").read_text()


@pytest.mark.parametrize(
    ("plain_share", "has_blend", "is_told"),
    [(0.0, True, False), (0.0, False, True), (0.4, True, False), (0.4, False, False)],
)
def test_a_flow_that_saw_estimates_with_and_without_the_blend_belongs_to_both(
    work, capfd, plain_share, has_blend, is_told
):
    write_blend(Path("blend.safetensors"), hashes_of("expert"))
    training = {**TRAINING, "latents": {"plain_share": plain_share}}
    write_lora(Path("lora.safetensors"), hashes_of("codec", "base", "expert", "blend"), training=training)
    assert export(*(["--blend", "blend.safetensors"] if has_blend else [])) == 0
    assert ("the flow was trained with another expert" in capfd.readouterr().err) is is_told


def _other_codec():
    write_codec(Path("other.safetensors"), {}, seed=1)


def _other_base():
    write_base(Path("other.safetensors"), {}, seed=1)


def _unknown_origin():
    write_lora(Path("other.safetensors"), {})


def _other_blend():
    write_blend(Path(OTHER), {"expert": "0" * 64})


def _other_rank():
    trained_on = hashes_of("codec", "base")
    write_lora(Path("other.safetensors"), trained_on, rank=3)


def _pickle():
    Path("other.pth").write_bytes(b"pickle")


def _shards():
    Path("shards").mkdir()
    for index in range(2):
        shutil.copy("base.safetensors", f"shards/{index}.safetensors")


def _nothing():
    pass


OTHER = "other.safetensors"
REFUSED = [
    (_other_codec, {"codec": OTHER}, [], "the base was trained on another codec ("),
    (_other_base, {"base": OTHER}, [], "the lora was trained on another base ("),
    (_unknown_origin, {"lora": OTHER}, [], "does not say what it was trained on"),
    (_other_blend, {"blend": OTHER}, [], "the blend was trained on another expert (000000000000…"),
    (_other_rank, {"lora": OTHER}, [], "adapter weights do not fit the network"),
    (_pickle, {"expert": "other.pth"}, [], "is a pickle"),
    (_shards, {"base": "shards"}, [], "holds 2 .safetensors files"),
    (_nothing, {"base": "nowhere"}, [], "no such file or folder, and no model with a base"),
    (_nothing, {"expert": "nowhere"}, [], "no such file, and no model"),
    (_nothing, {"codec": "nowhere"}, [], "nowhere: no such file"),
    (_nothing, {"codec": "expert.safetensors"}, [], "trained on another codec"),
    (_nothing, {"expert": "codec.safetensors"}, [], "its config is none of the network dense_unet"),
    (_nothing, {"lora": None}, [], "--codec, --base and --lora belong together"),
    (_nothing, {"codec": None, "base": None, "lora": None}, ["--steps", "4"], "--steps and --strength are of a flow"),
    (_nothing, {}, ["--steps", "0"], "steps must be 1 to 1000"),
    (_nothing, {}, ["--strength", "1.5"], "strength must be a number from 0 to 1"),
    (_nothing, {}, ["--name", "a b"], "--name a b: no usable name"),
    (_nothing, {}, ["--licence", "a\nb"], "--licence: must be one line"),
    (_nothing, {}, ["--private"], "--private: goes with --push"),
    (_nothing, {}, ["--push", "me/sharp"], "--push: say the licence"),
    (_nothing, {}, ["--push", "sharp", "--licence", "MIT"], "--push sharp: must have the form OWNER/NAME"),
    (_nothing, {}, PUSH, "--push me/sharp: the Hub needs a token that may write; run 'hf auth login'"),
]


@pytest.mark.parametrize(("prepare", "files", "more", "text"), REFUSED, ids=[row[3][:40] for row in REFUSED])
def test_what_does_not_fit_is_one_line_and_nothing_is_written(work, capfd, prepare, files, more, text):
    prepare()
    assert text in refusal(capfd, export(*more, **files))


def test_a_folder_with_something_in_it_is_never_touched(work, capfd):
    Path("out").mkdir()
    assert export("--quiet") == 0  # an empty one is as good as none
    before = content(Path("out"))
    capfd.readouterr()
    assert export() == 2
    assert "is there and not an empty folder" in capfd.readouterr().err
    assert content(Path("out")) == before


def test_the_folder_one_stands_in_is_not_replaced(work, capfd, monkeypatch):
    Path("mine").mkdir()
    files = {role: Path(f"{role}.safetensors").resolve() for role in ("expert", "codec", "base", "lora")}
    monkeypatch.chdir("mine")
    assert export(out=".", **files) == 2
    assert "--out .: is the folder you are in; name a new one" in capfd.readouterr().err


def test_a_disk_that_fills_up_leaves_nothing(work, capfd, monkeypatch):
    def fill(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fill)
    assert "out: cannot be written (No space left on device)" in refusal(capfd, export())


def test_adding_a_whole_model_needs_no_torch(work):
    assert export("--quiet") == 0
    environment = {"HF_HOME": str(work / "home"), "DEBLUR_CONFIG_HOME": str(work / "settings")}
    answer = run_python(["-c", PROBE, "weights", "add", "mine", str(work / "out")], **environment)
    assert answer.returncode == 0
    assert answer.stderr.endswith("heavy: ")


def test_the_command_has_help_with_an_example():
    answer = call(["train", "export", "--help"])
    assert answer.returncode == 0
    assert "Examples" in answer.stdout
    assert "deblur train export --expert quick" in answer.stdout


def test_what_is_written_is_read_back_equal(work):
    assert export("--quiet") == 0
    text = Path("out/model.json").read_bytes()
    assert ModelFolder.parse(text, "x").to_json().encode() == text

"""A trained model as a folder: written, judged, read back, pushed to a Hub and pulled from it."""

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from deblur_process import call, run_python
from hub_server import serve_hub
from test_app import PROBE

from deblur_cli import weights
from deblur_cli.app import run_app
from deblur_cli.backends import load_model
from deblur_cli.checkpoint import save_network, save_tensors
from deblur_cli.networks.deconvolver import DeconvolutionConfig
from deblur_cli.networks.deconvolving_expert import BlendConfig, VersionBlend
from deblur_cli.networks.dense_unet import DenseUNet, DenseUNetConfig
from deblur_cli.networks.flow_transformer import FlowTransformer, FlowTransformerConfig, LoraSettings
from deblur_cli.networks.kernel_estimation import KernelSearch
from deblur_cli.networks.residual_codec import ResidualCodec, ResidualCodecConfig
from deblur_cli.weights import hub as hub_module
from deblur_cli.weights.manifest import user_manifest_path
from deblur_cli.weights.model_folder import ModelFolder

SMALL = {
    "sample_size": 8,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 1,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "joint_attention_dim": 8,
    "caption_projection_dim": 32,
    "pooled_projection_dim": 8,
    "pos_embed_max_size": 4,
}
TRAINING = {
    "seed": 3,
    "data": {"photo_share": 0.75, "frame_share": 0.05, "pair_share": 0.2},
    "schedule": {"batch": 12, "optimizer": "adamw", "learning_rate": 0.001},
    "steps": 4018,
    "minutes_spent": 20.5,
}
LAYOUT = [
    "README.md",
    "codec/config.json",
    "codec/diffusion_pytorch_model.safetensors",
    "expert/config.json",
    "expert/diffusion_pytorch_model.safetensors",
    "lora/config.json",
    "lora/pytorch_lora_weights.safetensors",
    "model.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
]
# huggingface_hub's plain uploads call their HTTP client in a way that it calls outdated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
REPOSITORY = "me/sharp"
PUSH = ["--push", REPOSITORY, "--licence", "Apache-2.0"]


def hash_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_expert(path, seed=0):
    torch.manual_seed(seed)
    config = DenseUNetConfig(2, (8, 8), (1, 1), (1,))
    save_network(DenseUNet(config), path, {"config": dataclasses.asdict(config), "training": TRAINING})


def write_blend(path, trained_on):
    config = BlendConfig(4, 2, DeconvolutionConfig(64, 32, KernelSearch(4, turns=1), KernelSearch(8, turns=1)))
    save_network(VersionBlend(config), path, {"config": dataclasses.asdict(config), "trained_on": trained_on})


def write_codec(path, trained_on, seed=0):
    torch.manual_seed(seed)
    config = ResidualCodecConfig(4, (8, 16))
    metadata = {"config": dataclasses.asdict(config), "training": TRAINING, "trained_on": trained_on}
    save_network(ResidualCodec(config), path, metadata)


def write_base(path, trained_on, seed=0):
    torch.manual_seed(seed)
    config = FlowTransformerConfig("sd3", SMALL, 8)
    metadata = {"config": config.to_json(), "training": TRAINING, "trained_on": trained_on}
    save_network(FlowTransformer(config).transformer, path, metadata)


def write_lora(path, trained_on, rank=2):
    torch.manual_seed(0)
    flow = FlowTransformer(FlowTransformerConfig("sd3", SMALL, 8))
    flow.widen()
    flow.attach_lora(LoraSettings(rank))
    state = {key: torch.randn_like(value) for key, value in flow.adapter_state().items()}
    config = {"rank": 2, "targets": ["attention"], "start_noise": 0.1}
    save_tensors(state, path, {"config": config, "training": TRAINING, "trained_on": trained_on})


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Four files of one training, in a folder that is the current one."""
    from huggingface_hub import constants

    for name in [name for name in os.environ if name.startswith(("DEBLUR_", "HF_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DEBLUR_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.chdir(tmp_path)
    write_expert(Path("expert.safetensors"))
    expert = hash_of(Path("expert.safetensors"))
    write_codec(Path("codec.safetensors"), {"expert": expert})
    codec = hash_of(Path("codec.safetensors"))
    write_base(Path("base.safetensors"), {"codec": codec})
    trained_on = {"codec": codec, "base": hash_of(Path("base.safetensors")), "expert": expert}
    write_lora(Path("lora.safetensors"), trained_on)
    return tmp_path


def export(*more, out="out", **files):
    """The status of `deblur train export` with the four files, or others in their place; None leaves one out."""
    chosen = {role: f"{role}.safetensors" for role in ("expert", "codec", "base", "lora")} | files
    given = [part for role, file in chosen.items() if file is not None for part in (f"--{role}", str(file))]
    return run_app(["train", "export", *given, "--out", out, *more])


def refusal(capfd, status):
    """The one line of a refusal after which there is nothing in the folder."""
    out, err = capfd.readouterr()
    assert (status in (1, 2), out, err.count("\n")) == (True, "", 1), err
    assert not list(Path().glob("*out*"))
    assert not list(Path().glob(".*"))
    return err.removeprefix("deblur: error: ").rstrip()


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
    write_blend(Path("blend.safetensors"), {"expert": hash_of(Path("expert.safetensors"))})
    assert export("--blend", "blend.safetensors", codec=None, base=None, lora=None, out="alone") == 0
    assert export("--blend", "blend.safetensors", out="whole") == 0
    assert "| blend of its estimate with deconvolutions |" in Path("whole/README.md").read_text()
    blurry = torch.rand(1, 3, 64, 64)
    for folder in ("alone", "whole"):
        assert run_app(["weights", "add", f"my-{folder}", folder]) == 0
        restored = load_model(f"my-{folder}", device="cpu", dtype="float32").restore(blurry)
        assert 0.001 < float((restored - blurry).abs().mean()) < 0.1


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


def _other_codec():
    write_codec(Path("other.safetensors"), {}, seed=1)


def _other_base():
    write_base(Path("other.safetensors"), {}, seed=1)


def _unknown_origin():
    write_lora(Path("other.safetensors"), {})


def _other_blend():
    write_blend(Path(OTHER), {"expert": "0" * 64})


def _other_rank():
    trained_on = {role: hash_of(Path(f"{role}.safetensors")) for role in ("codec", "base")}
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


def test_a_disk_that_fills_up_leaves_nothing(work, capfd, monkeypatch):
    def fill(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fill)
    assert "out: cannot be written (No space left on device)" in refusal(capfd, export())


@pytest.fixture
def hub(work, monkeypatch):
    """A Hub that the token "mine" may write to; its user is logged in."""
    import time

    from huggingface_hub import constants

    real_sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: real_sleep(min(seconds, 0.01)))
    monkeypatch.setattr(hub_module, "WAITS", (0.01, 0.01, 0.01))
    monkeypatch.setenv("HF_TOKEN", "mine")
    with serve_hub() as server:
        server.writer = "mine"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", server.url)
        yield server


def test_what_is_pushed_comes_back_byte_for_byte(hub, capfd):
    assert export(*PUSH, "--private") == 0
    out, err = capfd.readouterr()
    ((commit, sent),) = hub.pushed[REPOSITORY].items()
    assert out == f"out\n{hub.url}/{REPOSITORY}\nhf://{REPOSITORY}@{commit}\n"
    assert f"deblur weights add sharp hf://{REPOSITORY}@{commit}\n" in err
    assert sent == content(Path("out"))
    assert hub.private == {REPOSITORY: True}
    assert sorted(hub.large) == sorted(hash_of(path) for path in Path("out").rglob("*.safetensors"))
    assert f"deblur weights add sharp hf://{REPOSITORY}\n".encode() in sent["README.md"]

    assert run_app(["weights", "add", "theirs", f"hf://{REPOSITORY}"]) == 0  # main, as it is today
    entry = weights.find_model("theirs")
    assert {file.revision for file in entry.files.values()} == {commit}
    capfd.readouterr()
    assert run_app(["weights", "pull", "theirs", "--quiet"]) == 0
    for line in capfd.readouterr().out.splitlines():
        name = line.partition(f"{commit}/")[2]
        assert Path(line).read_bytes() == sent[name], line
    assert load_model("theirs", device="cpu", dtype="float32").settings.steps == 4


def test_pushing_again_makes_a_commit_and_an_added_model_keeps_its_own(hub, capfd):
    assert export(*PUSH) == 0
    first = next(iter(hub.pushed[REPOSITORY]))
    assert run_app(["weights", "add", "theirs", f"hf://{REPOSITORY}@main"]) == 0
    assert export(*PUSH, "--steps", "8", out="again") == 0
    assert len(hub.pushed[REPOSITORY]) == 2
    assert weights.find_model("theirs").files["codec"].revision == first
    assert weights.find_model("theirs").flow["steps"] == 4
    assert run_app(["weights", "add", "newer", f"hf://{REPOSITORY}"]) == 0
    assert weights.find_model("newer").flow["steps"] == 8


PUSH_FAULTS = [
    (401, "POST", "does not know this token (401); run 'hf auth login' or set HF_TOKEN, then hf upload me/sharp out"),
    (403, "POST", "this token may not write to"),
    (503, "POST", "is out of order (503); wait a little, then hf upload me/sharp out"),
    (429, "POST", "asks for fewer requests (429)"),
    (403, "PUT", "this token may not write to"),
    (500, "PUT", "is out of order (500)"),
]


@pytest.mark.parametrize(("status", "method", "text"), PUSH_FAULTS, ids=[f"{row[0]} {row[1]}" for row in PUSH_FAULTS])
def test_a_push_that_is_refused_is_one_line_with_the_next_command(hub, capfd, status, method, text):
    from hub_server import Answer

    hub.trouble = [Answer(status, method=method) for _ in range(200)]
    assert export(*PUSH) == 1
    out, err = capfd.readouterr()
    assert out == "out\n"  # it is written and can be sent by hand
    assert err.count("\n") == 1, err
    assert err.startswith("deblur: error: out: written but not pushed: ")
    assert text in err
    assert sorted(content(Path("out"))) == LAYOUT


def test_a_token_that_may_not_write_there_is_said(hub, capfd, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "somebody's")
    assert export(*PUSH) == 1
    assert f"this token may not write to {hub.url}/{REPOSITORY} (403)" in capfd.readouterr().err


def test_a_passing_trouble_does_not_stop_a_push(hub):
    from hub_server import Answer

    hub.trouble = [Answer(503, method="POST"), Answer(500, method="PUT")]
    assert export(*PUSH) == 0
    assert len(hub.pushed[REPOSITORY]) == 1


def test_no_network_is_said_after_the_folder_is_written(work, capfd, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "mine")
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub_module, "WAITS", (0.01,))
    assert export(*PUSH) == 1
    assert "http://127.0.0.1:9 cannot be reached (" in capfd.readouterr().err


def test_nothing_is_written_for_a_push_without_a_network_that_is_allowed(work, capfd, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "mine")
    monkeypatch.setenv("DEBLUR_OFFLINE", "1")
    assert "nothing is sent offline" in refusal(capfd, export(*PUSH))


def test_a_model_on_the_hub_is_added_offline_once_its_description_is_in_the_cache(hub, capfd, monkeypatch):
    assert export(*PUSH, "--quiet") == 0
    commit = next(iter(hub.pushed[REPOSITORY]))
    monkeypatch.setenv("DEBLUR_OFFLINE", "1")
    capfd.readouterr()
    assert run_app(["weights", "add", "theirs", f"hf://{REPOSITORY}@{commit}"]) == 1
    assert "nothing is fetched offline" in capfd.readouterr().err
    monkeypatch.delenv("DEBLUR_OFFLINE")
    assert run_app(["weights", "add", "theirs", f"hf://{REPOSITORY}@{commit}"]) == 0
    monkeypatch.setenv("DEBLUR_OFFLINE", "1")
    assert run_app(["weights", "add", "again", f"hf://{REPOSITORY}@{commit}"]) == 0


def test_what_is_not_there_on_the_hub_is_said(hub, capfd, monkeypatch):
    for source, text in (
        ("hf://someone/nets", "has no model.json; name one of its files: hf://someone/nets@COMMIT/FILE"),
        ("hf://someone/nets@other", "has no revision other"),
        ("hf://nobody/nothing", "was not found, is private, or HF_TOKEN is not valid"),
    ):
        assert run_app(["weights", "add", "x", source]) == 1
        out, err = capfd.readouterr()
        assert (out, err.count("\n")) == ("", 1), err
        assert text in err
    assert not user_manifest_path().exists()


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
    assert "deblur train export --expert bundled-expert" in answer.stdout


def test_what_is_written_is_read_back_equal(work):
    assert export("--quiet") == 0
    text = Path("out/model.json").read_bytes()
    assert ModelFolder.parse(text, "x").to_json().encode() == text

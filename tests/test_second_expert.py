"""A blend that weighs the estimates of two experts: run, trained, loaded and exported."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.export_factory import export, hash_of, refusal, write_expert, write_training
from support.fake_backend import FakeBackend
from support.training_factory import write_pictures, write_recipe
from torch import nn

from deblur_cli import weights
from deblur_cli.app import run_app
from deblur_cli.backends import blended, load_model
from deblur_cli.backends.blended import BlendedBackend, Second
from deblur_cli.backends.expert import ExpertBackend, load_expert
from deblur_cli.checkpoint import read_metadata, save_network
from deblur_cli.errors import WeightsError
from deblur_cli.networks.version_blend import BlendConfig, VersionBlend
from deblur_cli.restoration.pipeline import restore_crop, restore_image
from deblur_cli.restoration.tiling import Tiling
from deblur_cli.restoration.watch import Pixels, Stopped, Watch
from deblur_cli.system.files import hash_file

CPU = torch.device("cpu")
BOTH = BlendConfig(width=6, second=True, coarser=True)
TILING, OTHER_TILING = Tiling(160, 8, 8, 16), Tiling(208, 8, 8, 8)
SMOOTH = partial(nn.functional.avg_pool2d, kernel_size=5, stride=1, padding=2)


def photo(height: int, width: int) -> Pixels:
    return np.random.default_rng(3).integers(0, 60000, (height, width, 3), np.uint16)


def prefer(version: str) -> VersionBlend:
    blend = VersionBlend(BOTH).eval()
    with torch.no_grad():
        blend.head.bias[BOTH.names.index(version)] = 100.0  # type: ignore[index]
    return blend


def build(blend: VersionBlend) -> tuple[BlendedBackend, FakeBackend, FakeBackend]:
    """The first expert makes pictures brighter, the second one smooth."""
    first = FakeBackend(lambda blurry: blurry + 0.05, tiling=TILING)
    second = FakeBackend(SMOOTH, tiling=OTHER_TILING)
    return BlendedBackend(first, blend, 100.0, Second(second, 300.0)), first, second


@pytest.mark.parametrize("size", [(500, 830), (150, 170)], ids=["with a half", "without"])
def test_a_photo_of_which_the_second_estimate_is_believed_is_the_second_ones(size: tuple[int, int]) -> None:
    backend, first, second = build(prefer("second"))
    alone = restore_image(photo(*size), FakeBackend(SMOOTH, tiling=OTHER_TILING))
    assert abs(restore_image(photo(*size), backend).astype(int) - alone).max() <= 1
    assert first.shapes
    assert second.shapes


def test_the_first_estimate_is_believed_where_it_is_preferred() -> None:
    backend, *_ = build(prefer("estimate"))
    assert abs(restore_image(photo(400, 450), backend).astype(int) - photo(400, 450) - 0.05 * 65535).max() <= 1


def lively() -> VersionBlend:
    torch.manual_seed(2)
    blend = VersionBlend(BOTH).eval()
    with torch.no_grad():
        blend.head.weight.normal_(std=0.3)
    return blend


def test_a_crop_is_that_of_the_whole_and_less_work_for_both() -> None:
    backend, first, second = build(lively())
    blurry, rows, columns = photo(600, 1300), slice(390, 398), slice(310, 510)
    whole = restore_image(blurry, backend)
    before = len(first.shapes), len(second.shapes)
    assert np.array_equal(restore_crop(blurry, backend, rows, columns), whole[rows, columns])
    for expert, tiles in zip((first, second), before, strict=True):
        assert 0 < len(expert.shapes) - tiles < 0.7 * tiles


def test_every_pixel_is_told_once_and_a_stop_is_heard_in_the_second_expert() -> None:
    backend, _, second = build(lively())
    told = list[int]()
    restore_image(photo(500, 790), backend, watch=Watch(on_pixels=told.append))
    assert sum(told) == 500 * 790
    assert min(told) >= 0
    second.shapes.clear()
    with pytest.raises(Stopped):
        restore_image(photo(500, 790), backend, watch=Watch(stop=lambda: len(second.shapes) >= 2))
    assert len(second.shapes) == 2


def test_the_second_expert_takes_its_share_of_the_time() -> None:
    assert [build(lively())[0].share, build(lively())[0].work] == pytest.approx([449.333 / 549.333, 549.333], rel=1e-3)


def test_a_photo_that_moved_far_is_spared_by_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blended, "LARGE", 500_000)
    monkeypatch.setattr(blended, "measure_blur", lambda _: SimpleNamespace(is_moved=True, length=99.0))
    backend, first, second = build(prefer("second"))
    restore_image(photo(801, 900), backend)
    for expert, tiling in ((first, TILING), (second, OTHER_TILING.with_size(TILING.size))):
        assert len(expert.shapes) == len(tiling.lay(401, 450)) + len(tiling.lay(201, 225))


def describe(path: Path) -> weights.WeightsFile:
    return weights.WeightsFile(path.stem, "MIT", "made here", path.stat().st_size, hash_file(path), local=str(path))


def write_blend(path: Path, config: BlendConfig, **trained_on: str) -> None:
    torch.manual_seed(4)
    save_network(VersionBlend(config), path, {"config": dataclasses.asdict(config), "trained_on": trained_on})


@pytest.fixture
def entry(tmp_path: Path) -> weights.ModelEntry:
    for seed, name in enumerate(("expert", "second")):
        write_expert(tmp_path / f"{name}.safetensors", seed)
    hashes = {role: hash_file(tmp_path / f"{role}.safetensors") for role in ("expert", "second")}
    write_blend(tmp_path / "blend.safetensors", BOTH, **hashes)
    files = {role: describe(tmp_path / f"{role}.safetensors") for role in ("expert", "second", "blend")}
    return weights.ModelEntry("mine", "expert", "a test", files)


def test_it_runs_from_its_files(entry: weights.ModelEntry) -> None:
    backend = load_expert(entry, CPU, "float32")
    assert isinstance(backend, BlendedBackend)
    assert [name for name, _ in backend.module.named_children()] == ["expert", "second", "blend"]
    assert restore_image(photo(64, 80), backend).shape == (64, 80, 3)


def without_second(entry: weights.ModelEntry) -> dict[str, weights.WeightsFile]:
    return {role: file for role, file in entry.files.items() if role != "second"}


def with_the_first_twice(entry: weights.ModelEntry) -> dict[str, weights.WeightsFile]:
    return {**entry.files, "second": entry.files["expert"]}


def with_a_blend_of_one(entry: weights.ModelEntry) -> dict[str, weights.WeightsFile]:
    path = Path(entry.files["blend"].local).with_name("one.safetensors")
    write_blend(path, BlendConfig(6), expert=str(entry.files["expert"].sha256))
    return {**entry.files, "blend": describe(path)}


def with_a_blend_that_forgot_the_second(entry: weights.ModelEntry) -> dict[str, weights.WeightsFile]:
    path = Path(entry.files["blend"].local).with_name("forgot.safetensors")
    write_blend(path, BOTH, expert=str(entry.files["expert"].sha256))
    return {**without_second(entry), "blend": describe(path)}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (without_second, "was trained on another second expert; use the one with sha256"),
        (with_the_first_twice, "was trained on another second expert; use the one with sha256"),
        (with_a_blend_that_forgot_the_second, "does not say how many experts it weighs"),
        (with_a_blend_of_one, "was trained on one expert alone; leave the second one out"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    entry: weights.ModelEntry,
    change: Callable[[weights.ModelEntry], dict[str, weights.WeightsFile]],
    text: str,
) -> None:
    with pytest.raises(WeightsError, match=text):
        load_expert(dataclasses.replace(entry, files=change(entry)), CPU, "float32")


def test_a_blend_of_two_is_trained_and_belongs_to_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write_pictures(tmp_path / "data"), tmp_path / "run"
    recipe = write_recipe(tmp_path / "both.toml", "[network]\nwidth = 6\nsecond = true\ncoarser = true\n")
    write_expert(tmp_path / "other.safetensors")
    fixed = ["--recipe", str(recipe), "--data", str(data), "--out", str(out), "--device", "cpu", "--quiet"]
    second = ["--second", str(tmp_path / "other.safetensors")]
    assert run_app(["train", "blend", *fixed, *second]) == 0
    told = read_metadata(out / "blend.safetensors")
    quick = weights.find_model("quick").files["expert"].sha256
    assert told["trained_on"] == {"expert": quick, "second": hash_of(tmp_path / "other.safetensors")}
    assert told["config"]["second"] is True
    capsys.readouterr()
    fixed[5] = str(tmp_path / "again")
    for more, text in (
        ([], "the recipe's network.second is true: name it with --second"),
        ([*second, "--set", "network.second=false"], "network.second is false: leave --second out"),
        (["--second", "shake"], "--second shake: is blended already; take the expert that it blends"),
    ):
        assert run_app(["train", "blend", *fixed, *more]) == 2
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1


def test_it_is_exported_with_both_experts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_training(tmp_path, monkeypatch)
    write_expert(Path("other.safetensors"), 7)
    hashes = {role: hash_of(Path(f"{name}.safetensors")) for role, name in (("expert", "expert"), ("second", "other"))}
    write_blend(Path("both.safetensors"), BOTH, **hashes)
    alone = {"codec": None, "base": None, "lora": None}
    both = ["--blend", "both.safetensors", "--second", "other.safetensors"]
    assert export(*both, **alone, out="exported") == 0
    assert (
        Path("exported/second/diffusion_pytorch_model.safetensors").read_bytes()
        == Path("other.safetensors").read_bytes()
    )
    assert "| second expert, another version of the photo |" in Path("exported/README.md").read_text()
    assert run_app(["weights", "add", "two", "exported"]) == 0
    assert isinstance(load_model("two", device="cpu", dtype="float32"), BlendedBackend)
    assert export(expert="two", out="with-flow") == 0
    capfd.readouterr()
    assert "the blend and the second expert: the one that it was trained with is missing" in refusal(
        capfd, export("--blend", "both.safetensors", **alone, out="half")
    )
    text = "--second other.safetensors: is for a blend of two experts; give --blend too, or leave it out"
    assert text in refusal(capfd, export("--second", "other.safetensors", **alone, out="half"))
    both[3] = "standard"
    assert "--second standard: is no expert alone" in refusal(capfd, export(*both, **alone, out="half"))
    assert isinstance(load_model("quick", device="cpu"), ExpertBackend)

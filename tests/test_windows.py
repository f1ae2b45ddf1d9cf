"""Windows with an expert's estimates: made once, gone on with, and never mistaken for those of another expert."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.export_factory import write_expert
from support.training_factory import write_pictures, write_recipe

from deblur_cli.app import run_app
from deblur_cli.checkpoint import read_metadata, save_tensors
from deblur_cli.errors import InputError
from deblur_cli.training.estimates import Estimator, load_estimator
from deblur_cli.training.folder import find_training_data
from deblur_cli.training.recipe import BaseRecipe, CodecRecipe, FlowRecipe, read_recipe
from deblur_cli.training.sources import Generators
from deblur_cli.training.windows import KeptSource, WindowMaker

TABLES = "[latents]\nwindows = {windows}\nside = 64\nheld_out = 4\ncandidates = {candidates}\n"
CPU = torch.device("cpu")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Pictures and a tiny expert."""
    write_expert(tmp_path / "expert.safetensors")
    write_pictures(tmp_path / "data")
    return tmp_path


def build_maker(work: Path, windows: int = 20, candidates: int = 1, expert: str = "expert") -> WindowMaker:
    text = TABLES.format(windows=windows, candidates=candidates)
    recipe = read_recipe(str(write_recipe(work / "flow.toml", text)), FlowRecipe)
    frozen = load_estimator(str(work / f"{expert}.safetensors"), CPU)
    data = find_training_data(work / "data", recipe.data)
    return WindowMaker(frozen, data, work / "windows", recipe.data, recipe.synthesis, recipe.latents)


def pieces(work: Path) -> list[Path]:
    return sorted((work / "windows").glob("*/trained-1/*.safetensors"))


def test_windows_hold_blurry_its_estimate_and_sharp(work: Path) -> None:
    maker = build_maker(work)
    made = maker.open(CPU, 1)
    assert (len(made.trained), len(made.held_out)) == (20, 4)
    windows = made.trained.take(range(4))
    assert windows.shape == (4, 3, 3, 64, 64)
    assert ((windows[:, 0] - windows[:, 2]).abs().mean()) > 0.001
    assert torch.isfinite(windows).all()
    assert not torch.equal(windows[0, 2], windows[1, 2])


def test_who_was_stopped_goes_on_and_ends_with_the_same(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = build_maker(work).open(CPU, 1).trained.take(range(20))
    first, last = pieces(work)
    last.unlink()
    before, calls = first.stat().st_mtime_ns, []
    estimate = Estimator.estimate
    monkeypatch.setattr(Estimator, "estimate", lambda *given: calls.append(1) or estimate(*given))
    again = build_maker(work).open(CPU, 1)
    assert torch.equal(again.trained.take(range(20)), whole)
    assert first.stat().st_mtime_ns == before
    count = len(calls)
    assert count
    assert torch.equal(build_maker(work, windows=32).open(CPU, 1).trained.take(range(20)), whole)
    assert len(calls) == count  # the last piece holds as many already


def test_another_expert_and_other_settings_have_windows_of_their_own(work: Path) -> None:
    tensors = {key: value + 0.1 for key, value in load_file(work / "expert.safetensors").items()}
    save_tensors(tensors, work / "other.safetensors", read_metadata(work / "expert.safetensors"))
    makers = build_maker(work), build_maker(work, expert="other"), build_maker(work, candidates=2)
    keys = [maker.key() for maker in makers]
    assert len(set(keys)) == 3
    assert build_maker(work, windows=99).key() == keys[0]
    (work / "data/photos/0.png").unlink()
    assert build_maker(work).key() not in keys


@pytest.mark.parametrize("fault", ["of another", "damaged"])
def test_a_piece_of_another_expert_or_a_damaged_one_is_refused(fault: str, work: Path) -> None:
    build_maker(work).open(CPU, 1)
    path = pieces(work)[0]
    if fault == "damaged":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        save_file(load_file(path), path, metadata={"made of": "0" * 16})
    text = "damaged windows" if fault == "damaged" else "was made by another expert"
    with pytest.raises(InputError, match=f"00000.safetensors: {text}"):
        build_maker(work).open(CPU, 1)


def test_of_several_candidates_the_more_blurred_is_kept(work: Path) -> None:
    def lost(candidates: int) -> float:
        triples = build_maker(work, windows=48, candidates=candidates).open(CPU, 1).trained.take(range(48))
        energies = triples.diff(dim=-1).square().flatten(2).mean(2)
        return float((energies[:, 0] / energies[:, 2]).mean())

    assert lost(6) < lost(1)


def test_codec_base_and_flow_share_their_windows_by_the_shipped_recipes(work: Path) -> None:
    frozen = load_estimator(str(work / "expert.safetensors"), CPU)
    kinds = {"codec": CodecRecipe, "base": BaseRecipe, "flow": FlowRecipe, "perception": FlowRecipe}
    keys = set()
    for name, kind in kinds.items():
        recipe = read_recipe(name, kind)
        data = find_training_data(work / "data", recipe.data)
        keys.add(WindowMaker(frozen, data, work, recipe.data, recipe.synthesis, recipe.latents).key())
    assert len(keys) == 1


def test_patches_are_cut_from_windows_no_larger_than_these(work: Path) -> None:
    windows = build_maker(work).open(CPU, 1).trained
    source = KeptSource(windows, Generators.seeded(3, CPU))
    assert [tuple(pictures.shape) for pictures in source.draw(2, 48)] == [(2, 3, 48, 48)] * 3
    with pytest.raises(InputError, match=r"64 pixels a side.*lower schedule.patch"):
        source.draw(1, 65)


def test_the_command_makes_them_and_says_how_far_it_is(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(work / "flow.toml", TABLES.format(windows=8, candidates=1))
    fixed = ["--data", str(work / "data"), "--expert", str(work / "expert.safetensors"), "--device", "cpu"]
    assert run_app(["train", "estimates", *fixed, "--recipe", str(recipe), "--out", str(work / "windows")]) == 0
    assert len(list((work / "windows").glob("estimates-*/*/00000.safetensors"))) == 2
    said = capsys.readouterr()
    assert said.out.strip() == str(work / "windows")
    assert "32 of 32 windows" in said.err

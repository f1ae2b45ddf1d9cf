"""An expert and its blend: versions are mixed, never added to, and the estimate stays where nothing is better."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.dual_expert_factory import build as build_dual
from support.fake_backend import FakeBackend
from support.small_deconvolution import DECONVOLUTION
from torch import Tensor

from deblur_cli import weights
from deblur_cli.backends import blended
from deblur_cli.backends.blended import BlendedBackend
from deblur_cli.backends.expert import ExpertBackend, load_expert
from deblur_cli.checkpoint import save_network
from deblur_cli.errors import WeightsError
from deblur_cli.networks.dense_unet import DenseUNet, DenseUNetConfig
from deblur_cli.networks.version_blend import BlendConfig, VersionBlend
from deblur_cli.restoration.pipeline import restore_crop, restore_image
from deblur_cli.restoration.tiling import Tiling
from deblur_cli.restoration.watch import Pixels, Stopped, Watch
from deblur_cli.system.files import hash_file
from deblur_cli.system.typed_tables import read_table

TINY = BlendConfig(width=6, unshuffle=2, deconvolution=DECONVOLUTION)
LEVELS = BlendConfig(width=6, coarser=True)
UNET = DenseUNetConfig(4, (8, 12), (1, 1), (1,))
CPU = torch.device("cpu")


def photo(height: int, width: int, seed: int = 5) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def lively(network: torch.nn.Module, scale: float = 0.2) -> Any:
    """With weights that nobody has to train: every layer says something."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def test_the_mixture_lies_between_the_versions_and_shares_sum_to_one() -> None:
    blend, versions = lively(VersionBlend(TINY)), torch.rand(2, TINY.versions, 3, 16, 24)
    with torch.no_grad():
        shares, mixed = blend.weigh(versions), blend(versions)
    assert shares.shape == (2, TINY.versions, 16, 24)
    assert shares.std(1).mean() > 0.01  # it prefers something
    assert torch.allclose(shares.sum(1), torch.ones(2, 16, 24))
    assert bool((mixed <= versions.amax(1) + 1e-6).all() and (mixed >= versions.amin(1) - 1e-6).all())


def test_equal_versions_come_back_as_they_are() -> None:
    image = photo(16, 16)
    with torch.no_grad():
        mixed = lively(VersionBlend(TINY))(image[:, None].expand(-1, TINY.versions, -1, -1, -1))
    assert torch.allclose(mixed, image, atol=1e-6)


def test_before_any_training_the_estimate_counts_most() -> None:
    with torch.no_grad():
        shares = VersionBlend(TINY).weigh(torch.rand(1, TINY.versions, 3, 8, 8))
    assert bool((shares[:, 1] > 0.5).all())


@pytest.mark.parametrize("config", [TINY, LEVELS], ids=["deconvolutions", "levels"])
def test_a_config_survives_json(config: BlendConfig) -> None:
    assert read_table(BlendConfig, dataclasses.asdict(config)) == config


def prefer(blend: VersionBlend, version: int) -> VersionBlend:
    """Whatever it sees."""
    with torch.no_grad():
        blend.head.bias[version] = 100.0  # type: ignore[index]
    return blend.eval()


def build(blend: VersionBlend, expert: DenseUNet | None = None) -> BlendedBackend:
    network = expert or lively(DenseUNet(UNET), 0.1)
    return BlendedBackend(ExpertBackend("mine", network, CPU, torch.float32), blend, 100.0)


def pixels(height: int, width: int) -> Pixels:
    smooth = torch.nn.functional.interpolate(photo(height // 8, width // 8), size=(height, width), mode="bicubic")
    return (smooth[0].clamp(0, 1).permute(1, 2, 0).numpy() * 65535).astype("uint16")


def test_a_whole_that_trusts_the_estimate_alone_is_the_expert() -> None:
    backend, blurry = build(prefer(VersionBlend(LEVELS), 1)), pixels(400, 450)
    expert = ExpertBackend("mine", lively(DenseUNet(UNET), 0.1), CPU, torch.float32)
    assert abs(restore_image(blurry, backend).astype(int) - restore_image(blurry, expert)).max() <= 1


def test_a_whole_that_trusts_the_photo_alone_changes_nothing() -> None:
    backend, blurry = build(prefer(VersionBlend(LEVELS), 0)), pixels(400, 451)
    assert abs(restore_image(blurry, backend).astype(int) - blurry).max() <= 1


def test_what_half_the_size_gave_is_enlarged_and_added() -> None:
    class Brighter(DenseUNet):
        def predict_residual(self, blurry: Tensor) -> Tensor:
            return torch.full_like(blurry, 0.1)

    blend = prefer(prefer(VersionBlend(LEVELS), 1), 2)
    blurry = pixels(390, 451) // 2
    restored = restore_image(blurry, build(blend, Brighter(UNET))).astype(int)
    assert abs(restored - blurry - 0.075 * 65535).max() <= 2  # half of 0.1, and half of half of it from half the size


def test_it_stops_between_pieces_and_tells_every_pixel_once() -> None:
    told: list[int] = []
    backend = build(lively(VersionBlend(LEVELS)))
    restore_image(pixels(500, 390), backend, watch=Watch(on_pixels=told.append))
    assert sum(told) == 500 * 390
    assert min(told) >= 0
    calls = iter(range(100))
    with pytest.raises(Stopped):
        restore_image(pixels(500, 390), backend, watch=Watch(stop=lambda: next(calls) >= 2))


def moved(height: int, width: int, by: int) -> Pixels:
    """Coarse and fine patches of colour, moved to the side."""
    generator = torch.Generator().manual_seed(1)
    patches = torch.zeros(1, 3, height, width + by - 1)
    for side, share in ((3, 0.25), (12, 0.25), (48, 0.5)):
        drawn = torch.rand(1, 3, -(-height // side), -(-patches.shape[-1] // side), generator=generator)
        large = torch.nn.functional.interpolate(drawn, scale_factor=side)
        patches += share * large[..., :height, : patches.shape[-1]]
    blurry = torch.nn.functional.avg_pool2d(patches, (1, by), 1)
    return (blurry[0].permute(1, 2, 0).numpy() * 65535).round().astype("uint16")


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> tuple[BlendedBackend, FakeBackend]:
    """One to which half a megapixel is large, and its expert, which makes pictures brighter."""
    monkeypatch.setattr(blended, "LARGE", 500_000)
    expert = FakeBackend(lambda blurry: blurry + 0.1, tiling=Tiling(160, 8, 8, 16))
    return BlendedBackend(expert, prefer(VersionBlend(LEVELS), 1), 100.0), expert


@pytest.mark.parametrize("width", [900, 901])
def test_a_large_photo_that_moved_far_is_restored_at_half_its_size_alone(
    watched: tuple[BlendedBackend, FakeBackend], width: int
) -> None:
    backend, expert = watched
    blurry, told = moved(801, width, 90), list[int]()
    restored = restore_image(blurry, backend, watch=Watch(on_pixels=told.append))
    assert abs(restored.astype(int) - blurry - 0.1 * 65535).max() <= 2
    assert sum(told) == blurry.shape[0] * blurry.shape[1]
    tiles = len(Tiling(160, 8, 8, 16).lay(801, width))
    assert 0 < len(expert.shapes) < tiles / 2
    rows, columns = slice(391, 520), slice(17, 60)
    assert np.array_equal(restore_crop(blurry, backend, rows, columns), restored[rows, columns])


def test_a_far_move_leaves_several_sizes_out(
    watched: tuple[BlendedBackend, FakeBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, expert = watched
    monkeypatch.setattr(blended, "FAR", 25.0)
    blurry = moved(801, 1000, 150)
    restore_image(blurry, backend)
    once = len(expert.shapes)
    monkeypatch.setattr(blended, "LARGE", 100_000)
    assert abs(restore_image(blurry, backend).astype(int) - blurry - 0.1 * 65535).max() <= 2
    assert 0 < len(expert.shapes) - once < once / 2


@pytest.mark.parametrize(("height", "by"), [(801, 20), (500, 90)], ids=["not far", "not large"])
def test_another_photo_is_restored_at_its_own_size(
    watched: tuple[BlendedBackend, FakeBackend], height: int, by: int
) -> None:
    backend, expert = watched
    restore_image(moved(height, 900, by), backend)
    assert len(expert.shapes) > len(Tiling(160, 8, 8, 16).lay(height, 900))


def test_a_flow_goes_on_from_what_half_the_size_gave(watched: tuple[BlendedBackend, FakeBackend]) -> None:
    backend, _ = watched
    blurry, told = moved(801, 900, 90), list[int]()
    flow = build_dual(expert=backend, strength=0.0)
    assert np.array_equal(
        restore_image(blurry, flow, watch=Watch(on_pixels=told.append)), restore_image(blurry, backend)
    )
    assert sum(told) == 801 * 900


def hesitant() -> VersionBlend:
    """As before any training, but every pixel counts a little."""
    torch.manual_seed(3)
    blend = VersionBlend(LEVELS).eval()
    with torch.no_grad():
        blend.head.weight.normal_(std=0.02)
    return blend


@pytest.mark.parametrize(
    ("blend", "width"),
    [(lively(VersionBlend(TINY), 0.15), 330), (hesitant(), 390)],
    ids=["deconvolutions", "levels"],
)
def test_tiles_hardly_show(blend: VersionBlend, width: int) -> None:
    backend, blurry = build(blend), (photo(500, width)[0].permute(1, 2, 0).numpy() * 65535).astype("uint16")
    whole, tiled = (restore_image(blurry, backend, tile=tile).astype(float) for tile in (1024, backend.tiling.smallest))
    assert abs(whole - blurry).mean() > 300
    assert abs(whole - tiled).max() <= 2


def test_a_second_round_begins_with_what_the_first_gave() -> None:
    blend, blurry = lively(VersionBlend(TINY), 0.15), pixels(128, 128)
    once = restore_image(blurry, build(blend))
    given = torch.from_numpy(once.astype(np.float32) / 65535).permute(2, 0, 1)[None]
    whole = FakeBackend(lambda tile: given.clone(), tiling=Tiling(128, 0, 0, 128))
    expected = restore_image(blurry, BlendedBackend(whole, blend, 100.0)).astype(float)
    again = lively(VersionBlend(dataclasses.replace(TINY, rounds=2, progress=1000.0)), 0.15)
    twice = restore_image(blurry, build(again)).astype(float)
    assert abs(twice - expected).max() <= 40  # once was rounded
    assert abs(twice - once).mean() > 300


def test_tiles_hardly_show_in_two_rounds() -> None:
    """At the border of a tile what the first round gave has seen less; that is far outside what is kept of it."""
    backend = build(lively(VersionBlend(dataclasses.replace(TINY, rounds=2, progress=1000.0)), 0.15))
    blurry = (photo(500, 330)[0].permute(1, 2, 0).numpy() * 65535).astype("uint16")
    whole, tiled = (restore_image(blurry, backend, tile=tile).astype(float) for tile in (1024, backend.tiling.smallest))
    assert abs(whole - tiled).mean() < abs(whole - blurry).mean() / 100


@pytest.mark.parametrize("config", [{"rounds": 0}, {"rounds": 2}])
def test_rounds_that_cannot_be_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="rounds = "):
        BlendConfig(**config)


@pytest.fixture
def entry(tmp_path: Path) -> weights.ModelEntry:
    """An expert and a blend of it, as files."""
    expert, blend = tmp_path / "expert.safetensors", tmp_path / "blend.safetensors"
    save_network(lively(DenseUNet(UNET)), expert, {"config": dataclasses.asdict(UNET)})
    trained_on = {"expert": hash_file(expert)}
    save_network(lively(VersionBlend(TINY)), blend, {"config": dataclasses.asdict(TINY), "trained_on": trained_on})
    files = {
        path.stem: weights.WeightsFile(
            path.stem, "MIT", "made here", path.stat().st_size, hash_file(path), local=str(path)
        )
        for path in (expert, blend)
    }
    return weights.ModelEntry("mine", "expert", "a test", files)


def test_it_runs_from_its_files(entry: weights.ModelEntry) -> None:
    backend = load_expert(entry, CPU, "float32")
    blurry = pixels(300, 330)
    assert abs(restore_image(blurry, backend).astype(float) - blurry).mean() > 300


def test_a_blend_of_another_expert_or_none_is_refused(entry: weights.ModelEntry, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    for config, trained_on, text in (
        (dataclasses.asdict(TINY), {"expert": "0" * 64}, "was trained on another expert; use the one with sha256 0000"),
        ({}, {"expert": entry.files["expert"].sha256}, "holds no blend"),
    ):
        save_network(lively(VersionBlend(TINY)), other, {"config": config, "trained_on": trained_on})
        file = dataclasses.replace(
            entry.files["blend"], local=str(other), bytes=other.stat().st_size, sha256=hash_file(other)
        )
        with pytest.raises(WeightsError, match=text):
            load_expert(dataclasses.replace(entry, files={**entry.files, "blend": file}), CPU, "float32")

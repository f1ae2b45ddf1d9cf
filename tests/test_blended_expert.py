"""The expert that deconvolves: versions are mixed, never added to, and the estimate stays where nothing is better."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_deconvolution import DECONVOLUTION
from torch import Tensor

from deblur_cli import weights
from deblur_cli.backends.expert import load_expert
from deblur_cli.checkpoint import save_network
from deblur_cli.errors import WeightsError
from deblur_cli.networks.blended_expert import BlendConfig, BlendedExpert, VersionBlend
from deblur_cli.networks.dense_unet import DenseUNet, DenseUNetConfig
from deblur_cli.restoration.pipeline import restore_image
from deblur_cli.system.files import hash_file
from deblur_cli.system.typed_tables import read_table

TINY = BlendConfig(width=6, unshuffle=2, deconvolution=DECONVOLUTION)
UNET = DenseUNetConfig(4, (8, 12), (1, 1), (1,))
CPU = torch.device("cpu")


def photo(height: int, width: int, seed: int = 5) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def lively(network: torch.nn.Module) -> Any:
    """With weights that nobody has to train: every layer says something."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
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


def test_a_whole_that_trusts_the_estimate_alone_is_the_expert() -> None:
    expert, blend = lively(DenseUNet(UNET)), VersionBlend(TINY)
    with torch.no_grad():
        blend.head.bias[1] = 100.0  # type: ignore[index]
        whole = BlendedExpert(expert, blend).eval()
        blurry = photo(64, 128)
        assert torch.allclose(whole(blurry), expert(blurry).clamp(0, 1), atol=1e-6)


def test_in_bfloat16_only_the_networks_round() -> None:
    whole = lively(BlendedExpert(DenseUNet(UNET), VersionBlend(TINY)))
    blocks = torch.nn.functional.interpolate(photo(8, 8), scale_factor=8)
    blurry = torch.nn.functional.avg_pool2d(blocks, (1, 9), 1, (0, 4))  # moved: of noise no deconvolution is offered
    with torch.no_grad():
        exact, rounded = whole(blurry), whole.to(torch.bfloat16)(blurry)
    assert rounded.dtype == torch.float32
    assert float((exact - rounded).abs().mean()) < 0.005
    assert float((exact - blurry).abs().mean()) > 0.02


def test_an_expert_whose_grid_does_not_fit_is_refused() -> None:
    coarse = DenseUNet(DenseUNetConfig(4, (8,) * 6, (1,) * 6, (1,) * 5))  # multiples of 128
    with pytest.raises(ValueError, match="stride of 64 does not fit 128"):
        BlendedExpert(coarse, VersionBlend(TINY))


def test_a_config_survives_json() -> None:
    assert read_table(BlendConfig, dataclasses.asdict(TINY)) == TINY


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


def test_it_runs_from_its_files_and_tiles_hardly_show(entry: weights.ModelEntry) -> None:
    backend = load_expert(entry, CPU, "float32")
    blurry = (photo(500, 330)[0].permute(1, 2, 0).numpy() * 65535).astype("uint16")
    whole, tiled = (restore_image(blurry, backend, tile=tile).astype(float) for tile in (1024, backend.tiling.smallest))
    assert abs(whole - blurry).mean() > 300
    assert abs(whole - tiled).max() <= 2


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

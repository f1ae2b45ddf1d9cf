"""Weights of a blend grow: versions that they do not know begin with little say."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.small_deconvolution import DECONVOLUTION as TINY

from deblur_cli.checkpoint import load_strict, save_network
from deblur_cli.errors import WeightsError
from deblur_cli.networks.version_blend import BlendConfig, VersionBlend
from deblur_cli.training.versions import load_known

SMALL = BlendConfig(6, dilations=(1,), deconvolution=TINY)


def write_blend(path: Path, config: BlendConfig) -> VersionBlend:
    torch.manual_seed(3)
    blend = VersionBlend(config)
    for parameter in blend.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save_network(blend, path, {"config": dataclasses.asdict(config)})
    load_strict(blend, path)  # a file holds bfloat16
    return blend.requires_grad_(requires_grad=False)


def test_a_version_that_the_weights_do_not_know_is_hardly_believed(tmp_path: Path) -> None:
    smaller = write_blend(tmp_path / "two.safetensors", BlendConfig(6))
    blend = VersionBlend(BlendConfig(6, coarser=True)).requires_grad_(requires_grad=False)
    load_known(blend, tmp_path / "two.safetensors")
    versions = torch.rand(1, 3, 3, 16, 24)
    known, grown = smaller.weigh(versions[:, :2]), blend.weigh(versions)
    assert torch.allclose(grown[:, :2] / grown[:, :2].sum(1, keepdim=True), known, atol=1e-6)
    assert torch.allclose(grown[:, 2], math.exp(-2) * grown[:, 1], atol=1e-6)
    strange = versions.clone()
    strange[:, 2] = 1
    assert torch.equal(blend.weigh(strange), grown)


def test_versions_are_known_by_what_they_are_and_not_by_their_place(tmp_path: Path) -> None:
    """One that comes between, and one after them; only these have others behind them in the file's order."""
    smaller = write_blend(tmp_path / "five.safetensors", SMALL)
    more = dataclasses.replace(TINY, of_estimate=(*TINY.of_estimate, (2.2, 0.7)))
    larger = VersionBlend(dataclasses.replace(SMALL, coarser=True, deconvolution=more)).requires_grad_(
        requires_grad=False
    )
    load_known(larger, tmp_path / "five.safetensors")
    assert [name for name in larger.config.names if name not in smaller.config.names] == [
        "coarser",
        "corrected, 2.2, 0.7",
    ]
    versions = torch.rand(1, larger.config.versions, 3, 16, 24)
    old = [0, 1, *range(3, larger.config.versions - 1)]
    known, grown = smaller.weigh(versions[:, old]), larger.weigh(versions)
    assert torch.allclose(grown[:, old] / grown[:, old].sum(1, keepdim=True), known, atol=1e-6)
    assert torch.allclose(grown[:, [2, -1]], math.exp(-2) * grown[:, [1, 1]], atol=1e-6)


def test_versions_are_known_whatever_the_strength_of_their_penalty(tmp_path: Path) -> None:
    """The same place among those of one light; more of them than are known begin as the last one."""
    before = write_blend(tmp_path / "blend.safetensors", SMALL)
    other = dataclasses.replace(TINY, of_short=((1.0, 0.3), (1.0, 0.4), (2.2, 0.5)), of_long=((1.0, 0.6),))
    network = VersionBlend(dataclasses.replace(SMALL, deconvolution=other)).requires_grad_(requires_grad=False)
    load_known(network, tmp_path / "blend.safetensors")
    places = [0, 1, 2, 2, 3, 4, 5, 6, 7]
    assert torch.equal(network.head.weight, before.head.weight[places])
    assert torch.equal(network.head.bias, before.head.bias[places])


def test_the_same_versions_are_taken_as_they_are(tmp_path: Path) -> None:
    first = write_blend(tmp_path / "two.safetensors", BlendConfig(6))
    second = VersionBlend(BlendConfig(6))
    load_known(second, tmp_path / "two.safetensors")
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize(("width", "has_coarser"), [(8, False), (8, True)])
def test_another_network_is_refused(tmp_path: Path, width: int, has_coarser: bool) -> None:
    write_blend(tmp_path / "two.safetensors", BlendConfig(width))
    with pytest.raises(WeightsError, match=r"two\.safetensors: weights do not fit the network"):
        load_known(VersionBlend(BlendConfig(6, coarser=has_coarser)), tmp_path / "two.safetensors")


def test_tensors_of_other_dimensions_are_refused(tmp_path: Path) -> None:
    blend = write_blend(tmp_path / "two.safetensors", BlendConfig(6))
    flat = {name: tensor.flatten().contiguous() for name, tensor in blend.state_dict().items()}
    save_file(flat, tmp_path / "two.safetensors", {"config": json.dumps(dataclasses.asdict(BlendConfig(6)))})
    with pytest.raises(WeightsError, match=r"two\.safetensors: weights do not fit the network"):
        load_known(VersionBlend(BlendConfig(6, coarser=True)), tmp_path / "two.safetensors")


def test_fewer_versions_than_the_weights_know_are_refused(tmp_path: Path) -> None:
    write_blend(tmp_path / "three.safetensors", BlendConfig(6, coarser=True))
    with pytest.raises(WeightsError, match=r"three\.safetensors: weights do not fit the network"):
        load_known(VersionBlend(BlendConfig(6)), tmp_path / "three.safetensors")

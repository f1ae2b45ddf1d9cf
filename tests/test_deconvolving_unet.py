"""The expert with deconvolution: windows on the photo's grid, and a U-Net that can do without."""

import dataclasses

import pytest
import torch
from torch import Tensor

from deblur_cli.networks.deconvolving_unet import DeconvolutionConfig, DeconvolvingUNet, DeconvolvingUNetConfig
from deblur_cli.networks.dense_unet import DenseUNetConfig
from deblur_cli.networks.kernel_estimation import KernelSearch

FAST = KernelSearch(reach=8, turns=1, splitting=(2.0, 2e3, 8.0))
TINY = DeconvolvingUNetConfig(
    unet=DenseUNetConfig(4, (8, 12), (1, 1), (1,), candidates=3),
    deconvolution=DeconvolutionConfig(128, 64, FAST, FAST, ((1.0, 0.02), (2.2, 0.05)), ((1.0, 0.1),)),
)


@pytest.fixture
def network() -> DeconvolvingUNet:
    torch.manual_seed(2)
    return DeconvolvingUNet(TINY).eval()


def photo(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def test_an_untrained_network_is_the_identity_and_its_grid_is_the_windows(network: DeconvolvingUNet) -> None:
    assert TINY.multiple_of == 64
    blurry = photo(128, 64)
    assert torch.equal(network(blurry), blurry)


@torch.no_grad()
def test_candidates_cover_the_photo_and_stay_in_range(network: DeconvolvingUNet) -> None:
    candidates = network.deconvolve(photo(128, 192))
    assert candidates.shape == (1, 9, 128, 192)
    assert 0 <= float(candidates.min()) <= float(candidates.max()) <= 1


@torch.no_grad()
def test_a_part_of_a_photo_on_the_grid_has_the_candidates_of_the_whole(network: DeconvolvingUNet) -> None:
    whole = photo(384, 64)
    part = network.deconvolve(whole[..., 64:, :])
    inside = network.deconvolve(whole)[..., 160:288, :]  # no window of these rows reaches beyond the part
    assert torch.allclose(part[..., 96:224, :], inside, atol=1e-5)


@torch.no_grad()
def test_windows_are_the_same_alone_and_in_a_batch(network: DeconvolvingUNet) -> None:
    photos = torch.cat((photo(64, 64), photo(64, 64).flip(-1)))
    assert torch.allclose(network.deconvolve(photos)[1:], network.deconvolve(photos[1:]), atol=1e-5)


@torch.no_grad()
def test_in_bfloat16_only_the_unet_rounds(network: DeconvolvingUNet) -> None:
    blurry = photo(64, 64)
    exact = network.deconvolve(blurry)
    rounded = network.to(torch.bfloat16).deconvolve(blurry)
    assert torch.equal(exact, rounded)
    assert network(blurry).dtype == torch.float32


def test_a_config_survives_json_and_must_name_every_candidate() -> None:
    assert DeconvolvingUNetConfig.from_json(dataclasses.asdict(TINY)) == TINY
    with pytest.raises(ValueError, match="sees 3 candidates, and 5"):
        dataclasses.replace(TINY, deconvolution=DeconvolutionConfig())

"""NAFNet: the published names and numbers, windows like their definition, and one picture however it is cut."""

import dataclasses
import re
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from support.nafnet_factory import TINY, build_lively, save_published
from support.nafnet_reference import NAFNet32
from torch import Tensor
from torch.nn import functional

from deblur_cli.backends.expert import ExpertBackend, choose_tiling
from deblur_cli.networks.nafnet import ChannelNorm, NAFNet, NAFNetConfig, SimplifiedChannelAttention, slide_mean
from deblur_cli.restoration.pipeline import restore_image
from deblur_cli.system.typed_tables import read_table

CPU = torch.device("cpu")
GLOBAL = dataclasses.replace(TINY, train_size=None)

# Our names -> those of the network written down for timing, which was made without looking at this one.
RENAMED = (
    (r"\.norm([12])\.", r".norm_\1."),
    (r"\.conv1\.", ".widen_1."),
    (r"\.conv2\.", ".depthwise."),
    (r"\.conv3\.", ".narrow_1."),
    (r"\.conv4\.", ".widen_2."),
    (r"\.conv5\.", ".narrow_2."),
    (r"\.sca\.", ".attention."),
    (r"^middle_blks\.0\.", "middle."),
    (r"^(decoders\.\d)\.0\.", r"\1."),
)


def rename(key: str) -> str:
    for ours, theirs in RENAMED:
        key = re.sub(ours, theirs, key)
    return key


def psnr(left: Tensor | np.ndarray, right: Tensor | np.ndarray) -> float:
    difference = np.asarray(left, np.float64) - np.asarray(right, np.float64)
    return float(-10 * np.log10(np.square(difference).mean() + 1e-20))


def noisy(height: int, width: int, seed: int = 0) -> Tensor:
    """(1, 3, H, W): texture whose brightness and contrast change across the picture, as in a photo."""
    generator = torch.Generator().manual_seed(seed)
    coarse, fine = (torch.rand(1, 3, n, n, generator=generator) for n in (5, 40))
    smooth, texture = (functional.interpolate(x, (height, width), mode="bicubic") for x in (coarse, fine))
    return (smooth * (0.4 + 0.6 * texture) + 0.1 * torch.rand(smooth.shape, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize(("width", "parameters"), [(32, 17_111_907), (64, 67_888_835)])
def test_the_published_networks_have_their_size_and_their_grid(width: int, parameters: int) -> None:
    with torch.device("meta"):
        network = NAFNet(NAFNetConfig(width=width))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert network.config.needs.multiple_of == 16
    assert [network.config.window(level) for level in range(5)] == [384, 192, 96, 48, 24]


def test_the_parameters_carry_the_names_of_the_public_checkpoints() -> None:
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in NAFNet(NAFNetConfig()).state_dict().items()}
    block = ("norm1", "norm2", "conv1", "conv2", "conv3", "conv4", "conv5", "sca.1")
    leaves = {f"{part}.{kind}" for part in block for kind in ("weight", "bias")} | {"beta", "gamma"}
    assert {key.removeprefix("encoders.3.27.") for key in shapes if key.startswith("encoders.3.27.")} == leaves
    assert {key.split(".")[0] for key in shapes} == {
        "intro", "ending", "encoders", "downs", "middle_blks", "ups", "decoders",
    }  # fmt: skip
    assert shapes["ups.0.0.weight"] == (1024, 512, 1, 1)
    assert "ups.0.0.bias" not in shapes
    assert shapes["decoders.0.0.conv2.weight"] == (512, 1, 3, 3)  # the coarsest comes first
    assert shapes["middle_blks.0.beta"] == (1, 512, 1, 1)
    assert len(shapes) == 4 + 8 + 4 + 36 * len(leaves)


def test_in_global_mode_it_is_the_network_written_down_elsewhere() -> None:
    network = build_lively(NAFNetConfig(train_size=None))
    reference = NAFNet32().eval()
    reference.load_state_dict({rename(key): value for key, value in network.state_dict().items()}, strict=True)
    blurry = noisy(80, 112)
    with torch.inference_mode():
        expected = reference(blurry)
        assert (network(blurry) - expected).abs().max() <= 1e-5
        assert (expected - blurry).std() > 0.01


def test_in_global_mode_it_is_spandrels_network(spandrel: types.ModuleType, tmp_path: Path) -> None:
    network = build_lively(NAFNetConfig(train_size=None))
    path = save_published(network, tmp_path / "nafnet.pth")
    theirs = spandrel.ModelLoader(device="cpu").load_from_state_dict(torch.load(path, weights_only=True))
    blurry = noisy(96, 128)
    with torch.inference_mode():
        assert (network(blurry) - theirs.model.eval()(blurry)).abs().max() <= 1e-5


@pytest.mark.parametrize("window", [1, 2, 3, 6, 24, 37, 48, 60])
def test_sliding_means_are_means_over_every_whole_window(window: int) -> None:
    features = torch.randn(2, 3, 37, 50, generator=torch.Generator().manual_seed(1))
    expected = functional.avg_pool2d(features, (min(window, 37), min(window, 50)), stride=1)
    means = slide_mean(slide_mean(features, window, 2), window, 3)
    torch.testing.assert_close(means, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(40, 56), (24, 56), (8, 56), (56, 8), (25, 24)])
def test_local_attention_sees_the_nearest_whole_window(height: int, width: int) -> None:
    attention = SimplifiedChannelAttention(4, 24)
    features = torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(2))
    factors = attention(features).expand(1, 4, height, width)
    for row, column in ((0, 0), (height // 2, width // 3), (height - 1, width - 1)):
        # The window of a pixel begins 11 before it and ends 12 after it, pushed inside where it would leave.
        top = min(max(row - 11, 0), max(height - 24, 0))
        left = min(max(column - 11, 0), max(width - 24, 0))
        mean = features[:, :, top : top + 24, left : left + 24].mean((2, 3), keepdim=True)
        torch.testing.assert_close(factors[:, :, row, column], attention[1](mean)[:, :, 0, 0])


def test_a_picture_smaller_than_the_window_gets_the_global_result() -> None:
    local = build_lively()
    whole = NAFNet(GLOBAL).eval()
    whole.load_state_dict(local.state_dict(), strict=True)
    with torch.inference_mode():
        small, large = noisy(96, 80), noisy(192, 176)
        assert torch.equal(local(small), whole(small))
        assert (local(large) - whole(large)).abs().max() > 1e-3


@pytest.mark.parametrize(("height", "width"), [(389, 517), (200, 611), (97, 331)])
def test_the_result_hardly_depends_on_how_a_photo_of_odd_size_is_cut(height: int, width: int) -> None:
    backend = ExpertBackend("test", build_lively(), CPU, torch.float32)
    assert backend.tiling.context == 48  # half of 1.5 * 64
    photo = (noisy(height, width)[0].permute(1, 2, 0).numpy() * 65535).astype(np.uint16)
    whole, *cut = (restore_image(photo, backend, tile=tile) / 65535 for tile in (1024, 256, 336))
    assert psnr(whole, photo / 65535) < 35  # it does something
    for tiled in cut:
        assert psnr(tiled, whole) >= 50
        colour = (tiled - whole).reshape(-1, 3)
        blocks = [np.abs(part.mean(0)).max() for part in np.array_split(colour, 16)]
        assert max(blocks) < 0.5 / 255  # no tile has another tint


def test_the_tiling_comes_from_the_window() -> None:
    with torch.device("meta"):
        published, whole = NAFNet(NAFNetConfig()), NAFNet(NAFNetConfig(train_size=None))
    tiling = choose_tiling(published, CPU)
    assert (tiling.context, tiling.multiple_of) == (192, 16)
    assert tiling.size >= 1280  # a GoPro frame is seen whole, as in the published figures
    assert choose_tiling(whole, CPU).context < 192


def test_bfloat16_agrees_with_float32() -> None:
    network, blurry = build_lively(NAFNetConfig()), noisy(224, 208)
    exact, fast = (ExpertBackend("test", network, CPU, dtype) for dtype in (torch.float32, torch.bfloat16))
    assert psnr(fast.restore(blurry), exact.restore(blurry)) > 50


def test_normalisation_and_means_keep_their_precision_in_bfloat16() -> None:
    features = (100 + 2 * torch.randn(1, 64, 20, 30, generator=torch.Generator().manual_seed(3))).bfloat16()
    exact = features.double()
    expected = (exact - exact.mean(1, keepdim=True)) / (exact.var(1, keepdim=True, correction=0) + 1e-6).sqrt()
    assert (ChannelNorm(64).bfloat16()(features).double() - expected).abs().max() < 2**-6  # the output's own rounding
    attention = SimplifiedChannelAttention(64, 16).bfloat16()
    means = functional.avg_pool2d(exact, 16, stride=1).bfloat16()
    torch.testing.assert_close(attention(features)[:, :, 7:12, 7:22], attention[1](means), rtol=0.02, atol=0.5)


def test_an_untrained_network_starts_with_blocks_that_change_nothing_and_can_learn() -> None:
    network = NAFNet(TINY)
    features = torch.randn(1, 8, 16, 16)
    assert torch.equal(network.encoders[0](features), features)
    network.predict_residual(noisy(128, 112)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("values", [{"widths": 3}, {"width": 8, "encoder_blocks": [1], "decoder_blocks": [1, 1]}])
def test_a_config_that_is_none_is_refused(values: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        NAFNet(read_table(NAFNetConfig, values))

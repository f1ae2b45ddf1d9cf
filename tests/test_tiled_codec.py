"""The codec over a whole photo: tiles change nothing, and see no more than they must."""

import numpy as np
import pytest
import torch
from support.dual_expert_factory import CPU, build_codec, lively, photo, quiet

from deblur_cli.backends.tiled_codec import TiledCodec
from deblur_cli.networks.residual_codec import ResidualCodec, ResidualCodecConfig
from deblur_cli.restoration.tiling import PixelSource


@pytest.mark.parametrize("tile", [16, 160, 200, 264])
@pytest.mark.parametrize(("height", "width"), [(304, 336), (299, 330), (130, 336)])
def test_latents_and_residuals_of_tiles_are_those_of_the_photo_in_one_piece(tile: int, height: int, width: int) -> None:
    codec, canvas = TiledCodec(build_codec(), CPU, torch.float32), (-(-height // 16) * 2, -(-width // 16) * 2)
    source = PixelSource(photo(height, width))
    whole = source.cut(slice(0, canvas[0] * 8), slice(0, canvas[1] * 8))[None]
    with torch.inference_mode():
        latents = codec.encode(source, canvas, tile, quiet(1))
        expected = codec.module.encode(whole)
        assert (latents - expected).abs().max() <= 1e-5
        change = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
        residual = codec.decode(change, source, tile, quiet(1))
        assert (residual - codec.module.decode(change, whole)[0, :, :height, :width]).abs().max() <= 1e-5
    assert expected.std() > 0.1 and residual.std() > 0.01


@pytest.mark.parametrize(("encoder", "decoder"), [((2, 2), (2, 2)), ((1, 3), (4, 1)), ((0, 1), (1, 0))])
def test_the_context_is_all_that_a_network_sees_and_no_more(encoder: tuple[int, int], decoder: tuple[int, int]) -> None:
    config = ResidualCodecConfig(4, (8, 8), encoder, decoder)
    codec, context = lively(ResidualCodec(config)).double(), config.context
    size = 2 * context + 3
    image = torch.rand(1, 3, 8 * size, 8 * size, dtype=torch.float64, requires_grad=True)
    change = torch.randn(1, 4, size, size, dtype=torch.float64, requires_grad=True)
    codec.encode(image)[..., context + 1, context + 1].sum().backward()
    seen = image.grad[0].abs().sum((0, 1)).nonzero() // 8
    middle = slice(8 * (context + 1), 8 * (context + 2))
    image.grad = None
    codec.decode(change, image)[..., middle, middle].sum().backward()
    decoded = [change.grad[0].abs().sum((0, 1)).nonzero(), image.grad[0].abs().sum((0, 1)).nonzero() // 8]
    reach = max(int((context + 1 - places.min()).item()) for places in (seen, *decoded))
    assert reach == context


def test_a_source_repeats_its_border_and_keeps_its_depth() -> None:
    deep = photo(10, 12, np.uint16)
    cut = PixelSource(deep).cut(slice(-2, 14), slice(8, 20))
    assert cut.shape == (3, 16, 12)
    assert torch.equal(cut[:, 0, 0], torch.from_numpy(deep[0, 8] / np.float32(65535)))
    assert torch.equal(cut[:, -1, -1], torch.from_numpy(deep[-1, -1] / np.float32(65535)))

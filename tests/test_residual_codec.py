"""r-space: its three properties, on random networks."""

import time

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from deblur_cli.networks.residual_codec import ResidualCodec, ResidualCodecConfig
from deblur_cli.system.typed_tables import read_table

# The autoencoder of SD3 by its published configuration.
SD3_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


def build(**changes: object) -> ResidualCodec:
    """A small codec whose every layer does something, as if it were trained."""
    torch.manual_seed(0)
    codec = ResidualCodec(ResidualCodecConfig(**{"channels": 4, "widths": (8, 16), **changes}))  # type: ignore[arg-type]
    for parameter in codec.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return codec.eval()


def count_macs(codec: torch.nn.Module, image: Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        run(codec, image)
    return counter.get_total_flops() / 2


@torch.inference_mode()
def run(codec: torch.nn.Module, image: Tensor) -> None:
    """Encode and decode once."""
    if isinstance(codec, ResidualCodec):
        codec.decode(codec.encode(image), image)
    else:
        codec.decode(codec.encode(image).latent_dist.mode())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_difference_of_zero_decodes_to_zero_whatever_the_source(dtype: torch.dtype) -> None:
    codec = build().to(dtype)
    source = torch.rand(2, 3, 40, 24, dtype=dtype)
    residual = codec.decode(torch.zeros(2, 4, 5, 3, dtype=dtype), source)
    assert torch.equal(source + residual, source)
    assert torch.count_nonzero(residual) == 0


def test_the_decoder_has_no_bias_on_the_way_of_the_residual() -> None:
    names = [name for name, _ in build().decoder.named_parameters() if name.endswith("bias")]
    assert all(name.startswith(("guide_", "gate_")) for name in names)
    assert names


def test_the_source_gates_what_a_difference_becomes() -> None:
    codec = build()
    difference = torch.randn(1, 4, 4, 4)
    dark, bright = (
        codec.decode(difference, torch.zeros(1, 3, 32, 32)),
        codec.decode(difference, torch.ones(1, 3, 32, 32)),
    )
    assert not torch.allclose(dark, bright)


def test_a_photo_that_is_its_own_source_comes_back_to_the_bit() -> None:
    sharp = torch.rand(1, 3, 32, 48)
    restored, latents = build()(sharp, sharp)
    assert torch.equal(restored, sharp)
    assert latents.shape == (1, 4, 4, 6)


def test_latents_shift_with_the_photo() -> None:
    codec = build()
    photo = torch.rand(1, 3, 256, 256)
    moved = codec.encode(photo.roll((16, 24), (2, 3)))
    inner = (..., slice(12, -12), slice(12, -12))
    assert torch.allclose(codec.encode(photo).roll((2, 3), (2, 3))[inner], moved[inner], atol=1e-5)


def test_the_config_survives_json() -> None:
    config = ResidualCodecConfig(channels=32, widths=(48, 96))
    assert read_table(ResidualCodecConfig, {"channels": 32, "widths": [48, 96]}) == config
    with pytest.raises(ValueError, match="unknown key 'chanels'"):
        read_table(ResidualCodecConfig, {"chanels": 32})


def test_encoding_and_decoding_need_forty_times_fewer_operations_than_the_autoencoder_of_sd3() -> None:
    with torch.device("meta"):
        ours, theirs, photo = ResidualCodec(ResidualCodecConfig()), AutoencoderKL(**SD3_VAE), torch.rand(1, 3, 512, 512)
    few, many = count_macs(ours, photo), count_macs(theirs, photo)
    gmac = [count / 1e9 for count in (few, many)]
    print(f"\nencode and decode 512x512: {gmac[0]:.1f} GMAC, SD3 {gmac[1]:.0f}: {many / few:.0f} times")
    assert few * 40 <= many


@pytest.mark.slow
def test_encoding_and_decoding_are_fifteen_times_quicker_than_the_autoencoder_of_sd3() -> None:
    photo = torch.rand(1, 3, 512, 512)
    seconds = []
    for codec in (ResidualCodec(ResidualCodecConfig()), AutoencoderKL(**SD3_VAE)):
        run(codec.eval(), photo)
        started = time.perf_counter()
        run(codec, photo)
        seconds.append(time.perf_counter() - started)
    print(f"\nencode and decode 512x512, float32: {seconds[0]:.3f} s, the autoencoder of SD3 {seconds[1]:.1f} s")
    assert seconds[0] * 15 <= seconds[1]

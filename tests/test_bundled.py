"""The weights that ship with the tool keep what the model card promises, on the example photos."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deblur_cli.backends import load_model
from deblur_cli.checkpoint import load_strict, read_metadata
from deblur_cli.commands.options import DEFAULT_MODEL
from deblur_cli.image_io import read_photo
from deblur_cli.metrics import Sample
from deblur_cli.metrics.detail import detail
from deblur_cli.networks.residual_codec import ResidualCodec, ResidualCodecConfig
from deblur_cli.restoration.pipeline import restore_image
from deblur_cli.system.typed_tables import read_table
from deblur_cli.weights import fetch, find_model

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = ("astronaut", "chelsea", "coffee")


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    error = np.square(first.astype(float) - second.astype(float)).mean()
    return float(10 * np.log10(np.iinfo(first.dtype).max ** 2 / max(error, 1e-9)))


def photo(kind: str, name: str) -> np.ndarray:
    return read_photo(EXAMPLES / kind / f"{name}.jpg").pixels


def sixteen_bit(pixels: np.ndarray) -> np.ndarray:
    """The same photo in 16 bit, so that rounding to 8 bit does not hide a difference."""
    return pixels.astype(np.uint16) * 257


def test_the_expert_is_no_larger_than_26_megabytes() -> None:
    assert find_model("bundled-expert").files["expert"].bytes <= 26_000_000


@pytest.mark.parametrize("name", NAMES)
def test_a_blurred_photo_gets_closer_to_its_sharp_original(name: str) -> None:
    blurry, sharp = photo("blurry", name), photo("sharp", name)
    restored = restore_image(blurry, load_model("bundled-expert", device="cpu"))
    assert psnr(restored, sharp) > psnr(blurry, sharp) + 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_sharp_photo_comes_back_as_it_was(name: str) -> None:
    sharp = photo("sharp", name)
    assert psnr(restore_image(sharp, load_model("bundled-expert", device="cpu")), sharp) >= 40


def test_float32_and_bfloat16_agree() -> None:
    blurry = sixteen_bit(photo("blurry", "coffee"))
    exact, quick = (
        restore_image(blurry, load_model("bundled-expert", device="cpu", dtype=dtype))
        for dtype in ("float32", "bfloat16")
    )
    assert psnr(exact, quick) >= 50


def test_the_tile_size_hardly_matters() -> None:
    pixels = photo("blurry", "astronaut")
    blurry = sixteen_bit(np.concatenate((pixels, pixels[:, ::-1]), 1))
    backend = load_model("bundled-expert", device="cpu")
    whole = restore_image(blurry, backend, tile=1024)
    assert len({whole.shape, blurry.shape}) == 1
    for tile in (backend.tiling.smallest, 512):
        assert psnr(restore_image(blurry, backend, tile=tile), whole) >= 50


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_the_default_takes_the_blur_away(name: str) -> None:
    """The middle of an example, in two of its windows that overlap."""
    blurry, sharp = (photo(kind, name)[60:316, 20:420] for kind in ("blurry", "sharp"))
    restored = restore_image(blurry, load_model(DEFAULT_MODEL, device="cpu"))
    assert psnr(restored, sharp) > psnr(blurry, sharp) + 1


def test_the_default_leaves_a_sharp_photo_and_its_formats_agree() -> None:
    sharp = sixteen_bit(photo("sharp", "chelsea")[20:276, 60:316])
    exact, quick = (
        restore_image(sharp, load_model(DEFAULT_MODEL, device="cpu", dtype=dtype)) for dtype in ("float32", "bfloat16")
    )
    assert psnr(exact, sharp) >= 40
    assert psnr(exact, quick) >= 55


def test_deconvolutions_take_blur_away_and_leave_a_sharp_photo() -> None:
    shake, expert = (load_model(model, device="cpu") for model in ("shake", "standard-alone"))
    for name in ("astronaut", "coffee"):
        blurry, sharp = (photo(kind, name)[60:316, 20:276] for kind in ("blurry", "sharp"))
        assert psnr(restore_image(blurry, shake), sharp) > psnr(blurry, sharp) + 1
    sharp = photo("sharp", "chelsea")[20:276, 60:316]
    kept = psnr(restore_image(sharp, shake), sharp)
    assert kept >= 42
    assert kept > psnr(restore_image(sharp, expert), sharp)


def test_strength_0_is_the_experts_picture_to_the_bit() -> None:
    blurry = photo("blurry", "coffee")
    expert = restore_image(blurry, load_model("bundled-expert", device="cpu"))
    assert np.array_equal(restore_image(blurry, load_model("bundled:strength=0", device="cpu")), expert)


def test_the_flow_adds_detail_and_hardly_costs_fidelity() -> None:
    expert, dual = (load_model(model, device="cpu") for model in ("bundled-expert", "bundled"))
    losses, kept = [], []
    for name in NAMES:
        blurry, sharp = photo("blurry", name), photo("sharp", name)
        estimate, restored = restore_image(blurry, expert), restore_image(blurry, dual)
        losses.append(psnr(estimate, sharp) - psnr(restored, sharp))
        assert detail(Sample(restored, blurry, sharp)) < detail(Sample(estimate, blurry, sharp))
        kept.append(psnr(restore_image(sharp, dual), sharp))
    assert np.mean(losses) <= 0.64  # dB, what the paper's loses
    assert np.mean(kept) >= 40


@pytest.mark.parametrize("name", NAMES)
def test_detail_comes_back_through_r_space(name: str) -> None:
    path = fetch(find_model("bundled").files["codec"]).path
    codec = ResidualCodec(read_table(ResidualCodecConfig, read_metadata(path)["config"]))
    load_strict(codec, path)
    sharp, source = (
        torch.from_numpy(photo(kind, name)[:296, :448]).permute(2, 0, 1)[None] / 255 for kind in ("sharp", "blurry")
    )
    with torch.inference_mode():
        restored, latents = codec(sharp, source)
        nothing = codec.decode(torch.zeros_like(latents), source)
    errors = [float((image - sharp).square().mean()) for image in (restored, source)]
    assert 10 * np.log10(errors[1] / errors[0]) > 5  # dB
    assert torch.count_nonzero(nothing) == 0
    assert 0.5 < float(latents.std()) < 2

"""The weights that ship with the tool keep what the model card promises, on the example photos."""

from pathlib import Path

import numpy as np
import pytest

from deblur_cli.backends import load_model
from deblur_cli.image_io import read_photo
from deblur_cli.pipeline import restore_image
from deblur_cli.weights import find_model

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
    for tile in (256, 320, 512):
        assert psnr(restore_image(blurry, backend, tile=tile), whole) >= 50

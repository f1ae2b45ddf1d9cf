"""Make the example photos again: sharp ones from scikit-image, blurred by the project's own synthesis.

Run from a checkout with the development extras installed: python examples/make_examples.py
"""

from pathlib import Path

import torch
from PIL import Image
from skimage import data

from deblur_cli.training.blur_synthesis import Dice, blur_by_shake

HERE = Path(__file__).parent
PHOTOS = {"astronaut": (data.astronaut, 9.0, 3), "coffee": (data.coffee, 12.0, 5), "chelsea": (data.chelsea, 10.0, 9)}
GAMMA = 2.2


def main() -> None:
    """Write examples/sharp and examples/blurry."""
    for folder in ("sharp", "blurry"):
        (HERE / folder).mkdir(exist_ok=True)
    for name, (load, length, seed) in PHOTOS.items():
        sharp = torch.from_numpy(load()).permute(2, 0, 1)[None].float() / 255
        border = 16  # the convolution wraps around
        padded = torch.nn.functional.pad(sharp, (border,) * 4, mode="reflect")
        light = blur_by_shake(padded**GAMMA, length, Dice(torch.Generator().manual_seed(seed)))
        blurry = light.clamp(0, 1)[..., border:-border, border:-border] ** (1 / GAMMA)
        save(sharp, HERE / "sharp" / f"{name}.jpg")
        save(blurry, HERE / "blurry" / f"{name}.jpg")


def save(image: torch.Tensor, path: Path) -> None:
    """As a JPEG of high quality."""
    pixels = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(path, quality=95, subsampling=0)


if __name__ == "__main__":
    main()

"""A folder of made training pictures: a few photos, one high-speed sequence, a few pairs."""

from pathlib import Path

import numpy as np
from PIL import Image


def texture(seed: int, side: int = 300) -> Image.Image:
    """A picture of soft coloured patches."""
    coarse = np.random.default_rng(seed).integers(0, 255, (side // 6, side // 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def write_pictures(root: Path) -> Path:
    """`photos/`, `frames/a/` and `pairs/s/{blur,sharp}/` below `root`, which is returned."""
    for folder in ("photos", "frames/a", "pairs/s/blur", "pairs/s/sharp"):
        (root / folder).mkdir(parents=True)
    for index in range(5):
        texture(index).save(root / f"photos/{index}.png")
    for index in range(9):
        texture(20, 120).save(root / f"frames/a/{index}.png")
    for kind in ("blur", "sharp"):
        for index in range(3):
            texture(30 + index, 128).save(root / f"pairs/s/{kind}/{index}.png")
    return root

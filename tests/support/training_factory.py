"""What a training of seconds needs: a few made pictures, and a recipe that suits them."""

from pathlib import Path

import numpy as np
from PIL import Image

_PICTURES = """
[data]
pool = 16
max_frames = 7
held_out_pairs = 1
held_out_photos = 4
soft_share = 0.0
[synthesis]
max_length = 8.0
"""


def write_recipe(path: Path, tables: str = "", **schedule: float | str) -> Path:
    """A recipe of these tables for the pictures of `write_pictures`; by itself it takes two steps.

    Args:
        schedule: replaces or adds values of its schedule; `steps=0` leaves it to the minutes.
    """
    chosen = {"steps": 2, "batch": 2, "patch": 32, "optimizer": "adamw", "validate_minutes": 5, "save_minutes": 5}
    rows = [f"{name} = {value!r}" for name, value in {**chosen, **schedule}.items()]
    path.write_text("\n".join([tables, _PICTURES, "[schedule]", *rows]))
    return path


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

"""A contact sheet of training pairs, to be looked at before hours are spent on them."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from deblur_cli.training.folder import read_training_data
from deblur_cli.training.recipe import Recipe
from deblur_cli.training.sources import Generators

_SIDE, _PER_ROW = 224, 4


def draw_sheet(recipe: Recipe, data: Path, count: int, seed: int) -> Image.Image:
    """`count` pairs of every source, four to a row, sharp left and blurred right.

    Raises:
        InputError: the folder is missing or holds no training pictures.
    """
    training = read_training_data(data, recipe.data)
    generators = Generators.seeded(seed, torch.device("cpu"))
    rows: list[Tensor] = []
    for _, source in training.sources(recipe.data, recipe.synthesis, generators):
        for start in range(0, count, _PER_ROW):
            blurry, sharp = source.draw(_PER_ROW, _SIDE)
            shown = min(_PER_ROW, count - start)
            pairs = torch.cat((sharp, blurry), 3)  # (4, 3, side, 2 side)
            pairs[shown:] = 1.0
            rows.append(torch.cat(list(pairs), 2))
    sheet = torch.cat(rows, 1).permute(1, 2, 0)  # (H, W, 3)
    return Image.fromarray((sheet * 255).round().clamp(0, 255).byte().numpy())

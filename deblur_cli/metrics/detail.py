"""Statistics of local detail: is there as much fine structure as in the truth, and in the right places?

Pointwise errors reward blur: a smooth picture is closer to the truth than a sharp one that is slightly off.
These look at the *amount* of gradient energy in 16x16 blocks and ignore where inside the block it lies.
"""

import math

import torch
from torch import Tensor

from deblur_cli.metrics.sample import Sample, blurry_luma, restored_luma, sharp_luma

_BLOCK = 16
FLOOR = (1 / 255) ** 2  # one grey level per pixel: below that a block is flat and its ratio means nothing


def detail(sample: Sample) -> float:
    """Mean absolute log-ratio of gradient energy, restored to sharp, over 16x16 blocks; 0 is equal detail.

    A block with e times (2.7 times) too much or too little energy counts 1.
    """
    restored, sharp = sample.once(_restored_energy) + FLOOR, sample.once(_sharp_energy) + FLOOR
    return float((restored / sharp).log().abs().mean())


def detail_correlation(sample: Sample) -> float | None:
    """Pearson correlation, over the blocks, of the energy that was added with the energy that was missing.

    Both count from the blurry photo. 1: detail was added just where it was missing; about 0: it was sprinkled
    like noise. `None` when nothing was added or nothing was missing.
    """
    if sample.blurry is sample.restored:
        return None
    before = block_energy(blurry_luma(sample))
    return correlation(sample.once(_restored_energy) - before, sample.once(_sharp_energy) - before)


def block_energy(luma: Tensor) -> Tensor:
    """Mean squared forward difference in both directions, per whole 16x16 block: (H', W') from (H, W).

    Raises:
        ValueError: the photo is smaller than one block.
    """
    core = luma[:-1, :-1]
    energy = (luma[1:, :-1] - core) ** 2 + (luma[:-1, 1:] - core) ** 2
    height, width = (side // _BLOCK * _BLOCK for side in energy.shape)
    if not height or not width:
        raise ValueError(f"detail needs at least {_BLOCK + 1} pixels a side")
    blocks = energy[:height, :width].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    return blocks.mean(dim=(1, 3))


def correlation(first: Tensor, second: Tensor) -> float | None:
    """Pearson correlation of two tensors of one shape, `None` where one of them is constant."""
    first, second = (values.flatten().cpu().double() for values in (first, second))
    first, second = first - first.mean(), second - second.mean()
    spread = math.sqrt(float(first @ first) * float(second @ second))
    return None if spread < torch.finfo(torch.float32).tiny else float(first @ second) / spread


def _restored_energy(sample: Sample) -> Tensor:
    return block_energy(sample.once(restored_luma))


def _sharp_energy(sample: Sample) -> Tensor:
    return block_energy(sharp_luma(sample))

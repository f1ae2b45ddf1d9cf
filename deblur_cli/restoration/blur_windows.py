"""What each window of a photo is read as by itself: sharp, moved or out of focus. Knows no files but its own."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from deblur_cli.restoration.blur_reader import describe_windows, read_blur
from deblur_cli.restoration.blur_spectrum import SIDE, polar_spectra, ring_frequencies

LEAST_SIDE = 32  # pixels of a photo that can be judged at all
_COEFFICIENTS = Path(__file__).with_name("blur_reader.safetensors")
_FAINT = 2.0 / 255  # standard deviation of detail below which a window is empty
_AT_ONCE = 64  # windows


@dataclass(frozen=True, slots=True, eq=False)
class BlurMap:
    """What was read at each window of a photo.

    Attributes:
        tops, lefts: (rows,) and (columns,), first pixels of the windows.
        side: their height and width at most.
        kinds: (rows, columns, 3), how likely sharp, moved and out of focus; sums to 1.
        detail: (rows, columns), whether there is enough detail to say.
    """

    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    side: int
    kinds: Tensor
    detail: Tensor


def read_map(luma: Tensor) -> tuple[BlurMap, Tensor]:
    """What each window is read as by itself, and its power, (n, RINGS, ANGLES)."""
    height, width = luma.shape
    tops, lefts = (start_places(length, luma.numel()) for length in luma.shape)
    power = torch.cat([polar_spectra(some) for some in cut_windows(luma, tops, lefts)])
    detail = has_detail(power) & (min(height, width) >= LEAST_SIDE)
    shape = (len(tops), len(lefts))
    return BlurMap(tops, lefts, SIDE, read_each(power).view(*shape, 3), detail.view(shape)), power


def start_places(length: int, pixels: int) -> tuple[int, ...]:
    """Windows lie the closer the smaller the photo is."""
    stride = SIDE if pixels > 5_000_000 else SIDE // 2 if pixels > 700_000 else SIDE // 4
    if length <= SIDE:
        return (0,)
    count = math.ceil((length - SIDE) / stride)
    return tuple(round(index * (length - SIDE) / count) for index in range(count + 1))


def cut_windows(luma: Tensor, tops: tuple[int, ...], lefts: tuple[int, ...]) -> Iterator[Tensor]:
    """Some windows at a time, (n, h, w), row by row."""
    places = [(top, left) for top in tops for left in lefts]
    for first in range(0, len(places), _AT_ONCE):
        yield torch.stack([luma[t : t + SIDE, x : x + SIDE] for t, x in places[first : first + _AT_ONCE]])


def has_detail(power: Tensor) -> Tensor:
    """(n,): whether there is more in a window than a slope and noise, which is as strong in every ring."""
    rings = power.mean(2)  # (n, RINGS)
    floor = rings[:, :3].mean(1, keepdim=True)
    area = ring_frequencies().square() * (2 ** (1 / 6) - 2 ** (-1 / 6)) * math.pi  # of a ring, Nyquist being 0.5
    signal = ((rings - floor).clamp_min(0) * area)[:, :-4].sum(1)
    return signal.sqrt() > _FAINT


def read_each(power: Tensor) -> Tensor:
    """(n, 3): how likely each window is sharp, moved and out of focus."""
    logits = [
        read_blur(torch.stack([describe_windows(one[None]) for one in some]), load_coefficients()).kinds
        for some in torch.split(power, _AT_ONCE)
    ]
    return torch.cat(logits).softmax(1)


@lru_cache(maxsize=1)
def load_coefficients() -> Mapping[str, Tensor]:
    """Those of `read_blur` that ship with the package, float32; read once."""
    return {name: value.float() for name, value in load_file(_COEFFICIENTS).items()}

"""A small network that reads a blur off polar spectra: its kind, direction and length. Pure functions of tensors.

Convolutions wrap around in direction, so that what is learned of one holds for all. `docs/measure/fit_blur_reader.py`
made the coefficients.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli.restoration.blur_spectrum import ANGLES, RINGS

KINDS = ("sharp", "motion", "defocus")
_SHAPES = {  # name -> outputs, inputs and size of its kernel
    "ring_1": (8, 3, 3, 3),
    "ring_2": (16, 8, 3, 3),
    "ring_3": (24, 16, 3, 3),
    "ring_4": (24, 24, 3, 3),
    "turn_1": (40, 24 * 9, 3),
    "turn_2": (40, 40, 3),
    "direction": (1, 40, 1),
    "whole_1": (64, 80),
    "whole_2": (6, 64),
}
_STRIDES = {"ring_2": (2, 1), "ring_3": (2, 1)}


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read off n spectra.

    Attributes:
        kinds: (n, 3), logits of `KINDS`.
        lengths: (n,), natural logarithm of the length in pixels of a motion or of the diameter out of focus.
        directions: (n, ANGLES), logits of the direction of the motion.
        spreads: (n,), as `lengths`, of the even straight motion with the same spread along its axis.
        doubts: (n,), natural logarithm of the mean absolute error that is to be expected of `spreads`.
    """

    kinds: Tensor
    lengths: Tensor
    directions: Tensor
    spreads: Tensor
    doubts: Tensor


def read_blur(spectra: Tensor, coefficients: Mapping[str, Tensor]) -> Reading:
    """Read the blur of each spectrum.

    Args:
        spectra: (n, 2, RINGS, ANGLES), as `describe_windows`.
        coefficients: `NAME.weight` and `NAME.bias` of every layer.
    """

    def layer(name: str) -> tuple[Tensor, Tensor]:
        return coefficients[f"{name}.weight"], coefficients[f"{name}.bias"]

    ladder = torch.linspace(-1, 1, RINGS)[None, None, :, None].expand(len(spectra), 1, RINGS, ANGLES)
    x = torch.cat((spectra, ladder), 1)
    for name in ("ring_1", "ring_2", "ring_3", "ring_4"):
        x = functional.pad(functional.pad(x, (1, 1, 0, 0), mode="circular"), (0, 0, 1, 1))
        x = functional.silu(functional.conv2d(x, *layer(name), stride=_STRIDES.get(name, 1)))
    x = x.flatten(1, 2)  # (n, 24 * 9, ANGLES)
    for name in ("turn_1", "turn_2"):
        x = functional.silu(functional.conv1d(functional.pad(x, (1, 1), mode="circular"), *layer(name)))
    directions = functional.conv1d(x, *layer("direction"))[:, 0]
    x = torch.cat((x.mean(2), x.amax(2)), 1)
    x = functional.linear(functional.silu(functional.linear(x, *layer("whole_1"))), *layer("whole_2"))
    return Reading(x[:, :3], x[:, 3], directions, x[:, 4], x[:, 5])


def draw_coefficients(generator: torch.Generator) -> dict[str, Tensor]:
    """Untrained ones, to begin a fit with."""
    drawn: dict[str, Tensor] = {}
    for name, shape in _SHAPES.items():
        fan = torch.Size(shape[1:]).numel()
        drawn[f"{name}.weight"] = torch.randn(shape, generator=generator) * (1.6 / fan) ** 0.5
        drawn[f"{name}.bias"] = torch.zeros(shape[0])
    return drawn


def describe_windows(power: Tensor) -> Tensor:
    """One description of windows that share a blur.

    Args:
        power: (n, RINGS, ANGLES), as `polar_spectra`.
    Returns:
        (2, RINGS, ANGLES): logarithms of the geometric and of the arithmetic mean of the windows, each brought to the
        same strength, against the fall of a sharp photo.
    """
    logs = (power + 1e-9).log()
    level = logs.mean((1, 2), keepdim=True)
    fall = torch.linspace(-1, 1, RINGS)[:, None] * FALL
    geometric = (logs - level).mean(0) - fall
    arithmetic = (logs - level).exp().mean(0).log() - fall
    return torch.stack((geometric, arithmetic - arithmetic.mean())) / SPREAD


FALL = 4.0  # half of what the logarithm of a sharp photo's power rises from the finest to the coarsest ring
SPREAD = 2.0

"""The straight path from a source to its target: points on it, its velocity, and the way along a learned field.

Pure; knows no network and no latents. Time runs from t = 0 at the source to t = 1 at the target (sharp); the noise
level sigma of other texts is 1 - t.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

Field = Callable[[Tensor, float], Tensor]  # (x_t, t) -> velocity, shaped as x_t


def interpolate(x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
    """Points on the straight paths, `(1 - t) x_0 + t x_1`; exact at both ends.

    Args:
        x_0: sources, (B, ...).
        x_1: targets, same shape.
        t: (B,), 0 to 1.
    Raises:
        ValueError: the shapes do not belong together.
    Source: Liu et al. 2022, "Flow Straight and Fast", eq. 1.
    """
    _check_shapes(x_0, x_1)
    if t.shape != x_0.shape[:1]:
        raise ValueError(f"one time per path: expected {tuple(x_0.shape[:1])}, got {tuple(t.shape)}")
    t = t.reshape(-1, *[1] * (x_0.ndim - 1))  # (B, 1, ...)
    return (1 - t) * x_0 + t * x_1


def velocity_target(x_0: Tensor, x_1: Tensor) -> Tensor:
    """Velocity of the straight path, constant in time: `x_0 + velocity_target(x_0, x_1)` is x_1.

    Args:
        x_0: sources, (B, ...), start noise included.
        x_1: targets, same shape.
    Raises:
        ValueError: the shapes differ.
    Source: Liu et al. 2022, "Flow Straight and Fast", eq. 1.
    """
    _check_shapes(x_0, x_1)
    return x_1 - x_0


def draw_times(count: int, generator: torch.Generator) -> Tensor:
    """(count,) times in [0, 1) on the generator's device: one in each of `count` equal strata, in random order.

    Every time is uniform by itself, and a batch covers the path evenly, which makes its loss less noisy.

    Raises:
        ValueError: count < 1.
    Source: the training of PMRF (Ohayon et al. 2024, "Posterior-Mean Rectified Flow").
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    strata = torch.randperm(count, generator=generator, device=generator.device)
    places = torch.rand(count, generator=generator, device=generator.device)
    return ((strata + places) / count).clamp(max=1 - 2**-24)  # the sum may round up to the next stratum


def start(source: Tensor, noise: Tensor, level: float) -> Tensor:
    """The noisy source from which the path begins, `source + level * noise`.

    Without noise the source gives away which point of the path is which target, and every number of steps ends at
    the mean of the targets; with it, more steps resolve one of them.

    Args:
        source: clean source, (B, ...).
        noise: standard normal, same shape.
        level: standard deviation of the noise, in units of the source.
    Raises:
        ValueError: the shapes differ, or level is negative or not finite.
    """
    _check_shapes(source, noise)
    if not 0 <= level < math.inf:
        raise ValueError(f"the noise level must be 0 or more, not {level}")
    return source + level * noise


def renoise(x_1: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """A point of the path from pure noise to `x_1`: `(1 - sigma) x_1 + sigma * noise`, which lies at t = 1 - sigma.

    How a generic flow model is put on top of a finished estimate; go on with `begin=1 - sigma`.

    Args:
        x_1: finished picture, (B, ...).
        noise: standard normal, same shape.
        sigma: 0 (the picture) to 1 (pure noise).
    Raises:
        ValueError: the shapes differ, or sigma is outside of [0, 1].
    Source: Meng et al. 2021, "SDEdit", on the straight path.
    """
    _check_shapes(x_1, noise)
    if not 0 <= sigma <= 1:
        raise ValueError(f"sigma must lie between 0 and 1, not {sigma}")
    return (1 - sigma) * x_1 + sigma * noise


def timesteps(steps: int, begin: float = 0.0) -> tuple[float, ...]:
    """`steps + 1` evenly spaced times from exactly `begin` to exactly 1.

    Raises:
        ValueError: steps < 1, or begin is outside of [0, 1).
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    if not 0 <= begin < 1:
        raise ValueError(f"begin must be at least 0 and less than 1, not {begin}")
    return (begin, *(begin + (1 - begin) * step / steps for step in range(1, steps)), 1.0)


def sample_euler(field: Field, x_0: Tensor, steps: int, begin: float = 0.0) -> Tensor:
    """Follow the field from `begin` to t = 1 in Euler steps; its error falls as 1 / steps.

    Args:
        field: called once a step, never at t = 1.
        x_0: where the path is at `begin`, (B, ...).
    Returns:
        The point at t = 1, shaped as x_0.
    Raises:
        ValueError: see `timesteps`.
    """
    x_t = x_0
    for t, t_next in pairwise(timesteps(steps, begin)):
        x_t = x_t + (t_next - t) * field(x_t, t)
    return x_t


def _check_shapes(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape:
        raise ValueError(f"shapes differ: {tuple(first.shape)} and {tuple(second.shape)}")

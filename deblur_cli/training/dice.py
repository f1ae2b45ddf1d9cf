"""Random draws of the synthesis, all from one generator. Knows no pictures."""

import math

import torch
from torch import Tensor


class Dice:
    """Draws from one generator, on its device; every draw of the synthesis goes through here."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self.device = generator.device

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform in [low, high)."""
        return torch.rand(shape, generator=self._generator, device=self.device) * (high - low) + low

    def log_uniform(self, *shape: int, low: float, high: float) -> Tensor:
        """Every factor between `low` and `high` as likely as its neighbours."""
        return self.uniform(*shape, low=math.log(low), high=math.log(high)).exp()

    def normal(self, *shape: int) -> Tensor:
        """Standard normal."""
        return torch.randn(shape, generator=self._generator, device=self.device)

    def chance(self, count: int, probability: float) -> Tensor:
        """(count, 1, 1, 1) of 0.0 and 1.0."""
        return (self.uniform(count, 1, 1, 1) < probability).float()

    def number(self, low: float, high: float) -> float:
        """One plain number, uniform in [low, high)."""
        return float(self.uniform(1, low=low, high=high))

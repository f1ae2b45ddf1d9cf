"""How a flow is run on top of an expert: plain values and their ranges. Knows no network and no manifest."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MOST_STEPS = 1000


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """How the second stage of a dual expert works.

    Attributes:
        steps: Euler steps from the expert's estimate to the end of the path, 1 to 1000.
        strength: how much of the flow's residual is added, 0 (the estimate itself) to 1.
        start_noise: standard deviation of the noise that the path starts with, 0 to 1; latents have about 1.
        generic_noise: None for an adapted flow. For a base without adapter, the noise level above 0, up to 1, from
            which it makes a new picture of the estimate: the baseline that residual flows are measured against.
        keep_low: low frequencies come from the estimate.
        guard: blocks with invented colours, or without finite values, come from the estimate.
    """

    steps: int = 4
    strength: float = 1.0
    start_noise: float = 0.0
    generic_noise: float | None = None
    keep_low: bool = True
    guard: bool = True

    def __post_init__(self) -> None:
        _require(_is_whole(self.steps) and 1 <= self.steps <= MOST_STEPS, f"steps must be 1 to {MOST_STEPS}, whole")
        _require(_is_number(self.strength) and 0 <= self.strength <= 1, "strength must be a number from 0 to 1")
        _require(_is_number(self.start_noise) and 0 <= self.start_noise <= 1, "start_noise must be from 0 to 1")
        is_level = self.generic_noise is None or (_is_number(self.generic_noise) and 0 < self.generic_noise <= 1)
        _require(is_level, "generic_noise must be above 0, up to 1")
        for name in ("keep_low", "guard"):
            _require(isinstance(getattr(self, name), bool), f"{name} must be true or false")

    @classmethod
    def from_table(cls, values: Mapping[str, Any]) -> "FlowSettings":
        """The settings of a table, defaults for what is absent.

        Raises:
            ValueError: an unknown key, or a value that is none.
        """
        known = asdict(cls())
        unknown = sorted(set(values) - set(known))
        _require(not unknown, f"has no {', '.join(unknown)}; known are {', '.join(known)}")
        return cls(**values)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _require(condition: bool, fault: str) -> None:
    if not condition:
        raise ValueError(fault)

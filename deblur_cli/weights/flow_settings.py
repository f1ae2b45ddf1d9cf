"""How a flow is run on top of an expert: plain values and their ranges. Knows no network and no manifest."""

from dataclasses import dataclass

from deblur_cli.system.typed_tables import require

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
        require(1 <= self.steps <= MOST_STEPS, f"steps must be 1 to {MOST_STEPS}, whole")
        require(0 <= self.strength <= 1, "strength must be a number from 0 to 1")
        require(0 <= self.start_noise <= 1, "start_noise must be from 0 to 1")
        require(self.generic_noise is None or 0 < self.generic_noise <= 1, "generic_noise must be above 0, up to 1")

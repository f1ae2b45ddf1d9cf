"""What the two halves of `deblur run` hand each other."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deblur_cli.batch.plan import Plan
    from deblur_cli.batch.stamp import Stamp
    from deblur_cli.weights.model_spec import ResolvedModel


@dataclass(frozen=True, slots=True)
class Network:
    """What restores the photos, and where."""

    model: "ResolvedModel"
    device: str
    dtype: str
    tile: int | None
    seed: int


@dataclass(frozen=True, slots=True)
class Manner:
    """How the run behaves towards whoever watches it."""

    as_object: bool
    as_lines: bool
    quiet: bool
    verbose: bool
    fail_fast: bool


@dataclass(frozen=True, slots=True)
class RunTask:
    """Everything that `deblur run` knows once the plan is made."""

    plan: "Plan"
    recipe: "Stamp"
    network: Network
    quality: int | None
    overwrite: bool
    manner: Manner

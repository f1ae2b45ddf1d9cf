"""What `--model` says: a name, and how the model of that name is to run. Loads nothing."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from deblur_cli.errors import InputError, WeightsError
from deblur_cli.weights.entries import ModelEntry
from deblur_cli.weights.flow_settings import MOST_STEPS, FlowSettings

_DUAL = "dual_expert"

# What the user may set, by backend, with what holds where neither the user nor the manifest says anything.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    _DUAL: {"steps": FlowSettings().steps, "strength": FlowSettings().strength},
    "deblurdiff": {"steps": 50},
}
# What a manifest may set besides.
_FURTHER: Mapping[str, frozenset[str]] = {_DUAL: frozenset(asdict(FlowSettings()))}

_STEPS = re.compile(r"[0-9]{1,4}")
_STRENGTH = re.compile(r"[0-9]*\.?[0-9]+([eE]-?[0-9]{1,2})?")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model's name and what the user wants of it; None leaves the choice to the manifest."""

    name: str
    steps: int | None = None
    strength: float | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and not 1 <= self.steps <= MOST_STEPS:
            raise InputError(f"--model {self.name}: steps {self.steps}: must be from 1 to {MOST_STEPS}")
        if self.strength is not None and not 0 <= self.strength <= 1:
            raise InputError(f"--model {self.name}: strength {self.strength}: must be from 0 to 1")

    @classmethod
    def parse(cls, text: str) -> "ModelSpec":
        """`NAME`, or `NAME:steps=8,strength=0.5` with either or both.

        Raises:
            InputError: the text has another form, or a number is out of its range.
        """
        name, colon, rest = text.partition(":")
        words = [part.partition("=")[::2] for part in rest.split(",")] if colon else []
        values = dict(words)
        if not name or len(values) < len(words) or set(values) - {"steps", "strength"}:
            raise _form_fault(text)
        return cls(name, _read_steps(values, text), _read_strength(values, text))

    def __str__(self) -> str:
        parts = [f"steps={self.steps}"] if self.steps is not None else []
        parts += [f"strength={repr(self.strength).removesuffix('.0')}"] if self.strength is not None else []
        return f"{self.name}:{','.join(parts)}" if parts else self.name

    def outdone_by(self, steps: int | None, strength: float | None) -> "ModelSpec":
        """The same model; what is given here counts instead."""
        given = {"steps": steps, "strength": strength}
        return replace(self, **{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]

    def resolve(self, entry: ModelEntry) -> dict[str, Any]:
        """Everything that changes how this entry runs: what the user wants, else the manifest, else the defaults.

        Returns:
            Empty for an expert alone.
        Raises:
            InputError: the user wants what the entry does not take.
            WeightsError: the manifest sets what the entry's backend does not take.
        """
        defaults = _DEFAULTS.get(entry.backend, {})
        given = {key: value for key in ("steps", "strength") if (value := getattr(self, key)) is not None}
        for key in given:
            if key not in defaults:
                raise InputError(f"--model {self.name}: takes no {key}, {_explain(entry)}; leave it out")
        strange = sorted(set(entry.flow) - set(defaults) - _FURTHER.get(entry.backend, frozenset()))
        if strange:
            raise WeightsError(f"{entry.name}: its backend {entry.backend} takes no flow {', '.join(strange)}")
        return {**defaults, **entry.flow, **given}


def takes_expert(entry: ModelEntry) -> bool:
    """Whether another expert can take the place of the entry's own, because a flow follows it."""
    return entry.backend == _DUAL


def _explain(entry: ModelEntry) -> str:
    return "it is an expert alone, without a flow" if entry.backend not in _DEFAULTS else "only models with a flow do"


def _read_steps(values: Mapping[str, str], text: str) -> int | None:
    if "steps" not in values:
        return None
    if not _STEPS.fullmatch(values["steps"]):
        raise _form_fault(text)
    return int(values["steps"])


def _read_strength(values: Mapping[str, str], text: str) -> float | None:
    if "strength" not in values:
        return None
    if not _STRENGTH.fullmatch(values["strength"]):
        raise _form_fault(text)
    return float(values["strength"])


def _form_fault(text: str) -> InputError:
    return InputError(f"--model {text}: must be NAME or NAME:steps=8,strength=0.5, with either or both")

"""Which model, and how it is to run: as the user says it, and as it is stamped, loaded and sent to a worker.

Loads nothing and knows no torch; every value here can be pickled. A new knob of a model is a field of `ModelSpec`, read
from `ResolvedModel.spec` by what loads the model; one of a flow stands in `_FLOW_KNOBS` and `_DEFAULTS` too. What
changes the picture is among `ResolvedModel.settings`, which are stamped; the engine, like the device, is not.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from deblur_cli import weights
from deblur_cli.errors import InputError, WeightsError
from deblur_cli.system.files import hash_file
from deblur_cli.weights.entries import BLENDING, MOST_STEPS, FlowSettings, ModelEntry, WeightsFile

_DUAL = "dual_expert"

# What the user may set, by backend, with what holds where neither the user nor the manifest says anything.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    _DUAL: {"steps": FlowSettings().steps, "strength": FlowSettings().strength},
    "deblurdiff": {"steps": 50},
}
# What a manifest may set besides.
_FURTHER: Mapping[str, frozenset[str]] = {_DUAL: frozenset(asdict(FlowSettings()))}

# How these are written after the model's name, and their ranges.
_FLOW_KNOBS: Mapping[str, tuple[str, Callable[[str], Any], int, int]] = {
    "steps": (r"[0-9]{1,4}", int, 1, MOST_STEPS),
    "strength": (r"[0-9]*\.?[0-9]+([eE]-?[0-9]{1,2})?", float, 0, 1),
}

ENGINES = ("auto", "torch", "openvino")
_FORMS = {"engine": "|".join(ENGINES), **{key: form for key, (form, *_) in _FLOW_KNOBS.items()}}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model and what the user wants of it; None leaves the choice to the manifest.

    Attributes:
        name: of a model; empty where `expert` is to run alone.
        steps: of a model with a flow, 1 to 1000.
        strength: of a flow's residual, 0 to 1.
        expert: in the place of the model's own one, as `find_expert` takes it.
        engine: what is to run the networks, of `ENGINES`, with the same picture; None and "auto" take the quickest.
    """

    name: str = ""
    steps: int | None = None
    strength: float | None = None
    expert: str | None = None
    engine: str | None = None

    def __post_init__(self) -> None:
        for key, value in self._flow_knobs().items():
            if not self.name:
                alone = f"--expert {self.expert} alone has no flow"
                raise InputError(f"--{key} {value}: {alone}; add a --model that has one")
            *_, lowest, highest = _FLOW_KNOBS[key]
            if not lowest <= value <= highest:
                raise InputError(f"--model {self.name}: {key} {value}: must be from {lowest} to {highest}")

    @classmethod
    def parse(cls, text: str) -> "ModelSpec":
        """`NAME`, or `NAME:steps=8,strength=0.5` with either or both, and perhaps `engine=torch`.

        Raises:
            InputError: the text has another form, or a number is out of its range.
        """
        name, colon, rest = text.partition(":")
        words = [part.partition("=")[::2] for part in rest.split(",")] if colon else []
        is_sound = all(key in _FORMS and re.fullmatch(_FORMS[key], value) for key, value in words)
        if not name or not is_sound or len(dict(words)) < len(words):
            raise InputError(f"--model {text}: must be NAME or NAME:steps=8,strength=0.5, with either or both")
        kinds = {key: kind for key, (_, kind, *_) in _FLOW_KNOBS.items()}
        return cls(name, **{key: kinds.get(key, str)(value) for key, value in words})

    def __str__(self) -> str:
        if not self.name:
            return str(self.expert) if self.engine is None else f"{self.expert}:engine={self.engine}"
        parts = [f"{key}={repr(value).removesuffix('.0')}" for key, value in self._flow_knobs().items()]
        parts += [f"{key}={value}" for key in ("expert", "engine") if (value := getattr(self, key)) is not None]
        return f"{self.name}:{','.join(parts)}" if parts else self.name

    def override(self, **given: Any) -> "ModelSpec":
        """The same model; what is given here and not None counts instead."""
        return replace(self, **{key: value for key, value in given.items() if value is not None})

    def choose_settings(self, entry: ModelEntry) -> dict[str, Any]:
        """Everything that changes how this entry runs: what the user wants, else the manifest, else the defaults.

        Returns:
            Empty for an expert alone.
        Raises:
            InputError: the user wants what the entry does not take.
            WeightsError: the manifest sets what the entry's backend does not take.
        """
        defaults = _DEFAULTS.get(entry.backend, {})
        for key in self._flow_knobs():
            if key not in defaults:
                why = "only models with a flow do" if defaults else "it is an expert alone, without a flow"
                raise InputError(f"--model {self.name}: takes no {key}, {why}; leave it out")
        strange = sorted(set(entry.flow) - set(defaults) - _FURTHER.get(entry.backend, frozenset()))
        if strange:
            raise WeightsError(f"{entry.name}: its backend {entry.backend} takes no flow {', '.join(strange)}")
        return {**defaults, **entry.flow, **self._flow_knobs()}

    def _flow_knobs(self) -> dict[str, Any]:
        """What the user has set of the flow."""
        return {key: value for key in _FLOW_KNOBS if (value := getattr(self, key)) is not None}


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model with every choice made: what `resolve` found is stamped and loaded, and nobody looks it up again.

    Attributes:
        spec: what was asked for, under the model's present name.
        entry: of the manifest, or made of a file.
        settings: how its flow runs; empty for an expert alone.
        expert: what estimates in the place of the entry's own expert, second one and blend.
    """

    spec: ModelSpec
    entry: ModelEntry
    settings: Mapping[str, Any] = field(default_factory=dict)
    expert: ModelEntry | None = None

    @property
    def name(self) -> str:
        """What stamps and messages call it."""
        return self.entry.name

    @property
    def hashes(self) -> dict[str, str]:
        """Role -> sha256 of each file that takes part."""
        if self.expert is None:
            return self.entry.hashes
        others = {role: found for role, found in self.entry.hashes.items() if role not in BLENDING}
        return others | self.expert.hashes


def resolve(wanted: ModelSpec | str | Path) -> ResolvedModel:
    """Find what the user wants, and make every choice that is left.

    Args:
        wanted: a text is read by `ModelSpec.parse`, a path is the file of an expert alone.
    Raises:
        InputError: the model takes no such setting or no other expert, or there is no such expert.
        WeightsError: an unknown model, or one that is not trained.
    """
    if isinstance(wanted, Path):
        wanted = ModelSpec(expert=str(wanted))
    spec = ModelSpec.parse(wanted) if isinstance(wanted, str) else wanted
    if not spec.name:
        return ResolvedModel(spec, find_expert(spec.expert or ""))
    expert = None if spec.expert is None else find_expert(spec.expert)
    entry = weights.find_model(spec.name)
    entry.check_trained()
    settings = spec.choose_settings(entry)
    if expert is not None and entry.backend != _DUAL:
        raise InputError("--expert and --model exclude each other")
    return ResolvedModel(replace(spec, name=entry.name), entry, settings, expert)


def find_expert(asked: str) -> ModelEntry:
    """What `--expert` names, in every command: a file of ours, one that spandrel knows, or a model.

    Which of the two a file is, is told when it is loaded; it has no `network` here.

    Raises:
        InputError: there is neither, or the model is more than an expert.
        WeightsError: the model is not trained.
    """
    path = Path(asked)
    try:
        size, sha256 = path.stat().st_size, hash_file(path)
        file = WeightsFile(path.name, "not stated", "given by its path", size, sha256, local=str(path))
        return ModelEntry(path.stem, "expert", f"The expert {path}.", {"expert": file}, network="")
    except OSError as fault:
        if not weights.has_model(asked):
            reason = "no such file" if isinstance(fault, FileNotFoundError) else fault.strerror
            raise InputError(f"--expert {asked}: {reason}, and no model; see 'deblur weights list'") from fault
    entry = weights.find_model(asked)
    entry.check_trained()
    if not entry.is_expert:
        raise InputError(f"--expert {asked}: is no expert alone; take quick or another without a flow")
    return entry

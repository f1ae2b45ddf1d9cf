"""What was done to a photo, as the one line of JSON stamped into its output. Opens no files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deblur_cli.system.version import __version__

TOOL = "deblur-cli"

# They say which photo and which file it is, not what was done: see `origin.py` and `seal.py`.
_NOT_THE_WORK = ("version", "pixels_sha256", "result_sha256", "notice")
_NOT_OPTIONS = ("tool", "model", "weights", "format", "input_sha256", *_NOT_THE_WORK)


@dataclass(frozen=True, slots=True)
class Stamp:
    """The model and every option that changes pixels or their encoding."""

    model: str
    weights: Mapping[str, str]  # role -> sha256
    options: Mapping[str, str | int | float]

    def text(self, *, file_format: str, input_sha256: str, **proofs: str) -> str:
        """The stamp as it is written into one output: compact JSON, keys sorted, so that equal work is equal text.

        Args:
            proofs: `pixels_sha256` of the photo and the blank `result_sha256` that the writing fills, and perhaps a
                `notice`: what was told while the photo was restored, such as where the guard acted.
        """
        fields = {
            "tool": TOOL,
            "version": __version__,
            "model": self.model,
            "weights": dict(self.weights),
            **self.options,
            "format": file_format,
            "input_sha256": input_sha256,
            **proofs,
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def describe_same_work(left: str, right: str) -> bool:
    """Whether two stamps describe the same work on the same input; the tool's version does not count."""
    parsed = _parse(left)
    return parsed is not None and parsed == _parse(right)


def stamped(stamp: str, field: str) -> str:
    """What a stamp says of the photo or of its own file; empty where it is damaged, or older than that field."""
    return str(_read(stamp).get(field, ""))


def read_recipe(stamp: str) -> Stamp:
    """What was done, out of the text in a result; a field that is damaged is empty."""
    fields = _read(stamp)
    found = fields.get("weights")
    weights = {str(role): str(digest) for role, digest in found.items()} if isinstance(found, dict) else {}
    options = {
        name: value
        for name, value in fields.items()
        if name not in _NOT_OPTIONS and isinstance(value, str | int | float)
    }
    return Stamp(str(fields.get("model", "")), weights, options)


def _parse(stamp: str) -> dict[str, Any] | None:
    fields = _read(stamp)
    return {name: value for name, value in fields.items() if name not in _NOT_THE_WORK} or None


def _read(stamp: str) -> dict[str, Any]:
    try:
        fields = json.loads(stamp)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}

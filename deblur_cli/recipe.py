"""What was done to a photo, as the one line of JSON stamped into its output. Opens no files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deblur_cli import __version__

TOOL = "deblur-cli"


@dataclass(frozen=True, slots=True)
class Recipe:
    """The model and every option that changes pixels or their encoding."""

    model: str
    weights: Mapping[str, str]  # role -> sha256
    options: Mapping[str, str | int | float]

    def stamp(self, *, file_format: str, input_sha256: str) -> str:
        """The stamp of one output: compact JSON, keys sorted, so that equal recipes are equal text."""
        fields = {
            "tool": TOOL,
            "version": __version__,
            "model": self.model,
            "weights": dict(self.weights),
            **self.options,
            "format": file_format,
            "input_sha256": input_sha256,
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def same_recipe(left: str, right: str) -> bool:
    """Whether two stamps describe the same work on the same input; the tool's version does not count."""
    parsed = _parse(left)
    return parsed is not None and parsed == _parse(right)


def stamped_input(stamp: str) -> str:
    """The sha256 of the input that a stamp names; empty when the stamp is damaged."""
    parsed = _parse(stamp) or {}
    return str(parsed.get("input_sha256", ""))


def _parse(stamp: str) -> dict[str, Any] | None:
    try:
        fields = json.loads(stamp)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    fields.pop("version", None)
    return fields

"""Which part of a plan this process does, where several machines share one without talking to each other.

Every machine makes the whole plan and takes its part by position, so the plan has to be the same on all of them.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from deblur_cli.errors import InputError

T = TypeVar("T")
_FORM = re.compile(r"([0-9]{1,7})/([0-9]{1,7})")
_SLURM = "SLURM_ARRAY_TASK_"
_SKYPILOT = ("SKYPILOT_JOB_RANK", "SKYPILOT_NUM_JOBS")


@dataclass(frozen=True, slots=True)
class Part:
    """One of several parts of a plan that differ by one entry at most.

    Attributes:
        index: from 0 to count - 1.
        count: 1 where the plan is not divided.
    """

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"

    def pick(self, plan: Sequence[T]) -> list[T]:
        """The entries of this part: every `count`th, so that a run of large ones is shared out."""
        return list(plan[self.index :: self.count])


WHOLE = Part()


def parse_part(text: str, environment: Mapping[str, str] | None = None) -> Part:
    """The part that `--shard` names: `2/8`, or `auto` for what Slurm or SkyPilot says in the environment.

    Args:
        environment: of this process where none is given.
    Raises:
        InputError: it has another form, is not there, or there is nothing in the environment to take it from.
    """
    if text == "auto":
        return _find_part(os.environ if environment is None else environment)
    found = _FORM.fullmatch(text)
    if not found:
        raise InputError(f"--shard {text}: must be I/N, as in 1/4, or auto")
    number, count = map(int, found.groups())
    if not 1 <= number <= count:
        raise InputError(f"--shard {text}: I must be from 1 to N")
    return Part(number - 1, count)


def _find_part(environment: Mapping[str, str]) -> Part:
    found = [find for name, find in _SCHEDULERS.items() if name in environment]
    if len(found) != 1:
        both = "those of Slurm and of SkyPilot are both set" if found else f"none of {', '.join(_SCHEDULERS)} is set"
        raise InputError(f"--shard auto: {both}; use --shard I/N")
    return found[0](environment)


def _of_slurm(environment: Mapping[str, str]) -> Part:
    number, first, count = (_read_number(environment, _SLURM + name) for name in ("ID", "MIN", "COUNT"))
    step = _read_number(environment, f"{_SLURM}STEP", 1)
    last = _read_number(environment, f"{_SLURM}MAX", first + (count - 1) * step)
    index, rest = divmod(number - first, max(step, 1))
    if rest or not 0 <= index < count or last != first + (count - 1) * step:
        raise InputError("--shard auto: the Slurm array has gaps; submit it without, as in --array=0-7")
    return Part(index, count)


def _of_skypilot(environment: Mapping[str, str]) -> Part:
    index, count = (_read_number(environment, name) for name in _SKYPILOT)
    if not 0 <= index < count:
        raise InputError(f"--shard auto: {_SKYPILOT[0]}={index} is not below {_SKYPILOT[1]}={count}; use --shard I/N")
    return Part(index, count)


# The variable that each sets in every job of an array, and how its others are read.
_SCHEDULERS = {f"{_SLURM}ID": _of_slurm, _SKYPILOT[0]: _of_skypilot}


def _read_number(environment: Mapping[str, str], name: str, otherwise: int | None = None) -> int:
    text = environment.get(name, "")
    if text.isascii() and text.isdigit():
        return int(text)
    if otherwise is None or text:
        raise InputError(f"--shard auto: {name} is {f'{text!r}, no number' if text else 'not set'}; use --shard I/N")
    return otherwise

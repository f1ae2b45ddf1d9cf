"""What single values of a manifest must be, whoever has written them. Knows no entries."""

import os
import re
from pathlib import PurePosixPath
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_LONGEST, _DEEPEST, _MOST = 4096, 8, 4096  # characters of a text, levels and values of a config
_WIDEST = 1 << 16  # pixels
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def is_name(value: Any) -> bool:
    """Whether a model or a file may be called that: safe in a shell, in a file name and in TOML."""
    return isinstance(value, str) and bool(_NAME.fullmatch(value)) and ".." not in value


def is_repository(value: Any) -> bool:
    """Whether it has the form OWNER/NAME."""
    usable = isinstance(value, str) and "--" not in value and ".." not in value
    return usable and bool(_REPOSITORY.fullmatch(value))


def is_revision(value: Any) -> bool:
    """Whether it is a full commit; a branch or a tag may move."""
    return isinstance(value, str) and bool(re.fullmatch(r"[0-9a-f]{40}", value))


def is_sha256(value: Any) -> bool:
    """Whether it is a sha256 in lower-case hex."""
    return isinstance(value, str) and bool(re.fullmatch(r"[0-9a-f]{64}", value))


def is_inside(value: Any) -> bool:
    """Whether it is a relative path that stays where it is put."""
    if not isinstance(value, str) or not value or "\\" in value or ":" in value:
        return False
    parts = PurePosixPath(value).parts
    is_short = len(value) <= _LONGEST // 4 and all(len(os.fsencode(part)) <= 255 for part in parts)
    return is_short and not PurePosixPath(value).is_absolute() and ".." not in parts


def is_text(value: Any) -> bool:
    """Whether it is one line that says something."""
    return isinstance(value, str) and len(value) <= _LONGEST and bool(value.strip()) and value.isprintable()


def is_size(value: Any) -> bool:
    """Whether it counts something that is there."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63


def is_page(value: Any) -> bool:
    """Whether a person can look it up."""
    return is_text(value) and value.startswith("https://")


def is_config(value: Any) -> bool:
    """Whether it is a table of what a network's config may hold, and not too much of it; TOML's dates are not."""
    if not isinstance(value, dict):
        return False
    level = [value]
    count = 0
    for _ in range(_DEEPEST):
        count += len(level)
        below: list[Any] = []
        for item in level:
            if isinstance(item, (list, dict)):
                below += [*item, *item.values()] if isinstance(item, dict) else item
            elif not _is_leaf(item):
                return False
        if count > _MOST:
            return False
        level = below
    return not level


def _is_leaf(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)


def is_tiling(value: Any) -> bool:
    """Whether it says how a photo may be cut."""
    sizes = value.values() if isinstance(value, dict) and set(value) <= {"size", "context", "feather"} else [0]
    return all(is_size(size) and size <= _WIDEST for size in sizes)


def is_positive(value: Any) -> bool:
    """Whether it is a number above 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def are_names(value: Any) -> bool:
    """Whether it is a list of names."""
    return isinstance(value, list) and all(map(is_name, value))


def are_dtypes(value: Any) -> bool:
    """Whether it is a list of number formats."""
    return isinstance(value, list) and all(item in ("float32", "bfloat16") for item in value)

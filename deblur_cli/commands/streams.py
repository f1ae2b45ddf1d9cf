"""What the commands say: results on stdout, notes on stderr. Imports little, every call needs it."""

import json
import sys
from contextlib import suppress
from typing import Any


def write_result(line: str) -> None:
    """One line on stdout, flushed at once; a path keeps the bytes it has on the disk."""
    sys.stdout.flush()
    sys.stdout.buffer.write(line.encode(errors="surrogateescape") + b"\n")
    sys.stdout.buffer.flush()


def write_json(content: dict[str, Any], *, indent: int | None = None) -> None:
    """One JSON value on stdout, ASCII only: safe in every encoding."""
    write_result(json.dumps(content, indent=indent))


def closed_output(what: str) -> BrokenPipeError:
    """The fault of work that was cut short because nobody reads stdout any more, in words for the user."""
    return BrokenPipeError(f"nobody reads standard output any more; {what}")


def is_told(fault: BrokenPipeError) -> bool:
    """Whether it has words; one of the system's own is no news to who closed the pipe, as in `deblur --help | head`."""
    return fault.errno is None


def write_note(text: str) -> None:
    """One line on stderr; where that cannot be written (a full disk, a closed pipe), the work goes on without."""
    with suppress(OSError):
        sys.stderr.write(f"deblur: {text}\n")
        sys.stderr.flush()

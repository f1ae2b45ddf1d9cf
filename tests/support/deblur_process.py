"""`deblur` in a process of its own, with a backend that only waits: what signals and streams do needs a real one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import deblur_cli

_ROOT, _TESTS = Path(deblur_cli.__file__).parents[1], Path(__file__).parents[1]

_ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if not key.startswith(("DEBLUR_", "_DEBLUR"))},
    "PYTHONPATH": os.pathsep.join((str(_ROOT), str(_TESTS))),
    "COLUMNS": "100",
}


@contextmanager
def start_waiting(
    arguments: list[str], *, seconds: float, large: float | None = None, cut: str = "tiles"
) -> "Iterator[subprocess.Popen[str]]":
    """`deblur` whose network takes so many seconds a tile, or a tile of a large photo; ended with the block.

    When the first tile of a large photo is begun, a file of that name appears in the current folder.
    """
    program = [sys.executable, "-m", "support.waiting_program"]
    command = [*program, str(seconds), str(seconds if large is None else large), cut, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=_ENVIRONMENT) as process:
        try:
            yield process
        finally:
            process.kill()


def call(arguments: list[str], **environment: str) -> "subprocess.CompletedProcess[str]":
    """The real `deblur`, run to its end."""
    return run_python(["-m", "deblur_cli", *arguments], **environment)


def run_python(arguments: list[str], **environment: str) -> "subprocess.CompletedProcess[str]":
    """Python with the package in its path, run to its end."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**_ENVIRONMENT, **environment},
    )

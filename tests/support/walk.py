"""The way of a photo through the package: `python walk.py run a.jpg -o out` names the files it passes through.

A file counts when one of its functions, methods, lambdas or comprehensions runs, in any thread, after the command was
begun. What runs while a module is imported does not count, and neither do a dataclass's own methods, which lie in no
file. The last line of stderr is the list, as JSON.
"""

import json
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import deblur_cli
from deblur_cli.app import run_app

PACKAGE = f"{Path(deblur_cli.__file__).parent}/"


def is_import(frame: FrameType | None) -> bool:
    """Whether a module is being imported, here or further out."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename != __file__:
            return True
        frame = frame.f_back
    return False


def main(arguments: list[str]) -> int:
    """Run a command line; its exit status."""
    passed = set()

    def listen(frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(PACKAGE) and name not in passed and not is_import(frame):
            passed.add(name)

    threading.setprofile(listen)
    sys.setprofile(listen)
    status = run_app(arguments)
    sys.setprofile(None)
    threading.setprofile(None)
    sys.stderr.write(json.dumps(sorted(name.removeprefix(PACKAGE) for name in passed)) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

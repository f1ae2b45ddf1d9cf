"""Help at once: typer's renderer of help without two modules of rich that cost as much time as all the rest of it."""

import sys
from types import ModuleType

# This tool's texts are rich markup, and its faults are lines.
_UNUSED = {"rich.markdown": "Markdown", "rich.traceback": "Traceback"}


def prepare_help() -> None:
    """Load the renderer early, with empty classes in the place of what is never called."""
    absent = {module: name for module, name in _UNUSED.items() if module not in sys.modules}
    for module, name in absent.items():
        sys.modules[module] = ModuleType(module)
        setattr(sys.modules[module], name, type(name, (), {}))
    try:
        import typer.rich_utils  # noqa: F401
    finally:
        for module in absent:  # whoever needs the real one later shall find it
            del sys.modules[module]

"""Restore photos ruined by motion blur.

    import deblur_cli

    model = deblur_cli.load_model("quick")  # a name of `deblur weights list`, or the path of an expert
    restored = deblur_cli.restore_image(pixels, model)  # (H, W, 3), uint8 or uint16, sRGB-encoded

Every fault that a caller can act on is a `DeblurError`. torch is imported by the first use of a function, not by
`import deblur_cli`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deblur_cli.errors import BackendError, DeblurError, InputError, PhotoError, WeightsError
from deblur_cli.system.version import __version__

if TYPE_CHECKING:
    from deblur_cli.backends import load_model, restore_image

__all__ = [
    "BackendError",
    "DeblurError",
    "InputError",
    "PhotoError",
    "WeightsError",
    "__version__",
    "load_model",
    "restore_image",
]


def __getattr__(name: str) -> Any:
    if name not in ("load_model", "restore_image"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("deblur_cli.backends"), name)


def __dir__() -> list[str]:
    return __all__

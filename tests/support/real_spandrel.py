"""spandrel as it is installed, for the tests that compare with it."""

import sys
import types

import pytest


def import_spandrel() -> types.ModuleType:
    """spandrel, also beside a missing or broken torchvision: its two uses there are no part of NAFNet."""
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    stubs = {name: types.ModuleType(name) for name in names}
    vars(stubs[names[-1]]).update(InterpolationMode=object, rotate=None, normalize=None)
    kept = {name: sys.modules.get(name) for name in names}
    sys.modules.update(stubs)
    try:
        return pytest.importorskip("spandrel", reason="spandrel wants a torchvision of this torch's own build")
    finally:
        for name in names:
            sys.modules.pop(name)
            if kept[name] is not None:
                sys.modules[name] = kept[name]

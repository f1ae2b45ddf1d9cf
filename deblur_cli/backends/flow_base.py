"""The base of a flow from its files, for training and for running alike: its shape, its weights, its empty prompt.

A base of this tool is one file that says its shape itself. A base from elsewhere is what diffusers writes: a
`config.json` beside one `.safetensors` or beside shards and their index, in a folder or in the Hub's cache.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deblur_cli.checkpoint import check_tensors, limited_by, read_content, read_metadata
from deblur_cli.errors import WeightsError
from deblur_cli.networks.flow_transformer import FlowTransformer, FlowTransformerConfig
from deblur_cli.networks.residual_codec import STRIDE
from deblur_cli.system.files import hash_file
from deblur_cli.system.typed_tables import read_table

PROMPT_HINT = "deblur train prompt --pipeline FOLDER --out prompt.safetensors makes one"

_CLASSES = {"SD3Transformer2DModel": "sd3", "Flux2Transformer2DModel": "flux2"}
_WHOLE = "diffusion_pytorch_model.safetensors"  # beside which a repository may keep other number formats
_WINDOW = 128  # latents, where a config.json does not tell: bases from elsewhere were trained at 1024 pixels


@dataclass(frozen=True, slots=True)
class BaseFiles:
    """Where a base lies.

    Attributes:
        weights: its one file, or its shards in the order of their names.
        config: the `config.json` of a base from elsewhere; None for one of this tool, whose metadata says it.
    """

    weights: tuple[Path, ...]
    config: Path | None

    @property
    def is_foreign(self) -> bool:
        """Whether it comes from elsewhere: it then works in any window, but never without its empty prompt."""
        return self.config is not None

    @property
    def place(self) -> Path:
        """What messages call it."""
        return self.weights[0] if len(self.weights) == 1 else self.weights[0].parent

    @property
    def sha256(self) -> str:
        """Of its one file; of shards, of the text of their hashes in order."""
        hashes = [hash_file(file) for file in self.weights]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()

    @property
    def codec(self) -> str | None:
        """The sha256 of the codec that it was trained on, where it is one of this tool."""
        told = {} if self.is_foreign else read_metadata(self.weights[0]).get("trained_on", {})
        codec: str | None = told.get("codec")
        return codec


def find_base(path: Path, config: Path | None = None) -> BaseFiles:
    """The files of a base.

    Args:
        path: a folder as diffusers writes it, or one file of weights.
        config: the `config.json` of a base from elsewhere where that is not beside its weights.
    Raises:
        WeightsError: a folder without weights, a damaged index, or a file that is none of weights.
    """
    files = _find_in_folder(path) if path.is_dir() else (path,)
    if len(files) == 1 and "config" in read_metadata(files[0]):
        return BaseFiles(files, None)
    return BaseFiles(files, config or files[0].with_name("config.json"))


def load_base(
    files: BaseFiles,
    window: int | None,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    *,
    lean: bool = False,
) -> FlowTransformer:
    """The network, filled strictly. It is built without memory first, so that a large one is there once.

    Args:
        window: side in latents of the squares that it will look at; None takes the base's own.
        lean: for running only; see `FlowTransformer`.
    Raises:
        WeightsError: the weights are missing, damaged or do not fit, or the base does not work in this window.
    """
    config = read_base_config(files, window)
    with error_context(files.place), limited_by(*files.weights), torch.device("meta"):
        network = FlowTransformer(config, lean=lean)
    network.to(dtype).take_memory(device)
    tensors = {key: value for file in files.weights for key, value in check_tensors(read_content(file), file).items()}
    with error_context(files.place):
        network.load_base(tensors)
    return network


def load_prompt(network: FlowTransformer, path: Path) -> None:
    """Give the network its empty prompt: `prompt` (1, L, joint), and of SD3 `pooled` (1, pooled).

    Raises:
        WeightsError: the file is missing or damaged, or is of another base.
    """
    tensors = check_tensors(read_content(path), path)
    with error_context(path):
        network.set_prompt(tensors["prompt"], tensors.get("pooled"))


def read_base_config(files: BaseFiles, window: int | None = None) -> FlowTransformerConfig:
    """The shape of a base.

    Args:
        window: as for `load_base`.
    Raises:
        WeightsError: nothing says a shape, or it is none that fits this window.
    """
    if files.config is not None:
        return _read_foreign_config(files.config, window)
    path = files.weights[0]
    try:
        config = read_table(FlowTransformerConfig, read_metadata(path)["config"])
    except (TypeError, ValueError) as fault:
        raise WeightsError(f"{path}: its metadata is of no flow transformer ({fault})") from fault
    if window not in (None, config.window):
        own = f"{config.window} latents (latents.side = {config.window * STRIDE})"
        raise WeightsError(f"{path}: was trained on windows of {own} and works in no others; {window} were asked for")
    return config


@contextmanager
def error_context(path: Path) -> Iterator[None]:
    """What a config or a state dict is refused for becomes one line that names its file."""
    try:
        yield
    except KeyError as fault:
        raise WeightsError(f"{path}: lacks {fault}") from fault
    except (TypeError, ValueError, AttributeError) as fault:
        raise WeightsError(f"{path}: {' '.join(str(fault).split())}") from fault


def _find_in_folder(folder: Path) -> tuple[Path, ...]:
    """One file, or all the shards that an index names."""
    if (folder / _WHOLE).is_file():
        return (folder / _WHOLE,)
    if indices := sorted(folder.glob("*.safetensors.index.json")):
        return _read_index(indices[0])
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise WeightsError(f"{folder}: no .safetensors there; a base is a folder as diffusers saves it")
    if len(files) > 1:
        raise WeightsError(f"{folder}: holds {len(files)} .safetensors files and no index of them; name one file")
    return tuple(files)


def _read_index(path: Path) -> tuple[Path, ...]:
    try:
        names = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        shards = tuple(path.with_name(name) for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise WeightsError(f"{path}: no index of shards ({fault}); get it again from its author") from fault
    missing = next((shard.name for shard in shards if not shard.is_file()), None)
    if missing is not None or not shards:
        raise WeightsError(f"{path}: names {missing or 'nothing'}, which is not there; copy the whole folder again")
    return shards


def _read_foreign_config(path: Path, window: int | None) -> FlowTransformerConfig:
    """`config.json` as diffusers writes it."""
    try:
        table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        kind = _CLASSES.get(table["_class_name"], "")
        settings = {key: value for key, value in table.items() if key[0] != "_" and value is not None}
        chosen = window or settings.get("sample_size", _WINDOW)
        return FlowTransformerConfig(kind, settings, chosen)
    except FileNotFoundError as fault:
        raise WeightsError(f"{path}: is not there, and the weights do not tell their shape; get it too") from fault
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise WeightsError(f"{path}: describes no {' or '.join(_CLASSES)} that fits ({fault})") from fault

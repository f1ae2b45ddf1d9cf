"""Files of weights: save a network with its config, read any checkpoint without running code from it, load strictly."""

import json
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from deblur_cli.errors import WeightsError
from deblur_cli.system.files import whole_file

PICKLED = (".pth", ".pt", ".ckpt")
SUFFIXES = (".safetensors", *PICKLED)
_FLATTENED = ("params", "params_ema", "state_dict")  # tables side by side, once they are one flat file
_LONGEST = 1 << 20  # characters of one entry of a header
_FRAMEWORK = "format"  # which diffusers and transformers put into every header, as plain text

# What the parsers of torch, zipfile and pickle raise on bytes that are not what they expect.
_PARSER_FAULTS = (
    pickle.UnpicklingError, struct.error, zipfile.BadZipFile, OSError, EOFError, RuntimeError, MemoryError,
    ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError,
)  # fmt: skip
_FOREIGN_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")  # in torch's refusal of whatever builds no tensor


def save_network(network: nn.Module, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write the weights as bfloat16 with `metadata` (JSON values) in the header.

    What is needed to build the network again belongs into `metadata["config"]`.
    """
    save_tensors(network.state_dict(), path, metadata)


def save_tensors(state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, Any]) -> None:
    """The same for a part of a network."""
    tensors = {key: value.detach().to("cpu", torch.bfloat16).contiguous() for key, value in state.items()}
    with whole_file(path) as temporary:
        save_file(tensors, temporary, metadata={key: json.dumps(value) for key, value in metadata.items()})


def read_metadata(path: Path) -> dict[str, Any]:
    """The header metadata of a safetensors file.

    Raises:
        WeightsError: the file is missing, damaged, or its metadata is not this tool's.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            return {key: _read_value(value) for key, value in told.items() if key != _FRAMEWORK}
    except (OSError, SafetensorError, ValueError, RecursionError) as fault:
        raise WeightsError(f"{path}: not a weights file of this tool ({fault})") from fault


def _read_value(text: str) -> Any:
    if len(text) > _LONGEST:
        raise ValueError(f"an entry of its header has over {_LONGEST} characters")
    return json.loads(text)


@contextmanager
def limited_by(*files: Path) -> Iterator[None]:
    """While a network is built from what its files say of it: no more of it than they could fill.

    Raises:
        ValueError: the network would have more weights than the files have bytes, or cannot be built at all.
    """
    # A weight takes a byte at least. A file that is not there has none, and whoever reads it says so.
    room = sum(file.stat().st_size for file in files if file.is_file())

    def count(module: nn.Module, name: str, parameter: Tensor | None) -> None:
        nonlocal room
        room -= 1 if parameter is None else max(1, parameter.numel())
        if room < 0:
            raise ValueError("it describes more weights than the file has bytes")

    handles = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns of layers without width, which then fit no file
            yield
    except (TypeError, ValueError, RuntimeError, MemoryError, ArithmeticError, IndexError) as fault:
        raise ValueError(shorten(fault)) from fault
    finally:
        for handle in handles:
            handle.remove()


def load_strict(network: nn.Module, path: Path, key: str | None = None) -> None:
    """Copy the file's tensors into `network`; every key and every shape must match.

    Args:
        key: where in the file the tensors lie; None for the one table in it that has the network's names.
    Raises:
        WeightsError: the file is missing or damaged, could run code, or its keys or shapes are not the network's.
    """
    content, names = read_content(path), network.state_dict().keys()
    table = find_weights(content, names) if key is None else _find_table(content, key, path)
    load_tensors(network, check_tensors(table, path), path)


def load_tensors(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy tensors that came from `path` into `network`; every key and every shape must match.

    Raises:
        WeightsError: they do not.
    """
    try:
        network.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as fault:
        raise WeightsError(f"{path}: weights do not fit the network: {shorten(fault)}") from fault


def find_weights(content: Mapping[str, Any], names: Collection[str]) -> Mapping[str, Any]:
    """The table of these names: the content itself or one in it, perhaps with a prefix before all of its names.

    People bring bare state dicts, those that BasicSR keeps under `params` and `params_ema`, Lightning under
    `state_dict`, DataParallel with `module.` before each name, and all of these flattened to safetensors. Averaged
    weights are preferred, as by the tests of BasicSR. Where none has the names, the most likely table comes back, for
    the message to compare.
    """
    averaged = sorted((key for key in content if isinstance(content[key], dict)), key=lambda key: "ema" not in key)
    tables = [content, *(content[key] for key in averaged)]
    for table in tables:
        for prefix in sorted(_find_prefixes(table, names), key=lambda prefix: ("ema" not in prefix, len(prefix))):
            found = {key.removeprefix(prefix): value for key, value in table.items() if key.startswith(prefix)}
            if found.keys() == set(names) and (len(found) == len(table) or prefix.split(".")[0] in _FLATTENED):
                return found
    wanted = [table for table in tables[1:] if any(isinstance(value, Tensor) for value in table.values())]
    return wanted[0] if wanted and not any(isinstance(value, Tensor) for value in content.values()) else content


def _find_prefixes(table: Mapping[str, Any], names: Collection[str]) -> set[str]:
    """What may stand before the names: whatever stands before the first of them."""
    first = next(iter(names), "")
    ends = (key for key in table if isinstance(key, str) and (key == first or key.endswith(f".{first}")))
    return {key.removesuffix(first) for key in ends}


def read_content(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU: a table of tensors, or of such tables and other plain values.

    No code from the file runs: a pickle is read only as far as it builds tensors and containers.

    Raises:
        WeightsError: the file is missing or damaged, is of no known kind, or could run code.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            return _read_safetensors(path)
        if path.suffix.lower() in PICKLED:
            return _read_pickled(path)
    except (SafetensorError, *_PARSER_FAULTS) as fault:
        raise WeightsError(_explain(path, fault)) from fault
    raise WeightsError(f"{path}: not a weights file; {', '.join(SUFFIXES)} are")


def check_tensors(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The content itself, once it is known to hold only plain tensors that the file has the bytes for.

    Raises:
        WeightsError: it holds something else, or tensors that claim more memory than their file could fill.
    """
    strange = next((key for key, value in content.items() if not _is_plain(value)), None)
    if not content or strange is not None:
        raise WeightsError(f"{path}: holds no table of tensors{f' ({strange!r} is none)' if content else ''}")
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in content.values())
    if claimed > 2 * path.stat().st_size:  # a few tensors may share their bytes, most may not
        raise WeightsError(f"{path}: refused, its tensors claim {claimed / 1e9:.1f} GB that the file does not have")
    return dict(content)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a mapping


def _read_pickled(path: Path) -> dict[str, Any]:
    is_archive = zipfile.is_zipfile(path)
    if is_archive:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("compressed, which torch never writes")
    with warnings.catch_warnings(action="ignore"):  # it warns of what it then reads, or refuses
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)  # old files cannot be mapped
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ValueError("no table of tensors")
    return content


def _find_table(content: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    table = content.get(key)
    if not isinstance(table, dict):
        found = ", ".join(list(content)[:5])
        raise WeightsError(f"{path}: weights do not fit the network: no table {key!r}, but {found or 'nothing'}")
    return table


def _is_plain(value: object) -> bool:
    if type(value) not in (Tensor, nn.Parameter):
        return False
    assert isinstance(value, Tensor)
    return value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized


def _explain(path: Path, fault: BaseException) -> str:
    if isinstance(fault, FileNotFoundError):
        return f"{path}: no such file"
    if isinstance(fault, pickle.UnpicklingError):  # torch's own text goes on to advise running the code
        found = _FOREIGN_GLOBAL.search(str(fault))
        if found is None:
            return f"{path}: damaged weights file (no pickle of tensors)"
        return f"{path}: refused, it holds {found[1]} and could run code when loaded; ask its author for .safetensors"
    return f"{path}: damaged weights file ({shorten(fault)})"


def shorten(fault: BaseException) -> str:
    """What a library says, in one line that is not too long."""
    return " ".join(str(fault).split())[:300] or type(fault).__name__

"""A file of MAXIM's published weights, the authors' archive or safetensors, to the file that an expert is loaded from.

Archives come from anybody: nothing in one is run or unpickled, and an array is read only if its header promises what
the published network has in that place, so that no file can ask for more memory than the network itself.
"""

import json
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.lib import format as npy
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from deblur_cli.checkpoint import shorten
from deblur_cli.conversion.maxim_arrays import PUBLISHED, convert, find_name_fault, published_shapes
from deblur_cli.errors import WeightsError
from deblur_cli.system.files import hash_file, write_whole
from deblur_cli.weights.store import disk_fault, known_hash

ArrayShape = tuple[int, ...]

_PREFIX = "opt/target/"  # of the weights in an archive, which may hold the optimizer's state beside them
_SUFFIX = ".npy"
_DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16)}  # as safetensors call them
_MOST_CONTENTS = 8 << 20  # bytes of an archive's table of contents; that of 11,000 arrays is about 1.5 MB
_END = struct.Struct("<4s4H2LH")  # of an archive: the record that ends it
_END_64 = 20  # bytes of what stands before that record in an archive of over 65,535 files
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack more than they are asked for

# What zipfile, numpy's parser of headers and safetensors raise on bytes that are not what they expect.
_FAULTS = (
    zipfile.BadZipFile, zlib.error, tokenize.TokenError, SafetensorError, struct.error, SyntaxError, OSError, EOFError,
    RuntimeError, ValueError, TypeError, LookupError, AttributeError, MemoryError,
)  # fmt: skip


def converted_path(source: Path) -> Path:
    """Where the converted weights of this very file lie, beside it; reads the file if its hash is not known."""
    return source.parent / "converted" / f"{known_hash(source)[:32]}.safetensors"


def convert_maxim_once(source: Path) -> Path:
    """The converted weights of a verified file of published ones, made if they are not there or not as they were made.

    Beside them lies their sha256, in the form of `sha256sum`. What was made of another file is removed.

    Raises:
        WeightsError: the file is not what the authors publish, or the disk is full.
    """
    target = converted_path(source)
    note = target.with_suffix(".sha256")
    if _is_sound(target, note):
        return target
    content = to_safetensors(read_published(source))
    try:
        write_whole(target, content)
        write_whole(note, f"{hash_file(target)}  {target.name}\n".encode())
    except OSError as fault:
        raise disk_fault(fault, target) from fault
    for other in target.parent.glob("*.s*"):
        if other.stem != target.stem:
            with suppress(OSError):
                other.unlink()
    return target


def _is_sound(target: Path, note: Path) -> bool:
    """Whether the file has the bytes that it was made with."""
    try:
        return note.read_text(encoding="ascii").split()[:1] == [hash_file(target)]
    except (OSError, UnicodeDecodeError):
        return False


def to_safetensors(arrays: Mapping[str, Tensor]) -> bytes:
    """The file that the expert is loaded from, all stages; the same arrays give the same bytes.

    The order of a header's metadata is left to chance by the library, so it is put in order here.
    """
    told = {"config": json.dumps(asdict(PUBLISHED)), "network": json.dumps("maxim")}
    content = save(convert(arrays, PUBLISHED.stages), metadata=told)
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = told
    text = json.dumps(header, separators=(",", ":")).encode().ljust(length)
    return content[:8] + text + content[8 + length :]


def read_published(path: Path) -> dict[str, Tensor]:
    """Every tensor of the published network under its Flax name, and nothing else.

    Args:
        path: the authors' `checkpoint.npz`, or a .safetensors with the same names, with or without `opt/target/`.
    Returns:
        float32 or float16, as they are in the file; together at most 89 MB.
    Raises:
        WeightsError: it is something else, damaged, incomplete, or would run code.
    """
    try:
        if zipfile.is_zipfile(path):
            with warnings.catch_warnings(action="ignore"):  # of old headers, which say what they say
                arrays = _read_archive(path)
        elif path.suffix == ".safetensors" or _looks_like_safetensors(path):
            arrays = _read_safetensors(path)
        else:
            raise ValueError("it is neither an archive of numpy nor a safetensors file")
        strange = next((name for name, array in arrays.items() if not bool(array.isfinite().all())), None)
        if strange is not None:
            raise ValueError(f"{strange} holds numbers that are not finite")
    except _FAULTS as fault:
        raise WeightsError(f"{path}: not a checkpoint of MAXIM: {shorten(fault)}") from fault
    return arrays


def _read_archive(path: Path) -> dict[str, Tensor]:
    _check_contents(path)
    with zipfile.ZipFile(path) as archive:
        places: dict[str, zipfile.ZipInfo] = {}
        for entry in archive.infolist():
            if entry.filename.startswith(_PREFIX):
                name = entry.filename.removeprefix(_PREFIX).removesuffix(_SUFFIX)
                _require(name not in places, f"{name} is there twice")
                _require(entry.compress_type in _PACKED, f"{name} is packed in a way that numpy does not")
                places[name] = entry
        arrays = {}
        for name, shape in _check_names(places):
            with archive.open(places[name]) as stream:
                arrays[name] = _read_array(stream, name, shape)
    return arrays


def _check_contents(path: Path) -> None:
    """Refuse an archive whose table of contents alone would fill the memory: it is read as a whole."""
    with path.open("rb") as stream:
        stream.seek(-min(path.stat().st_size, _END_64 + _END.size), 2)
        end = stream.read()
    signature, *_, size, _, comment = _END.unpack(end[-_END.size :])
    whole = signature == b"PK\5\6" and not comment and end[:4] != b"PK\6\7"
    _require(whole and size <= _MOST_CONTENTS, "its table of contents is not one that numpy writes")


def _read_array(stream: IO[bytes], name: str, shape: ArrayShape) -> Tensor:
    """An array of an archive; what its header says is checked before the numbers are read."""
    _require(npy.read_magic(stream) == (1, 0), f"{name} has a header that numpy does not write for it")
    found, is_fortran, dtype = npy.read_array_header_1_0(stream)  # 65,535 bytes at most
    _require(not dtype.hasobject, f"{name} holds Python objects, which could run code")
    _require(dtype in _DTYPES.values(), f"{name} has numbers of the type {dtype}, not float32 or float16")
    _require(found == shape, f"{name} has the shape {found}, not {shape}")
    size = dtype.itemsize * int(np.prod(shape))
    content = stream.read(size)
    _require(len(content) == size and not stream.read(1), f"{name} has not the {size} bytes that its header promises")
    values = np.frombuffer(bytearray(content), dtype).reshape(shape, order="F" if is_fortran else "C")
    return torch.from_numpy(np.ascontiguousarray(values))


def _looks_like_safetensors(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(9)[8:] == b"{"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        places = {name.removeprefix(_PREFIX): name for name in names}
        _require(len(places) == len(names), "it holds a name twice, with and without its prefix")
        arrays = {}
        for name, shape in _check_names(places):
            told = file.get_slice(places[name])
            found, dtype = tuple(told.get_shape()), str(told.get_dtype())
            _require(dtype in _DTYPES, f"{name} has numbers of the type {dtype}, not F32 or F16")
            _require(found == shape, f"{name} has the shape {found}, not {shape}")
            arrays[name] = file.get_tensor(places[name])
    return arrays


def _check_names(names: Mapping[str, object]) -> Iterator[tuple[str, ArrayShape]]:
    """Name and shape of every array of the published network, once it is known that the file has just these."""
    wanted = published_shapes()
    fault = find_name_fault(names.keys(), wanted)
    _require(fault is None, str(fault))
    yield from wanted.items()


def _require(condition: object, fault: str) -> None:
    if not condition:
        raise ValueError(fault)

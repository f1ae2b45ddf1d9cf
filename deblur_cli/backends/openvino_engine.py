"""OpenVINO as an engine: a network compiled for this CPU, once; the optional extra `deblur-cli[openvino]`.

A network is traced on a small picture, converted, and compiled for the sizes that it meets. The compiled form is kept
on disk (`system/kept_files.py`), so that the next process is ready in less than a second. Pictures go through one at a
time, since a CPU gains nothing from several; windows of latents, which are tiny, four at a time.
"""

import hashlib
import importlib
import io
import logging
import math
import platform
import sys
import threading
import warnings
from collections.abc import Sequence
from copy import deepcopy
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes, is_in_torch_dispatch_mode

from deblur_cli import networks
from deblur_cli.errors import BackendError
from deblur_cli.networks.needs import find_compiling
from deblur_cli.system.devices import is_out_of_memory
from deblur_cli.system.kept_files import KeptFiles
from deblur_cli.system.version import __version__
from deblur_cli.weights.store import own_folder

_TRACED = 64  # side in pixels of the photo that a network is traced on, where it takes other sizes as well
_TINY, _AT_ONCE = 64**2, 4  # of pieces with fewer points, so many together make products that are worth it
_HELD, _KEPT = 2, 4  # sizes of a network that stay in memory, and that go to the disk in one process
_MOST_BYTES = 1 << 30  # on the disk, of all networks together
_PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}
_TELEMETRY = "openvino_telemetry"
_LOG = logging.getLogger("deblur_cli")

Shape = tuple[int, ...]
Call = tuple[str, tuple[bool, ...], tuple[Shape, ...]]  # a method, which of its tensors are given, and their shapes


def list_formats() -> list[str]:
    """Number formats that OpenVINO multiplies in this CPU's hardware.

    Raises:
        BackendError: OpenVINO is broken.
    """
    capabilities = _find_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ["float32"] + ["bfloat16"] * ("BF16" in capabilities)


class OpenVinoEngine:
    """See `Engine`. The network itself stays in float32, for its shape and for whoever counts operations."""

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        """Nothing is compiled before the first run."""
        self.module, self._dtype = network.to(device, torch.float32), dtype
        self._requests: dict[Call, Any] = {}
        self._lock = threading.Lock()
        self._compiled = 0

    def run(self, method: str, *tensors: Tensor | None) -> Tensor:
        """See `Engine`; the first axis of the tensors counts pictures.

        Raises:
            BackendError: OpenVINO is broken or does not take this network.
        """
        if is_in_torch_dispatch_mode():
            self._show_counter(method, tensors)
        is_given = tuple(tensor is not None for tensor in tensors)
        given = [tensor for tensor in tensors if tensor is not None]
        at_once = _AT_ONCE if max(math.prod(tensor.shape[2:]) for tensor in given) < _TINY else 1
        answers = []
        for start in range(0, len(given[0]), at_once):
            pieces = [tensor[start : start + at_once] for tensor in given]
            answer = self._run_piece(method, is_given, [_fill(piece, at_once) for piece in pieces])
            answers.append(answer[: len(pieces[0])])
        return answers[0] if len(answers) == 1 else torch.cat(answers)

    def _run_piece(self, method: str, is_given: tuple[bool, ...], given: list[Tensor]) -> Tensor:
        arrays = [tensor.float().contiguous().numpy() for tensor in given]
        compiling = find_compiling(self.module)
        any_size = compiling is not None and compiling.any_size
        call = (method, is_given, tuple(_open(tensor.shape) if any_size else tuple(tensor.shape) for tensor in given))
        with self._lock:  # a request serves one at a time, and its answer lies where the next one will
            request = self._requests.pop(call, None) or self._load(call, given)
            self._requests[call] = request
            while len(self._requests) > _HELD:
                del self._requests[next(iter(self._requests))]
            request.infer(arrays)
            return torch.from_numpy(request.get_output_tensor(0).data.copy())

    def _load(self, call: Call, given: list[Tensor]) -> Any:
        """A request for calls like this, from the disk, else compiled and kept there."""
        files, name = KeptFiles(own_folder("compiled"), _MOST_BYTES), self._name(call)
        content = files.read(name)
        if content is not None:
            try:
                return self._import(content)
            except RuntimeError as fault:  # of another build of OpenVINO, whatever its version says
                _LOG.debug("%s: %s", name, fault)
        tell_once(files.folder)
        try:
            content = self.compile_call(call, given)
            self._compiled += 1
            if self._compiled <= _KEPT:
                files.write(name, content)
                files.trim()
            return self._import(content)
        except (RuntimeError, _import_openvino().frontend.OpConversionFailure) as fault:
            if is_out_of_memory(fault):
                raise
            text = " ".join(str(fault).split())[:200]
            what = f"OpenVINO does not take {type(self.module).__name__} ({text})"
            raise BackendError(f"{what}; add --engine torch") from fault

    def _import(self, content: bytes) -> Any:
        return _find_core().import_model(io.BytesIO(content), "CPU", self._settings()).create_infer_request()

    def compile_call(self, call: Call, given: list[Tensor]) -> bytes:
        """By OpenVINO's frontend: its own `convert_model` takes ten times as long."""
        core, frontend = _find_core(), _find_frontend()
        decoder_class = importlib.import_module("openvino.frontend.pytorch.ts_decoder").TorchScriptPythonDecoder
        method, is_given, shapes = call
        quiet = warnings.catch_warnings(action="ignore")
        with torch.inference_mode(False), torch.no_grad(), _disable_current_modes(), quiet:
            example = tuple(torch.rand(shape) for shape in self._choose_example(given))
            traced: Any = torch.jit.trace(  # type: ignore[no-untyped-call]
                _Method(self.module, method, is_given), example, check_trace=False
            )
            decoder = decoder_class(traced, example_input=example)  # must outlive the model, whose weights it holds
            model = frontend.convert(frontend.load(decoder))
            model.reshape(dict(enumerate(map(list, shapes))))
            exported = core.compile_model(model, "CPU", self._settings()).export_model()
        return exported if isinstance(exported, bytes) else bytes(exported.getvalue())

    def _choose_example(self, given: list[Tensor]) -> list[Shape]:
        """Shapes to trace with: small ones where one formula holds for all sizes."""
        if find_compiling(self.module) is None:
            return [tuple(tensor.shape) for tensor in given]
        config: Any = self.module.config
        side = math.lcm(_TRACED, 2 * config.needs.multiple_of) if hasattr(config, "needs") else _TRACED
        height, width = (max(tensor.shape[axis] for tensor in given) for axis in (2, 3))
        return [(*one.shape[:2], one.shape[2] * side // height, one.shape[3] * side // width) for one in given]

    def _settings(self) -> dict[str, Any]:
        """As many threads as torch would take, not bound to cores: other processes may be bound to the same."""
        threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
        return {"INFERENCE_PRECISION_HINT": _PRECISIONS[self._dtype], **threads}

    def _name(self, call: Call) -> str:
        """Of the file: a hash of all that the compiled form depends on."""
        parts = [self._identity, _describe_place(), str(self._dtype), repr(call)]
        return f"{hashlib.sha256(repr(parts).encode()).hexdigest()}.blob"

    @cached_property
    def _identity(self) -> str:
        digest = hashlib.sha256(f"{self.module} {getattr(self.module, 'config', '')}".encode())
        for key, tensor in [*self.module.named_parameters(), *self.module.named_buffers()]:
            digest.update(f"{key} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().contiguous().numpy().data)
        return digest.hexdigest()

    def _show_counter(self, method: str, tensors: Sequence[Tensor | None]) -> None:
        """Do the same in torch without any numbers, for a dispatch mode that counts operations."""
        twin = getattr(deepcopy(self.module).to("meta"), method)
        twin(*(None if tensor is None else tensor.to("meta") for tensor in tensors))


class _Method(nn.Module):
    """A network with one of its methods for a `forward`, and only the tensors that are given."""

    def __init__(self, network: nn.Module, method: str, is_given: tuple[bool, ...]) -> None:
        super().__init__()
        self.network, self._method, self._is_given = network, method, is_given

    def forward(self, *given: Tensor) -> Tensor:
        rest = iter(given)
        tensors = [next(rest) if is_there else None for is_there in self._is_given]
        answer: Tensor = getattr(self.network, self._method)(*tensors)
        return answer


def _fill(piece: Tensor, count: int) -> Tensor:
    """So many pictures: the last one is repeated."""
    missing = count - len(piece)
    return piece if not missing else torch.cat((piece, piece[-1:].expand(missing, *piece.shape[1:])))


def _open(shape: Shape) -> Shape:
    """The shape with any height and width."""
    return (*shape[:2], -1, -1)


@cache
def tell_once(folder: Path) -> None:
    """One line on the first compilation of a process, which takes some seconds."""
    _LOG.warning("deblur: compiling networks for this CPU, once; they are kept in %s", folder)


@cache
def _import_openvino() -> Any:
    """The package, without the one that would tell its makers over the network that it was imported."""
    is_strange = _TELEMETRY not in sys.modules
    if is_strange:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    except (ImportError, OSError, RuntimeError, AttributeError) as fault:
        text = " ".join(str(fault).split())[:200]
        raise BackendError(f"OpenVINO cannot be imported ({text}); reinstall it, or add --engine torch") from fault
    finally:
        if is_strange:
            del sys.modules[_TELEMETRY]


@cache
def _find_core() -> Any:
    return _import_openvino().Core()


@cache
def _find_frontend() -> Any:
    _import_openvino()
    return importlib.import_module("openvino.frontend").FrontEndManager().load_by_framework("pytorch")


@cache
def _describe_place() -> list[str]:
    """What a compiled network depends on besides itself: the code of the networks, what converts it, and the CPU."""
    core = _find_core()
    code = hashlib.sha256()
    for folder in networks.__path__:
        for path in sorted(Path(folder).glob("*.py")):
            code.update(path.read_bytes())
    cpu = [core.get_property("CPU", key) for key in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    packages = [version(name) for name in ("torch", "diffusers")]
    return [
        __version__,
        code.hexdigest(),
        _import_openvino().__version__,
        *packages,
        platform.machine(),
        *map(str, cpu),
    ]

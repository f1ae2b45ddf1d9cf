"""Facts about the machine and the installation, for `deblur doctor`. Changes nothing, fetches nothing."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deblur_cli.errors import BackendError, WeightsError
from deblur_cli.system.version import __version__
from deblur_cli.weights import fetch, read_manifest

_PACKAGES = (
    *("torch", "numpy", "pillow", "pyvips", "pillow-heif", "rawpy", "diffusers", "peft", "accelerate"),
    *("safetensors", "huggingface-hub", "typer", "rich", "torchvision", "ray", "openvino"),
)
_OPTIONAL = frozenset(("pillow-heif", "rawpy", "torchvision", "ray", "openvino"))
_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


@dataclass(slots=True)
class Diagnosis:
    """What was found; `faults` are what keeps `deblur run` from working, `warnings` what is only a pity."""

    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def diagnose() -> Diagnosis:
    """Look at everything; takes some seconds, torch is imported."""
    found = Diagnosis()
    found.facts["deblur"] = {
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "installed_in": str(Path(__file__).parent),
    }
    found.facts["packages"] = _package_versions(found)
    found.facts["memory"] = _memory()
    _look_at_torch(found)
    _look_at_torchvision(found)
    _look_at_codecs(found)
    found.facts["cache"] = _caches()
    found.facts["weights"] = dict(_verify_weights(found))
    return found


def _package_versions(found: Diagnosis) -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
            if name not in _OPTIONAL:
                found.faults.append(f"{name} is not installed; reinstall deblur-cli")
    return versions


def _memory() -> dict[str, int | None]:
    """Bytes of RAM: in the machine, granted to this container, free right now."""
    return {
        "total": _sysconf("SC_PHYS_PAGES"),
        "limit": _container_limit(),
        "available": _sysconf("SC_AVPHYS_PAGES"),
    }


def _sysconf(name: str) -> int | None:
    try:
        return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # no such question on this system
        return None


def _container_limit() -> int | None:
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _look_at_torch(found: Diagnosis) -> None:
    try:
        import torch
    except (ImportError, OSError) as fault:
        found.faults.append(f"torch cannot be imported ({fault}); reinstall it")
        return
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    if torch.version.hip:
        build = f"ROCm {torch.version.hip}"
    found.facts["torch"] = {"version": torch.__version__, "build": build}
    found.facts["devices"] = _devices()
    found.facts["engines"] = _engines(found)
    _judge_build(found, build, has_card=torch.cuda.is_available())


def _judge_build(found: Diagnosis, build: str, *, has_card: bool) -> None:
    if has_card:
        return
    driver = _nvidia_driver()
    if build != "CPU" and driver is None:
        text = f"{build} build of torch on a machine without GPU: about 5 GB that are not needed"
        found.warnings.append(f"{text}; install torch with --index-url {_CPU_INDEX}")
    elif build == "CPU" and driver is not None:
        found.warnings.append(
            f"an NVIDIA card is there (driver {driver}), but this torch is built for the CPU; reinstall torch"
        )
    elif driver is not None:
        found.warnings.append(
            f"an NVIDIA card is there, but torch cannot use it; is driver {driver} too old for {build}?"
        )


def _devices() -> list[dict[str, Any]]:
    import torch

    from deblur_cli.system.devices import has_fast_bfloat16

    cpu = torch.device("cpu")
    devices: list[dict[str, Any]] = []
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        properties = torch.cuda.get_device_properties(device)
        card = {"name": f"cuda:{index}", "model": properties.name, "memory": properties.total_memory}
        devices.append({**card, "driver": _nvidia_driver(), "bfloat16": has_fast_bfloat16(device)})
    if torch.backends.mps.is_available():
        devices.append({"name": "mps", "bfloat16": has_fast_bfloat16(torch.device("mps"))})
    threads = torch.get_num_threads()
    return [*devices, {"name": "cpu", "threads": threads, "bfloat16": has_fast_bfloat16(cpu)}]


def _engines(found: Diagnosis) -> dict[str, str | None]:
    """What can run networks on this CPU, and which number formats it multiplies in hardware."""
    import torch

    from deblur_cli.backends.openvino_engine import list_formats
    from deblur_cli.system.devices import has_fast_bfloat16

    own = ["float32"] + ["bfloat16"] * has_fast_bfloat16(torch.device("cpu"))
    engines: dict[str, str | None] = {"torch": ", ".join(own), "openvino": None}
    if importlib.util.find_spec("openvino") is not None:
        try:
            engines["openvino"] = ", ".join(list_formats())
        except BackendError as fault:
            engines["openvino"] = "broken"
            found.warnings.append(str(fault))
    return engines


def _nvidia_driver() -> str | None:
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    query = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    answer = _run(query, seconds=20)
    return answer.stdout.splitlines()[0].strip() if answer and answer.returncode == 0 and answer.stdout else None


def _look_at_torchvision(found: Diagnosis) -> None:
    """A torchvision built for another torch breaks peft and diffusers; only importing it tells."""
    if importlib.util.find_spec("torchvision") is None:
        return
    answer = _run([sys.executable, "-c", "import torchvision"], seconds=120)
    if answer is None or answer.returncode:
        lines = answer.stderr.strip().splitlines() if answer else []
        reason = lines[-1] if lines else "no answer"
        found.warnings.append(f"torchvision does not match torch ({reason}); uninstall it, this tool does not need it")


def _run(command: list[str], *, seconds: float) -> "subprocess.CompletedProcess[str] | None":
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None


def _look_at_codecs(found: Diagnosis) -> None:
    try:
        from deblur_cli.image_io import codec_report
    except (ImportError, OSError) as fault:
        found.faults.append(f"the image codecs cannot be imported ({fault}); reinstall pillow and pyvips")
        return
    found.facts["codecs"] = codec_report()


def _caches() -> dict[str, Any]:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    return {"HF_HOME": constants.HF_HOME, "HF_HUB_CACHE": str(cache), "size": _folder_size(cache)}


def _folder_size(folder: Path) -> int:
    """Bytes of the files below a folder; links count for nothing, the Hub's snapshots are links."""
    total = 0
    for root, _, names in os.walk(folder):
        paths = (Path(root, name) for name in names)
        total += sum(path.lstat().st_size for path in paths if not path.is_symlink())
    return total


def _verify_weights(found: Diagnosis) -> Iterator[tuple[str, str]]:
    """Key and state of every file of a model that ships with the package."""
    try:
        models = read_manifest().models
    except WeightsError as fault:
        found.faults.append(str(fault))
        return
    files = {file.key: file for entry in models.values() for file in entry.files.values()}
    for key, file in files.items():
        if file.kind != "bundled":
            continue
        try:
            fetch(file)
        except WeightsError as fault:
            found.faults.append(str(fault))
            yield key, "damaged or missing"
        else:
            yield key, "verified"

"""A dual expert from its files: each of them says what it was trained on, and what does not belong is refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from deblur_cli import weights
from deblur_cli.backends.dual_expert import DualExpertBackend, Parts
from deblur_cli.backends.engines import choose_dtype, choose_engine
from deblur_cli.backends.expert import load_any_expert
from deblur_cli.backends.flow_base import (
    PROMPT_HINT,
    BaseFiles,
    error_context,
    find_base,
    load_base,
    load_prompt,
)
from deblur_cli.backends.tiled_codec import load_codec
from deblur_cli.checkpoint import check_tensors, read_content, read_metadata
from deblur_cli.errors import WeightsError
from deblur_cli.networks.flow_transformer import FlowTransformer, LoraSettings
from deblur_cli.system.typed_tables import read_table
from deblur_cli.weights import Fetched
from deblur_cli.weights.entries import FlowSettings
from deblur_cli.weights.model_spec import ResolvedModel

_ROLES = ("codec", "base_config", "base", "lora", "prompt")  # besides the expert, which has a loader of its own
_PARENTS = ("codec", "base")  # an expert may be another one: the flow is trained to forgive it
_NOT_OF_THE_LORA = ("start_noise", "window")  # what its config says besides the shape of its matrices


def load_dual_expert(model: ResolvedModel, device: torch.device, dtype: str) -> DualExpertBackend:
    """The backend of an entry with the roles codec and base, and perhaps expert, lora, prompt and base_config.

    Raises:
        WeightsError: a file is missing or damaged, does not fit, or was trained on another codec, base or prompt.
        BackendError: a network does not work in the asked number format, or spandrel is missing.
    """
    entry, settings = model.entry, model.settings
    fetched = {role: weights.fetch(entry.files[role]) for role in _ROLES if role in entry.files}
    paths = {role: file.path for role, file in fetched.items()}
    _check_roles(entry, settings)
    _check_kinship(fetched)
    chosen = choose_dtype(dtype, device, entry.dtypes)
    codec = load_codec(paths["codec"])
    engine = choose_engine(model.spec.engine, device, codec)
    flow_engine = _choose_flow_engine(paths, engine)
    flow = _load_flow(paths, device, chosen if flow_engine == "torch" else torch.float32)
    if flow.config.channels != codec.config.channels:
        both = f"{flow.config.channels} and {codec.config.channels} channels"
        raise WeightsError(f"{paths['base']}: its latents are not those of {paths['codec']} ({both})")
    estimating = model.expert or (entry if "expert" in entry.files else None)
    expert = None if estimating is None else load_any_expert(estimating, device, dtype, model.spec.engine)
    parts = Parts(expert, codec, flow, engine, flow_engine)
    return DualExpertBackend(entry.name, parts, _read_settings(paths, settings), device, chosen)


def _check_roles(entry: weights.ModelEntry, settings: Mapping[str, Any]) -> None:
    missing = [role for role in _PARENTS if role not in entry.files]
    if missing:
        raise WeightsError(f"{entry.name}: has no file in the role {' and '.join(missing)}")
    is_generic = settings.get("generic_noise") is not None
    if is_generic is ("lora" in entry.files):
        needs = "generic_noise is for a base without a lora" if is_generic else "needs a lora, or flow.generic_noise"
        raise WeightsError(f"{entry.name}: {needs}")


def _check_kinship(fetched: Mapping[str, Fetched]) -> None:
    for child in ("base", "lora"):
        told = _read_parents(fetched[child].path) if child in fetched else {}
        for parent in _PARENTS:
            if child == "lora" and child in fetched and parent not in told:
                path = fetched[child].path
                raise WeightsError(f"{path}: does not say which {parent} it was trained on; train it again")
            found = fetched[parent].sha256
            if told.get(parent, found) != found:
                pair = f"{fetched[child].path}: was trained on another {parent} than {fetched[parent].path}"
                raise WeightsError(f"{pair}; use the one with sha256 {str(told[parent])[:12]}…")
    if "lora" in fetched:
        _check_prompt(fetched["lora"].path, fetched.get("prompt"))


def _check_prompt(lora: Path, prompt: Fetched | None) -> None:
    """A prompt is an input of every layer: an adapter works with its own, or with none where it had none."""
    wanted = _read_parents(lora).get("prompt")
    if wanted == (prompt and prompt.sha256):
        return
    place = prompt.path if prompt else "none"
    needed = "without any" if wanted is None else f"with the one of sha256 {str(wanted)[:12]}…"
    raise WeightsError(f"{lora}: was trained with another prompt than {place}; use it {needed}")


def _read_parents(path: Path) -> Mapping[str, Any]:
    told: Mapping[str, Any] = read_metadata(path).get("trained_on", {})
    return told


def _choose_flow_engine(paths: Mapping[str, Path], engine: str) -> str:
    """A base from elsewhere has gigabytes, which nobody wants twice: torch runs it."""
    return "torch" if find_base(paths["base"], paths.get("base_config")).is_foreign else engine


def _load_flow(paths: Mapping[str, Path], device: torch.device, dtype: torch.dtype) -> FlowTransformer:
    """The base with its adapter fused into it, in the windows that the adapter was trained on."""
    files = find_base(paths["base"], paths.get("base_config"))
    if files.is_foreign and "prompt" not in paths:
        raise WeightsError(f"{files.place}: needs its empty prompt in the role prompt; {PROMPT_HINT}")
    flow = load_base(files, _read_window(files, paths), dtype, device, lean=True)
    if "lora" in paths:
        _load_adapter(flow, paths["lora"])
    if "prompt" in paths:
        load_prompt(flow, paths["prompt"])
    if dtype == torch.bfloat16:
        flow.use_exact_gelu()
    return flow


def _read_window(files: BaseFiles, paths: Mapping[str, Path]) -> int | None:
    """None where it is the base's own: without an adapter, or with one from before adapters told theirs."""
    if "lora" not in paths:
        return None
    config = _read_lora_config(paths["lora"])
    if "window" not in config and not files.is_foreign:
        return None
    with error_context(paths["lora"]):
        window = config["window"]
        if not isinstance(window, int) or isinstance(window, bool) or window < 1:
            raise ValueError(f"window must be a whole number above 0, not {window!r}")
    return window


def _load_adapter(flow: FlowTransformer, path: Path) -> None:
    tensors = check_tensors(read_content(path), path)
    columns = {key: value for key, value in tensors.items() if ".condition." in key}
    shape = {key: value for key, value in _read_lora_config(path).items() if key not in _NOT_OF_THE_LORA}
    with error_context(path):
        if columns:
            flow.widen()
        if any(".lora_" in key for key in tensors):
            flow.load_fused(read_table(LoraSettings, shape), tensors)
        else:  # a training of every weight, which LoRA is compared with
            flow.load_base({key: value for key, value in tensors.items() if key not in columns})
            flow.load_adapter(columns)


def _read_settings(paths: Mapping[str, Path], settings: Mapping[str, Any]) -> FlowSettings:
    """As asked; the start noise is the one of the training where nobody asks for another."""
    if "lora" not in paths:
        return read_table(FlowSettings, settings)
    with error_context(paths["lora"]):
        return read_table(FlowSettings, {"start_noise": _read_lora_config(paths["lora"])["start_noise"], **settings})


def _read_lora_config(path: Path) -> Mapping[str, Any]:
    config = read_metadata(path).get("config")
    if not isinstance(config, dict):
        raise WeightsError(f"{path}: not an adapter of this tool (no config)")
    return config

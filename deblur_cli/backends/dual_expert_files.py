"""A dual expert from its files: each of them says what it was trained on, and what does not belong is refused."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from deblur_cli import weights
from deblur_cli.backends.contract import Backend
from deblur_cli.backends.dual_expert import DualExpertBackend, Parts
from deblur_cli.backends.expert import choose_dtype, load_expert
from deblur_cli.backends.foreign import load_foreign
from deblur_cli.checkpoint import check_tensors, load_strict, read_content, read_metadata
from deblur_cli.errors import WeightsError
from deblur_cli.flow_settings import FlowSettings
from deblur_cli.networks.flow_transformer import FlowTransformer, FlowTransformerConfig, LoraSettings
from deblur_cli.networks.residual_codec import ResidualCodec, ResidualCodecConfig

_ROLES = ("codec", "base", "lora", "prompt")  # besides the expert, which has a loader of its own
_PARENTS = ("codec", "base")  # an expert may be another one: the flow is trained to forgive it


def load_dual_expert(
    entry: weights.ModelEntry,
    device: torch.device,
    dtype: str,
    settings: Mapping[str, Any],
    expert: Path | None = None,
) -> DualExpertBackend:
    """The backend of a manifest entry with the roles codec and base, and perhaps expert, lora and prompt.

    Args:
        settings: of the flow, as `ModelSpec.resolve` gives them.
        expert: a checkpoint that spandrel knows, instead of the entry's expert.
    Raises:
        WeightsError: a file is missing or damaged, does not fit, or was trained on another codec or base.
        BackendError: a network does not work in the asked number format, or spandrel is missing.
    """
    paths = {role: weights.fetch(entry.files[role]) for role in _ROLES if role in entry.files}
    _check_roles(entry, settings)
    _check_kinship(entry, paths)
    chosen = choose_dtype(dtype, device, entry.dtypes)
    codec = _load_codec(paths["codec"])
    flow = _load_flow(paths, device, chosen)
    if flow.config.channels != codec.config.channels:
        both = f"{flow.config.channels} and {codec.config.channels} channels"
        raise WeightsError(f"{paths['base']}: its latents are not those of {paths['codec']} ({both})")
    parts = Parts(_load_any_expert(entry, device, dtype, expert), codec, flow)
    return DualExpertBackend(entry.name, parts, _read_settings(paths, settings), device, chosen)


def _load_any_expert(entry: weights.ModelEntry, device: torch.device, dtype: str, file: Path | None) -> Backend | None:
    if file is not None:
        return load_foreign(file, device, dtype)
    return load_expert(entry, device, dtype) if "expert" in entry.files else None


def _check_roles(entry: weights.ModelEntry, settings: Mapping[str, Any]) -> None:
    missing = [role for role in _PARENTS if role not in entry.files]
    if missing:
        raise WeightsError(f"{entry.name}: has no file in the role {' and '.join(missing)}")
    is_generic = settings.get("generic_noise") is not None
    if is_generic is ("lora" in entry.files):
        needs = "generic_noise is for a base without a lora" if is_generic else "needs a lora, or flow.generic_noise"
        raise WeightsError(f"{entry.name}: {needs}")


def _check_kinship(entry: weights.ModelEntry, paths: Mapping[str, Path]) -> None:
    for child in ("base", "lora"):
        told = read_metadata(paths[child]).get("trained_on", {}) if child in paths else {}
        for parent in _PARENTS:
            if child == "lora" and child in paths and parent not in told:
                raise WeightsError(f"{paths[child]}: does not say which {parent} it was trained on; train it again")
            found = entry.files[parent].sha256 or weights.hash_file(paths[parent])
            if told.get(parent, found) != found:
                wanted = f"use the one with sha256 {str(told[parent])[:12]}…"
                raise WeightsError(f"{paths[child]}: was trained on another {parent} than {paths[parent]}; {wanted}")


def _load_codec(path: Path) -> ResidualCodec:
    with _blaming(path):
        codec = ResidualCodec(ResidualCodecConfig.from_json(read_metadata(path).get("config", {})))
    load_strict(codec, path)
    return codec


def _load_flow(paths: Mapping[str, Path], device: torch.device, dtype: torch.dtype) -> FlowTransformer:
    """The base with its adapter fused into it. Built without memory first: a large one is there once only."""
    with _blaming(paths["base"]), torch.device("meta"):
        flow = FlowTransformer(FlowTransformerConfig.from_json(read_metadata(paths["base"]).get("config", {})))
    flow.to(dtype).to_empty(device=device)
    with _blaming(paths["base"]):
        flow.load_base(check_tensors(read_content(paths["base"]), paths["base"]))
    if "lora" in paths:
        _load_adapter(flow, paths["lora"])
    if "prompt" in paths:
        tensors = check_tensors(read_content(paths["prompt"]), paths["prompt"])
        with _blaming(paths["prompt"]):
            flow.set_prompt(tensors["prompt"], tensors.get("pooled"))
    return flow


def _load_adapter(flow: FlowTransformer, path: Path) -> None:
    tensors = check_tensors(read_content(path), path)
    shape = {key: value for key, value in _read_lora_config(path).items() if key != "start_noise"}
    with _blaming(path):
        if any(".condition." in key for key in tensors):
            flow.widen()
        flow.attach_lora(LoraSettings.from_json(shape))
        flow.load_adapter(tensors)
        flow.fuse()


def _read_settings(paths: Mapping[str, Path], settings: Mapping[str, Any]) -> FlowSettings:
    """As asked; the start noise is the one of the training where nobody asks for another."""
    if "lora" not in paths:
        return FlowSettings.from_table(settings)
    with _blaming(paths["lora"]):
        return FlowSettings.from_table({"start_noise": _read_lora_config(paths["lora"])["start_noise"], **settings})


def _read_lora_config(path: Path) -> Mapping[str, Any]:
    config = read_metadata(path).get("config")
    if not isinstance(config, dict):
        raise WeightsError(f"{path}: not an adapter of this tool (no config)")
    return config


@contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """What a config or a state dict is refused for becomes one line that names its file."""
    try:
        yield
    except KeyError as fault:
        raise WeightsError(f"{path}: lacks {fault}") from fault
    except (TypeError, ValueError, AttributeError) as fault:
        raise WeightsError(f"{path}: {' '.join(str(fault).split())}") from fault

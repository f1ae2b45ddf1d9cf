"""The fidelity expert alone, one network in one pass: of a model, from a file of ours, or one that spandrel knows."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deblur_cli import weights
from deblur_cli.backends.blended import BlendedBackend, Second
from deblur_cli.backends.engines import Float32Fallback, check_engine, choose_dtype, choose_engine
from deblur_cli.backends.foreign import load_foreign
from deblur_cli.checkpoint import limited_by, load_strict, read_metadata
from deblur_cli.conversion.maxim_file import convert_maxim_once
from deblur_cli.errors import WeightsError
from deblur_cli.networks.experts import find_expert
from deblur_cli.networks.needs import FEATHER, Expert
from deblur_cli.networks.version_blend import BlendConfig, VersionBlend
from deblur_cli.restoration.contract import Backend, Cut
from deblur_cli.restoration.tiling import Tiling, Windows
from deblur_cli.system.typed_tables import read_table


class ExpertBackend:
    """Runs an expert in its number format and adds the residual in float32."""

    def __init__(
        self,
        name: str,
        network: Expert,
        device: torch.device,
        dtype: torch.dtype,
        tiling: Cut | None = None,
        engine: str = "torch",
    ) -> None:
        self.name, self.device, self.dtype = name, device, dtype
        self.tiling = tiling or choose_tiling(network, device, engine)
        self.work = network.config.needs.work
        self._network = Float32Fallback(network, device, dtype, engine)

    @property
    def module(self) -> nn.Module:
        """See `Backend`."""
        return self._network.module

    @torch.inference_mode()
    def restore(self, blurry: Tensor) -> Tensor:
        """See `Backend.restore`."""
        return blurry + self._network.run("predict_residual", blurry.contiguous(memory_format=torch.channels_last))


def load_expert(entry: weights.ModelEntry, device: torch.device, dtype: str, engine: str | None = None) -> Backend:
    """The backend of a manifest entry with the role `expert`, and perhaps a `blend` of its estimate and other versions,
    of which the estimate of a `second` expert may be one.

    Raises:
        WeightsError: a file is missing or damaged, the entry's network, config or tiling is none, or the blend was
            trained on other experts.
        BackendError: the network does not work in the asked number format or engine.
    """
    fetched = weights.fetch(entry.files["expert"])
    path = convert_maxim_once(fetched.path) if entry.takes_published_maxim else fetched.path
    network = read_network(path, entry.network, entry.config, entry.checkpoint_key)
    expert = _build(entry, network, device, dtype, engine)
    if "blend" not in entry.files:
        return expert
    hashes, second = {"expert": fetched.sha256}, None
    if "second" in entry.files:
        other = weights.fetch(entry.files["second"])
        hashes["second"] = other.sha256
        backend = _build(entry, read_network(other.path, entry.network, {}), device, dtype, engine)
        second = Second(backend, backend.work)
    blend = _read_blend(weights.fetch(entry.files["blend"]).path, hashes)
    return BlendedBackend(expert, blend, expert.work, second)


def _build(
    entry: weights.ModelEntry, network: Expert, device: torch.device, dtype: str, engine: str | None
) -> ExpertBackend:
    """A network in the number format, the engine and the tiling that suit it and the entry."""
    chosen = choose_dtype(dtype, device, entry.dtypes or network.config.needs.dtypes)
    runs = choose_engine(engine, device, network)
    tiling = _adjust(choose_tiling(network, device, runs), entry)
    return ExpertBackend(entry.name, network, device, chosen, tiling, runs)


def choose_tiling(network: Expert, device: torch.device, engine: str = "torch") -> Cut:
    """The cut that suits a network's needs, and what runs it: an engine other than torch divides its threads itself."""
    needs, size = network.config.needs, 2048 if device.type == "cuda" else 1536
    if needs.window is not None:  # CPUs gain nothing from several at once, and one at a time is the same to the bit
        batched = device.type != "cpu"
        alone = 0 if batched or engine != "torch" else needs.memory * needs.window**2
        return Windows(needs.window, needs.shared, size, needs.smallest_window, needs.multiple_of, batched, alone)
    return Tiling(size, needs.context, FEATHER, needs.multiple_of).with_size(size)


def read_network(path: Path, kind: str, config: Mapping[str, Any], checkpoint_key: str | None = None) -> Expert:
    """A network with its weights. Its kind and shape stand in the file, or else are those that are given.

    Args:
        config: of a kind that can be reshaped, what is wanted of it: perhaps the first stages of what the file holds.
    Raises:
        WeightsError: the file is missing or damaged, or no such network.
    """
    metadata = read_metadata(path) if path.suffix == ".safetensors" else {}
    kind, told = metadata.get("network", kind), metadata.get("config", {})
    try:
        found = find_expert(kind)
    except (TypeError, ValueError) as fault:
        raise WeightsError(f"{path}: {fault}") from fault
    try:
        with limited_by(path):
            network = found.network(read_table(found.config, told or config))
        load_strict(network, path, checkpoint_key)
        if found.reshape is not None:
            return found.reshape(network, read_table(found.config, {**told, **config}))
    except (TypeError, ValueError, AttributeError) as fault:
        raise WeightsError(f"{path}: its config is none of the network {kind} ({fault})") from fault
    return network


def _read_blend(path: Path, experts: Mapping[str, str]) -> VersionBlend:
    """What weighs an expert's estimate against other versions; `experts` are role and sha256 of their files."""
    told = read_metadata(path)
    for role, named in (("expert", "expert"), ("second", "second expert")):
        wanted = told.get("trained_on", {}).get(role)
        if wanted == experts.get(role):
            continue
        if role == "second" and wanted is None:
            raise WeightsError(f"{path}: was trained on one expert alone; leave the second one out")
        raise WeightsError(f"{path}: was trained on another {named}; use the one with sha256 {str(wanted)[:12]}…")
    try:
        with limited_by(path):
            blend = VersionBlend(read_table(BlendConfig, told.get("config", {})))
    except (TypeError, ValueError, KeyError, AttributeError) as fault:
        raise WeightsError(f"{path}: holds no blend ({fault}); `deblur train blend` makes one") from fault
    if blend.config.second is not ("second" in experts):
        raise WeightsError(f"{path}: does not say how many experts it weighs; `deblur train blend` makes one that does")
    load_strict(blend, path)
    return blend


def _adjust(tiling: Cut, entry: weights.ModelEntry) -> Cut:
    try:
        adjusted: Cut = replace(tiling, **entry.tiling)  # type: ignore[type-var]
        return adjusted.with_size(adjusted.size)
    except TypeError as fault:
        raise WeightsError(f"{entry.name}: its tiling is none ({fault})") from fault


_FIRST = "dense_unet"  # the network of our files from before they named it


def load_any_expert(entry: weights.ModelEntry, device: torch.device, dtype: str, engine: str | None = None) -> Backend:
    """The backend of an expert.

    Args:
        entry: without a `network` it is a file that somebody brought: its metadata says whether it is ours.
    Raises:
        WeightsError: a file is missing or damaged, could run code, or holds no network that we or spandrel know.
        BackendError: the network does not work in the asked number format, or spandrel is missing or broken.
    """
    if entry.network:
        return load_expert(entry, device, dtype, engine)
    path = weights.fetch(entry.files["expert"]).path
    if is_ours(path):
        return load_expert(replace(entry, network=_FIRST), device, dtype, engine)
    check_engine(engine, "networks of spandrel")
    return load_foreign(path, device, dtype)


def is_ours(path: Path) -> bool:
    """Whether a file says what this project's trainings say of theirs; a damaged one does not."""
    try:
        return path.suffix == ".safetensors" and isinstance(read_metadata(path).get("config"), dict)
    except WeightsError:
        return False

"""The fidelity expert alone: one network that predicts what is missing in a photo, one pass."""

import copy
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deblur_cli import weights
from deblur_cli.checkpoint import limited_by, load_strict, read_metadata
from deblur_cli.conversion.maxim_file import convert_maxim_once
from deblur_cli.errors import BackendError, WeightsError
from deblur_cli.networks.deconvolving_expert import BlendConfig, DeconvolvingExpert, VersionBlend
from deblur_cli.networks.dense_unet import DenseUNet
from deblur_cli.networks.experts import find_expert
from deblur_cli.networks.maxim import Maxim, MaximConfig
from deblur_cli.networks.nafnet import NAFNet
from deblur_cli.networks.needs import FEATHER
from deblur_cli.restoration.fixed_windows import Windows
from deblur_cli.restoration.tiling import Tiling
from deblur_cli.system.devices import find_dtype
from deblur_cli.system.typed_tables import read_table

ResidualNetwork = DenseUNet | NAFNet | Maxim | DeconvolvingExpert


class ExpertBackend:
    """Runs a residual network in its number format and adds the residual in float32."""

    def __init__(
        self,
        name: str,
        network: ResidualNetwork,
        device: torch.device,
        dtype: torch.dtype,
        tiling: Tiling | Windows | None = None,
    ) -> None:
        self.name, self.device, self.dtype = name, device, dtype
        self.tiling = tiling or choose_tiling(network, device)
        self._exact: ResidualNetwork | None = None
        self._original = network.eval()
        self.module: ResidualNetwork = self._place(network, dtype)

    @torch.inference_mode()
    def restore(self, blurry: Tensor) -> Tensor:
        """See `Backend.restore`; a result that is not finite is computed again in float32."""
        restored = self._run(self.module, blurry)
        if self.dtype != torch.float32 and not bool(restored.sum().isfinite()):
            restored = self._run(self._exact_network(), blurry)
        return restored

    def _run(self, network: ResidualNetwork, blurry: Tensor) -> Tensor:
        residual: Tensor = network.predict_residual(blurry.contiguous(memory_format=torch.channels_last))
        return blurry + residual.float()

    def _exact_network(self) -> ResidualNetwork:
        if self._exact is None:
            self._exact = self._place(self._original, torch.float32)
        return self._exact

    def _place(self, network: ResidualNetwork, dtype: torch.dtype) -> ResidualNetwork:
        placed = copy.deepcopy(network).to(device=self.device, dtype=dtype)
        return placed.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def load_expert(entry: weights.ModelEntry, device: torch.device, dtype: str) -> ExpertBackend:
    """The backend of a manifest entry with the role `expert`, and perhaps a `blend` of it with deconvolutions.

    Raises:
        WeightsError: a file is missing or damaged, the entry's network, config or tiling is none, or the blend was
            trained on another expert.
        BackendError: the network does not work in the asked number format.
    """
    fetched = weights.fetch(entry.files["expert"])
    path = convert_maxim_once(fetched.path) if entry.takes_published_maxim else fetched.path
    alone = read_network(path, entry.network, entry.config, entry.checkpoint_key)
    network: ResidualNetwork = alone
    if "blend" in entry.files:
        network = _add_blend(alone, weights.fetch(entry.files["blend"]).path, fetched.sha256)
    tiling = _adjust(choose_tiling(network, device), entry)
    return ExpertBackend(entry.name, network, device, choose_dtype(dtype, device, entry.dtypes), tiling)


def choose_dtype(asked: str, device: torch.device, supported: Collection[str]) -> torch.dtype:
    """The asked number format; `auto` falls back to float32 where the network does not work in the fast one.

    Args:
        supported: names of number formats; empty where nobody has looked.
    Raises:
        BackendError: the one that was asked by name is not among them.
    """
    dtype = find_dtype(asked, device)
    if not supported or str(dtype).removeprefix("torch.") in supported:
        return dtype
    if asked != "auto":
        raise BackendError(f"--dtype {asked}: this network does not work in it; use {' or '.join(supported)}")
    return torch.float32


def choose_tiling(network: ResidualNetwork, device: torch.device) -> Tiling | Windows:
    """The cut that suits a network's needs."""
    needs, size = network.config.needs, 2048 if device.type == "cuda" else 1536
    if needs.window is not None:  # CPUs gain nothing from several at once, and one at a time is the same to the bit
        batched = device.type != "cpu"
        return Windows(needs.window, needs.shared, size, needs.smallest_window, needs.multiple_of, batched)
    return Tiling(size, needs.context, FEATHER, needs.multiple_of).with_size(size)


def read_network(
    path: Path, kind: str, config: Mapping[str, Any], checkpoint_key: str | None = None
) -> DenseUNet | NAFNet | Maxim:
    """A network with its weights. Its kind and shape stand in the file, or else are those that are given.

    Args:
        config: of a MAXIM, what is wanted of it: it may be the first stages of what the file holds.
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
            shape = read_table(found.config, told or config)
            network: DenseUNet | NAFNet | Maxim = found.network(shape)  # type: ignore[assignment]
        load_strict(network, path, checkpoint_key)
        if isinstance(network, Maxim):
            return network.reshaped(read_table(MaximConfig, {**told, **config}))
    except (TypeError, ValueError, AttributeError) as fault:
        raise WeightsError(f"{path}: its config is none of the network {kind} ({fault})") from fault
    return network


def _add_blend(network: DenseUNet | NAFNet | Maxim, path: Path, expert: str) -> DeconvolvingExpert:
    """The network with what weighs its estimate against deconvolutions; `expert` is the sha256 of its file."""
    told = read_metadata(path)
    wanted = told.get("trained_on", {}).get("expert")
    if wanted != expert:
        raise WeightsError(f"{path}: was trained on another expert; use the one with sha256 {str(wanted)[:12]}…")
    try:
        with limited_by(path):
            whole = DeconvolvingExpert(network, VersionBlend(read_table(BlendConfig, told.get("config", {}))))
    except (TypeError, ValueError, KeyError, AttributeError) as fault:
        raise WeightsError(f"{path}: holds no blend ({fault}); `deblur train blend` makes one") from fault
    load_strict(whole.blend, path)
    return whole


def _adjust(tiling: Tiling | Windows, entry: weights.ModelEntry) -> Tiling | Windows:
    try:
        adjusted: Tiling | Windows = replace(tiling, **entry.tiling)  # type: ignore[arg-type]
        return adjusted.with_size(adjusted.size)
    except TypeError as fault:
        raise WeightsError(f"{entry.name}: its tiling is none ({fault})") from fault

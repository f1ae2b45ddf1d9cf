"""The fidelity expert alone: one network that predicts what is missing in a photo, one pass."""

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deblur_cli import weights
from deblur_cli.checkpoint import limited_by, load_strict, read_metadata
from deblur_cli.devices import find_dtype
from deblur_cli.errors import BackendError, WeightsError
from deblur_cli.networks.deconvolving_expert import BlendConfig, DeconvolvingExpert, VersionBlend
from deblur_cli.networks.dense_unet import DenseUNet, DenseUNetConfig
from deblur_cli.networks.nafnet import NAFNet, NAFNetConfig
from deblur_cli.tiling import Tiling
from deblur_cli.weights.store import expected_sha256

ResidualNetwork = DenseUNet | NAFNet | DeconvolvingExpert

_FEATHER = 32


class ExpertBackend:
    """Runs a residual network in its number format and adds the residual in float32."""

    def __init__(
        self,
        name: str,
        network: ResidualNetwork,
        device: torch.device,
        dtype: torch.dtype,
        tiling: Tiling | None = None,
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
    path = weights.fetch(entry.files["expert"])
    alone = _build_network(entry, path)
    load_strict(alone, path, entry.checkpoint_key)
    network: ResidualNetwork = alone
    if "blend" in entry.files:
        sha256 = expected_sha256(entry.files["expert"]) or weights.hash_file(path)
        network = _add_blend(alone, weights.fetch(entry.files["blend"]), sha256)
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


def choose_tiling(network: ResidualNetwork, device: torch.device) -> Tiling:
    """The cut that suits a network.

    Dense U-Net: measured on the shipped weights, with 128 pixels of context tiles of 512 agree with the photo in one
    piece to 70 dB (64: 52 dB, 96: 59 dB), and tiny ones still to 50 dB. NAFNet: half its averaging window, so that the
    pixels which count average over the same windows as in the whole photo. What its deeper blocks still see of a cut
    was measured on random weights only: 44-58 dB to the photo in one tile, worst where blocks change most. With
    deconvolution the grid is that of the windows, so that a tile has the windows of the whole photo, and what
    neighbouring tiles share anyway is all context. Where they share the least, the ramp still reaches into windows
    whose outermost 32 pixels are repeated: two GoPro photos of 1280x720 in the smallest tiles agree with one tile to
    56 and 59 dB, in tiles that share a window more to 105 (throw-away script). A window more everywhere would be more
    pixels to restore, by the count of the CPU's tiles 14 % of 6 megapixels and 37 % of 24.
    """
    window = network.config.window(0) if isinstance(network, NAFNet) else None
    grid = network.config.multiple_of
    context = 128 if window is None else -(-window // 2 // grid) * grid
    if isinstance(network, DeconvolvingExpert):
        context = (-(-(2 * context + _FEATHER) // grid) * grid - _FEATHER) // 2
    size = 2048 if device.type == "cuda" else 1536
    return Tiling(size, context, _FEATHER, grid).with_size(size)


def _build_network(entry: weights.ModelEntry, path: Path) -> DenseUNet | NAFNet:
    """The untrained network of an entry; its config stands there or in the file."""
    if entry.network not in _BUILDERS:
        raise WeightsError(f"{entry.name}: unknown network {entry.network!r}; known are {', '.join(_BUILDERS)}")
    config = entry.config or read_metadata(path).get("config", {})
    try:
        with limited_by(path):
            return _BUILDERS[entry.network](config)
    except (TypeError, ValueError, AttributeError) as fault:
        raise WeightsError(f"{path}: its config is none of the network {entry.network} ({fault})") from fault


def _add_blend(network: DenseUNet | NAFNet, path: Path, expert: str) -> DeconvolvingExpert:
    """The network with what weighs its estimate against deconvolutions; `expert` is the sha256 of its file."""
    told = read_metadata(path)
    wanted = told.get("trained_on", {}).get("expert")
    if wanted != expert:
        raise WeightsError(f"{path}: was trained on another expert; use the one with sha256 {str(wanted)[:12]}…")
    try:
        with limited_by(path):
            whole = DeconvolvingExpert(network, VersionBlend(BlendConfig.from_json(told.get("config", {}))))
    except (TypeError, ValueError, KeyError, AttributeError) as fault:
        raise WeightsError(f"{path}: holds no blend ({fault}); `deblur train blend` makes one") from fault
    load_strict(whole.blend, path)
    return whole


def _adjust(tiling: Tiling, entry: weights.ModelEntry) -> Tiling:
    try:
        adjusted = replace(tiling, **entry.tiling)
        return adjusted.with_size(adjusted.size)
    except TypeError as fault:
        raise WeightsError(f"{entry.name}: its tiling is none ({fault})") from fault


def _build_dense_unet(config: Mapping[str, Any]) -> DenseUNet:
    return DenseUNet(DenseUNetConfig.from_json(config))


def _build_nafnet(config: Mapping[str, Any]) -> NAFNet:
    return NAFNet(NAFNetConfig.from_json(config))


_BUILDERS: dict[str, Callable[[Mapping[str, Any]], DenseUNet | NAFNet]] = {
    "dense_unet": _build_dense_unet,
    "nafnet": _build_nafnet,
}

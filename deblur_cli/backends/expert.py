"""The fidelity expert alone: one network, one pass."""

import copy

import torch
from torch import Tensor

from deblur_cli import weights
from deblur_cli.checkpoint import load_strict, read_metadata
from deblur_cli.devices import find_dtype
from deblur_cli.errors import WeightsError
from deblur_cli.networks.dense_unet import DenseUNet, DenseUNetConfig
from deblur_cli.tiling import Tiling

# Measured on the shipped weights: beyond this distance a pixel changes the result by less than 50 dB (see the card).
_CONTEXT = 64
_FEATHER = 32
_TILE = {"cpu": 1024, "mps": 1024, "cuda": 2048}


class ExpertBackend:
    """Runs a residual network in its number format and adds the residual in float32."""

    def __init__(self, name: str, network: DenseUNet, device: torch.device, dtype: torch.dtype) -> None:
        self.name, self.device, self.dtype = name, device, dtype
        self._exact: DenseUNet | None = None
        self._original = network.eval()
        self.module: DenseUNet = self._place(network, dtype)
        self.tiling = Tiling(_TILE[device.type], _CONTEXT, _FEATHER, network.config.multiple_of)

    @torch.inference_mode()
    def restore(self, blurry: Tensor) -> Tensor:
        """See `Backend.restore`; a result that is not finite is computed again in float32."""
        restored = self._run(self.module, blurry, self.dtype)
        if self.dtype != torch.float32 and not bool(restored.sum().isfinite()):
            restored = self._run(self._exact_network(), blurry, torch.float32)
        return restored

    def _run(self, network: DenseUNet, blurry: Tensor, dtype: torch.dtype) -> Tensor:
        features = blurry.to(dtype).contiguous(memory_format=torch.channels_last)
        residual: Tensor = network.predict_residual(features)
        return blurry + residual.float()

    def _exact_network(self) -> DenseUNet:
        if self._exact is None:
            self._exact = self._place(self._original, torch.float32)
        return self._exact

    def _place(self, network: DenseUNet, dtype: torch.dtype) -> DenseUNet:
        placed = copy.deepcopy(network).to(device=self.device, dtype=dtype)
        return placed.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def load_expert(entry: weights.ModelEntry, device: torch.device, dtype: str) -> ExpertBackend:
    """The backend of a manifest entry with the role `expert`.

    Raises:
        WeightsError: the file is missing, damaged, or its config is not a dense U-Net's.
    """
    path = weights.fetch(entry.files["expert"])
    config = read_metadata(path).get("config", {})
    try:
        network = DenseUNet(DenseUNetConfig.from_json(config))
    except (TypeError, ValueError, AttributeError) as fault:
        raise WeightsError(f"{path}: its config is no dense U-Net's ({fault})") from fault
    load_strict(network, path)
    return ExpertBackend(entry.name, network, device, find_dtype(dtype, device))

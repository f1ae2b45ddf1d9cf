"""LPIPS' weights, found and verified, and its metric. The heads ship; the backbones are torch's own files."""

from pathlib import Path

import torch
from torch import Tensor

from deblur_cli import weights
from deblur_cli.errors import WeightsError
from deblur_cli.metrics.sample import Pixels8, Sample, to_float
from deblur_cli.networks.lpips import Lpips, Network

_BACKBONES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}


class LpipsMetric:
    """LPIPS as a metric's function, its network on one device."""

    def __init__(self, network: Lpips) -> None:
        self._network = network

    @torch.inference_mode()
    def __call__(self, sample: Sample) -> float:
        """Distance of restored and sharp; float32, full image.

        Raises:
            ValueError: the photo is too small for the network.
        """
        restored, sharp = (_to_batch(pixels, sample) for pixels in (sample.restored, sample.sharp))
        return float(self._network(restored, sharp))


def load_lpips(network: Network, device: torch.device | str = "cpu") -> LpipsMetric:
    """The metric with verified weights.

    Raises:
        WeightsError: the backbone is absent (says how to get it) or a file's hash is not the expected one.
    """
    backbone = _read(_find_backbone(network))
    heads = _read(weights.fetch(weights.read_manifest().files[f"lpips-{network}"]))
    lpips = Lpips(network)
    try:
        lpips.load_weights(backbone, heads)
    except (RuntimeError, KeyError) as fault:
        raise WeightsError(f"LPIPS ({network}): the weights do not fit the network") from fault
    return LpipsMetric(lpips.to(device))


def _find_backbone(network: Network) -> Path:
    """Torch's own cache is the only place looked at; nothing is downloaded behind the user's back."""
    name = _BACKBONES[network]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        address = f"https://download.pytorch.org/models/{name}"
        raise WeightsError(f"LPIPS needs {name}: download {address} to {_shorten(path.parent)}")
    expected, found = name.split("-")[-1].removesuffix(".pth"), weights.hash_file(path)  # torch's own naming rule
    if not found.startswith(expected):
        raise WeightsError(f"{path}: sha256 begins {found[:8]}, expected {expected}; download it again")
    return path


def _shorten(path: Path) -> str:
    """With ~ for the home folder: the line goes into reports that others read."""
    return f"~/{path.relative_to(Path.home()).as_posix()}" if path.is_relative_to(Path.home()) else str(path)


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a verified .pth file."""
    table: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return table


def _to_batch(pixels: Pixels8, sample: Sample) -> Tensor:
    return to_float(pixels, sample.device).permute(2, 0, 1)[None] / 255  # (1, 3, H, W)

"""LPIPS' weights, found and verified, and its metric. The heads and AlexNet ship; VGG16 is torch's own file."""

from pathlib import Path

import torch
from torch import Tensor

from deblur_cli import weights
from deblur_cli.checkpoint import read_content
from deblur_cli.errors import WeightsError
from deblur_cli.metrics.sample import Pixels8, Sample, to_float
from deblur_cli.networks.lpips import Backbone, Lpips
from deblur_cli.system.files import hash_file
from deblur_cli.weights.manifest import read_shipped_manifest

VGG_FILE = "vgg16-397923af.pth"  # 528 MB, too big to ship


class LpipsMetric:
    """LPIPS as a metric's function, its network on one device."""

    def __init__(self, network: Lpips) -> None:
        self.network = network

    @torch.inference_mode()
    def __call__(self, sample: Sample) -> float:
        """Distance of restored and sharp; float32, full image.

        Raises:
            ValueError: the photo is too small for the network.
        """
        restored, sharp = (_to_batch(pixels, sample) for pixels in (sample.restored, sample.sharp))
        return float(self.network(restored, sharp))


def load_lpips(network: Backbone, device: torch.device | str = "cpu") -> LpipsMetric:
    """The metric with verified weights.

    Raises:
        WeightsError: the backbone is absent (says how to get it) or a file's hash is not the expected one.
    """
    backbone = read_content(_fetch_shipped("lpips-alex-backbone")) if network == "alex" else _read(_find_vgg())
    heads = _read(_fetch_shipped(f"lpips-{network}"))
    lpips = Lpips(network)
    try:
        lpips.load_weights(backbone, heads)
    except (RuntimeError, KeyError) as fault:
        raise WeightsError(f"LPIPS ({network}): the weights do not fit the network") from fault
    return LpipsMetric(lpips.to(device))


def _fetch_shipped(key: str) -> Path:
    return weights.fetch(read_shipped_manifest().files[key]).path


def _find_vgg() -> Path:
    """Torch's own cache is the only place looked at; nothing is downloaded behind the user's back."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / VGG_FILE
    if not path.is_file():
        address = f"https://download.pytorch.org/models/{VGG_FILE}"
        raise WeightsError(f"LPIPS (vgg) needs {VGG_FILE}: download {address} to {_shorten(path.parent)}")
    expected, found = Path(VGG_FILE).stem.partition("-")[2], hash_file(path)  # torch's own naming rule
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

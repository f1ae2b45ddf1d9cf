"""The weights of a training and of what it began with, averaged: most of what was learned, little that was forgotten.

Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (arXiv 2109.01903).
"""

from pathlib import Path

from torch import Tensor

from deblur_cli.checkpoint import check_tensors, read_content, read_metadata, save_tensors
from deblur_cli.errors import WeightsError
from deblur_cli.system.files import hash_file


def write_average(trained: Path, origin: Path, share: float, out: Path) -> None:
    """Write `share` of the trained weights and the rest of the origin's, with the metadata of the trained ones.

    Args:
        origin: what the training began with; it may hold more, such as further stages of the network.
        share: of the trained weights, 0 to 1.
    Raises:
        WeightsError: a file is missing or damaged, or the trained weights are not of the origin's shape.
    """
    own = check_tensors(read_content(trained), trained)
    other = check_tensors(read_content(origin), origin)
    mixed = {key: _mix(key, tensor, other, share, origin) for key, tensor in own.items()}
    averaged = {"share": share, "with": hash_file(origin)}
    save_tensors(mixed, out, read_metadata(trained) | {"averaged": averaged})


def _mix(key: str, tensor: Tensor, other: dict[str, Tensor], share: float, origin: Path) -> Tensor:
    if key not in other or other[key].shape != tensor.shape:
        wanted = f"{key} of the shape {tuple(tensor.shape)}"
        raise WeightsError(f"{origin}: holds no {wanted}; give what the training began with")
    return share * tensor.float() + (1 - share) * other[key].float()

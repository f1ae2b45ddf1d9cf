"""Which photos of a batch are restored, and which places of them: `--only-blurred`, `--where` and `--mask`.

Can be pickled, so that a worker anywhere decides photo by photo. Knows no network, and no torch before it is asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from deblur_cli.batch.jobs import Job
from deblur_cli.errors import InputError, PhotoError
from deblur_cli.image_io import probe_size, read_photo
from deblur_cli.system.files import hash_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deblur_cli.restoration.blur_measure import BlurMeasure
    from deblur_cli.restoration.watch import Pixels

Where = Literal["auto", "all", "blurry"]
Place = tuple[slice, slice]  # rows and columns of a photo

_ASPECT = 0.01  # by which the sides of a mask may be out of proportion: sizes are whole pixels
_ROWS = 256  # mixed at a time
_LEAST_SIDE = 257  # pixels: one window has no room for a subject and a background


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a batch is to be restored.

    Attributes:
        only_blurred: leave out photos that are sharp.
        where: "auto" keeps what a lens made soft in a sharp photo, unless there is a mask; "blurry" keeps all that did
            not move, "all" nothing.
        mask: a picture whose white places are restored and whose black ones are kept.
        mask_sha256: of that file, when the run was planned.
    """

    only_blurred: bool = False
    where: Where = "auto"
    mask: Path | None = None
    mask_sha256: str = ""

    @property
    def options(self) -> dict[str, str]:
        """What of it changes pixels, for the stamp."""
        chosen = {"where": self.where} if self.where == "blurry" or self._keeps_soft else {}
        return chosen | ({"mask_sha256": self.mask_sha256} if self.mask else {})

    @property
    def _keeps_soft(self) -> bool:
        return self.where == "auto" and self.mask is None

    def weigh(self, blurry: "Pixels", measure: "BlurMeasure | None" = None) -> "NDArray[np.float32] | None":
        """(H, W), 0 keeps and 1 restores; None where all of the photo is restored.

        Args:
            measure: of the photo, if there is one already.
        Raises:
            PhotoError: the mask cannot be read any more, or is another one.
        """
        height, width = blurry.shape[:2]
        weights = None
        if self.where == "blurry" or (self._keeps_soft and min(height, width) >= _LEAST_SIDE):
            from deblur_cli.restoration.blur_measure import measure_blur
            from deblur_cli.restoration.blur_places import find_blurry, find_wanted

            find = find_blurry if self.where == "blurry" else find_wanted
            found = find(measure or measure_blur(blurry), height, width)
            weights = None if found is None else found.numpy()
        if self.mask is not None:
            mask = _read_mask(self.mask, self.mask_sha256, height, width)
            weights = mask if weights is None else weights * mask
        return weights

    def describe_kept(self, weights: "NDArray[np.float32] | None") -> str:
        """What stays as it is because it is out of focus, in a line; empty where nothing does, or it was asked for."""
        if weights is None or not self._keeps_soft:
            return ""
        return f"the background is out of focus: {1 - weights.mean():.0%} of the photo stays as it is (--where auto)"


def build_selection(*, where: Where, only_blurred: bool = False, mask: str | None = None) -> Selection | None:
    """What the options ask for; None where everything of every photo is restored.

    Raises:
        InputError: the mask cannot be read.
    """
    if where == "all" and mask is None and not only_blurred:
        return None
    if mask is None:
        return Selection(only_blurred, where)
    path = Path(mask)
    try:
        probe_size(path)
        return Selection(only_blurred, where, path, hash_file(path))
    except (OSError, PhotoError) as fault:
        raise InputError(f"--mask {fault}" if mask in str(fault) else f"--mask {mask}: {fault}") from fault


def check_mask(selection: Selection, jobs: Sequence[Job]) -> None:
    """One mask is for photos of one size, and has that size or its proportions.

    Raises:
        InputError: it does not fit; jobs whose header could not be read are not asked.
    """
    if selection.mask is None:
        return
    sizes = {(job.width, job.height): job.source for job in reversed(jobs) if job.pixels}
    if len(sizes) > 1:
        (first, one), (second, other) = list(sizes.items())[:2]
        raise InputError(
            f"--mask {selection.mask}: one mask is for photos of one size, but {one} is {first[0]}x{first[1]} and "
            f"{other} is {second[0]}x{second[1]}; run them one by one, each with its own mask"
        )
    width, height = probe_size(selection.mask)
    for (photo_width, photo_height), source in sizes.items():
        if abs(width * photo_height / (height * photo_width) - 1) > _ASPECT:
            raise InputError(
                f"--mask {selection.mask}: is {width}x{height}, which has not the proportions of {source}, "
                f"{photo_width}x{photo_height}; make it of the photo as it is shown, the right way up"
            )


def restore_where(
    blurry: "Pixels", network: "Callable[..., Pixels]", weights: "NDArray[np.float32] | None"
) -> "Pixels":
    """What the network makes of a photo where it is wanted, and the photo itself elsewhere, to the last bit.

    Args:
        network: restores the photo, or a place of it; it is asked for the smallest rectangle that holds all that is
            wanted, so that the rest costs nothing.
    """
    if weights is None:
        return network()
    wanted = weights > 0
    if not wanted.any():
        return blurry
    rows, columns = (np.flatnonzero(wanted.any(axis)) for axis in (1, 0))
    place = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside = blurry[place]
    if inside.shape == blurry.shape:
        return mix(blurry, network(), weights)
    mixed = blurry.copy()
    mixed[place] = mix(inside, network(place), weights[place])
    return mixed


def mix(blurry: "Pixels", restored: "Pixels", weights: "NDArray[np.float32]") -> "Pixels":
    """`restored` where weights (H, W) are 1 and `blurry` where they are 0, both (H, W, 3) of one type."""
    mixed = np.empty_like(blurry)
    for row in range(0, len(blurry), _ROWS):
        rows = slice(row, row + _ROWS)
        before = blurry[rows].astype(np.float32)
        change = (restored[rows] - before) * weights[rows, :, None]
        mixed[rows] = np.rint(before + change)
    return mixed


def _read_mask(path: Path, digest: str, height: int, width: int) -> "NDArray[np.float32]":
    """(height, width), 0 to 1."""
    import torch
    from torch.nn import functional

    try:
        pixels = read_photo(path).pixels
        is_same = hash_file(path) == digest
    except (OSError, PhotoError) as fault:
        raise PhotoError(f"--mask {fault}") from fault
    if not is_same:
        raise PhotoError(f"--mask {path}: was changed since the run was begun; run again")
    mask = torch.from_numpy(pixels.mean(2, dtype=np.float32) / np.float32(np.iinfo(pixels.dtype).max))
    if mask.shape != (height, width):
        mask = functional.interpolate(mask[None, None], size=(height, width), mode="bilinear", antialias=True)[0, 0]
    return mask.clamp(0, 1).numpy()

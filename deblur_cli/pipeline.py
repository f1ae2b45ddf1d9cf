"""Photo -> tiles -> backend -> photo. Receives its backend as an argument and knows no network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from deblur_cli.backends import Backend
from deblur_cli.devices import is_out_of_memory
from deblur_cli.errors import BackendError, PhotoError
from deblur_cli.tiling import Tile, Tiling, tile_grid

Pixels = NDArray[Any]  # (H, W, 3), uint8 or uint16


class Stopped(Exception):
    """`stop` said so between two tiles; the photo is unfinished."""


def _silent(_: object) -> None:
    """Listen to nothing."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What a caller may want to hear and say while a photo is restored.

    Attributes:
        on_event: gets one-line notices (a smaller tile after memory ran out).
        on_pixels: gets the number of photo pixels finished since the last call.
        stop: asked between tiles; true raises `Stopped`.
    """

    on_event: Callable[[str], None] = _silent
    on_pixels: Callable[[int], None] = _silent
    stop: Callable[[], bool] = bool


def restore_image(blurry: Pixels, backend: Backend, *, tile: int | None = None, watch: Watch | None = None) -> Pixels:
    """Restore a whole photo, tile by tile.

    Args:
        blurry: (H, W, 3), uint8 or uint16, sRGB-encoded or in the photo's own profile.
        tile: longest side of a tile in pixels; None takes the backend's. Memory grows with it, the result hardly
            changes. When memory runs out it is halved and the photo begun again.
    Returns:
        (H, W, 3) of the same dtype, rounded.
    Raises:
        BackendError: memory runs out even with the smallest tile.
        PhotoError: the network's answer is not finite, in float32 either.
        Stopped: `watch.stop` said so.
    """
    watch = watch or Watch()
    tiling = backend.tiling if tile is None else backend.tiling.with_size(tile)
    while True:
        try:
            return _restore_tiles(blurry, backend, tiling, watch)
        except (RuntimeError, MemoryError) as fault:
            if not is_out_of_memory(fault):
                raise
            tiling = _halve(tiling, fault, backend, watch)


def quantize(image: Tensor, dtype: np.dtype[Any]) -> Pixels:
    """[0, 1] floats to uint8 or uint16, clipped and rounded to nearest; works in place on `image`."""
    top = np.iinfo(dtype).max
    target = torch.uint8 if top == 255 else torch.uint16
    return image.mul_(top).round_().clamp_(0, top).to(target).numpy()


def _restore_tiles(blurry: Pixels, backend: Backend, tiling: Tiling, watch: Watch) -> Pixels:
    height, width = blurry.shape[:2]
    merged = torch.zeros(height, width, 3)
    done = 0
    tiles = tile_grid(height, width, tiling)
    for index, tile in enumerate(tiles, 1):
        if watch.stop():
            raise Stopped
        restored = backend.restore(_crop(blurry, tile, backend.device))
        _merge(merged, restored, tile)
        now = height * width * index // len(tiles)
        watch.on_pixels(now - done)
        done = now
    return quantize(merged, blurry.dtype)


def _crop(blurry: Pixels, tile: Tile, device: torch.device) -> Tensor:
    """(1, 3, h, w), float32, [0, 1], on the device; the photo's last row and column are repeated beyond it."""
    rows, columns = tile.rows, tile.columns
    window = blurry[rows.start : rows.start + rows.length, columns.start : columns.start + columns.length]
    top = float(np.iinfo(blurry.dtype).max)
    pixels = torch.from_numpy(np.ascontiguousarray(window)).to(device).float().div_(top)  # (h, w, 3)
    batch = pixels.permute(2, 0, 1)[None]
    missing = (0, columns.length - window.shape[1], 0, rows.length - window.shape[0])
    return functional.pad(batch, missing, mode="replicate") if any(missing) else batch


def _merge(merged: Tensor, restored: Tensor, tile: Tile) -> None:
    rows, columns = tile.rows, tile.columns
    target = merged[rows.start : rows.start + rows.length, columns.start : columns.start + columns.length]
    height, width = target.shape[:2]
    if not bool(restored.sum().isfinite()):  # twenty times faster than asking every value
        raise PhotoError(f"the network's answer is not finite at row {rows.start}, column {columns.start}")
    pixels = restored[0].permute(1, 2, 0).cpu()[:height, :width]  # (h, w, 3)
    weights = rows.weights[:height, None, None] * columns.weights[:width, None]
    target.addcmul_(pixels, weights)


def _halve(tiling: Tiling, fault: BaseException, backend: Backend, watch: Watch) -> Tiling:
    smaller = tiling.with_size(tiling.size // 2)
    if smaller.size >= tiling.size:
        text = f"out of memory on {backend.device} even with tiles of {tiling.size} pixels; free memory or use the CPU"
        raise BackendError(text) from fault
    if backend.device.type == "cuda":
        torch.cuda.empty_cache()
    watch.on_event(f"out of memory with tiles of {tiling.size} pixels; going on with {smaller.size}")
    return smaller

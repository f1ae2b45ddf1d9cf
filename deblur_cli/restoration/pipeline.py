"""Photo -> tiles -> backend -> photo. Receives its backend as an argument and knows no network."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from deblur_cli.errors import BackendError, PhotoError
from deblur_cli.restoration.contract import Backend, Cropping, Cut, Enhancing, Order, Sparing
from deblur_cli.restoration.tiling import Span, Tile, find_tiles
from deblur_cli.restoration.watch import Pixels, Stopped, Watch
from deblur_cli.system.devices import count_crew, is_out_of_memory, map_side_by_side


def restore_image(
    blurry: Pixels, backend: Backend, *, tile: int | None = None, seed: int = 0, watch: Watch | None = None
) -> Pixels:
    """Restore a whole photo: tile by tile, then as a whole where the backend has a second stage.

    Args:
        blurry: (H, W, 3), uint8 or uint16, sRGB-encoded or in the photo's own profile.
        tile: longest side of a tile in pixels; None takes the backend's. Memory grows with it, the result hardly
            changes. When memory runs out it is halved and the photo begun again.
        seed: of the random numbers that a backend may draw; they are drawn anew for every photo.
    Returns:
        (H, W, 3) of the same dtype, rounded.
    Raises:
        BackendError: memory runs out even with the smallest tile.
        PhotoError: the network's answer is not finite, in float32 either.
        Stopped: `watch.stop` said so.
    """
    watch = watch or Watch()

    def work(tiling: Cut) -> Pixels:
        return quantize(_restore(blurry, backend, tiling, Order(seed, tiling.size, watch)), blurry.dtype)

    return _in_memory(work, backend, tile, watch)


def restore_crop(
    blurry: Pixels,
    backend: Backend,
    rows: slice,
    columns: slice,
    *,
    tile: int | None = None,
    seed: int = 0,
    watch: Watch | None = None,
) -> Pixels:
    """A part of what `restore_image` makes of the whole photo, with no more work than that part needs.

    Tiles lie where they lie in the whole photo, and only those that reach into the part are restored; on a CPU it
    equals the same place of the whole result to the last bit. A second stage (`Enhancing`) may depend on the whole
    photo: a flow's windows are mixed at every step, and so reach further with each, and DeblurDiff matches the colours
    of the whole photo. Where there is one that does something and is not `Cropping`, all of the photo is restored.

    Args:
        rows, columns: of the photo, with a start and a stop inside it.
        tile, seed, watch: as for `restore_image`; so are all others, and what is raised.
    Returns:
        (h, w, 3) of the photo's dtype.
    """
    if restores_whole(backend):
        return restore_image(blurry, backend, tile=tile, seed=seed, watch=watch)[rows, columns].copy()
    watch = watch or Watch()

    def work(tiling: Cut) -> Pixels:
        order = Order(seed, tiling.size, watch, (rows, columns))
        around = backend.reach if isinstance(backend, Cropping) else 0
        return quantize(_restore(blurry, backend, tiling, order, around)[rows, columns].contiguous(), blurry.dtype)

    return _in_memory(work, backend, tile, watch)


def restores_whole(backend: Backend) -> bool:
    """Whether `restore_crop` has to restore all of a photo for any part of it."""
    return isinstance(backend, Enhancing) and backend.share > 0 and not isinstance(backend, Cropping)


def _in_memory(work: Callable[[Cut], Pixels], backend: Backend, tile: int | None, watch: Watch) -> Pixels:
    """What the work makes with the backend's tiles or those that are asked for; with smaller ones where memory ends."""
    tiling = backend.tiling if tile is None else backend.tiling.with_size(tile)
    while True:
        try:
            return work(tiling)
        except (RuntimeError, MemoryError) as fault:
            if not is_out_of_memory(fault):
                raise
            tiling = _halve(tiling, fault, backend, watch)


def quantize(image: Tensor, dtype: np.dtype[Any]) -> Pixels:
    """[0, 1] floats to uint8 or uint16, clipped and rounded to nearest; works in place on `image`."""
    top = np.iinfo(dtype).max
    target = torch.uint8 if top == 255 else torch.uint16
    return image.mul_(top).round_().clamp_(0, top).to(target).numpy()


def _restore(blurry: Pixels, backend: Backend, tiling: Cut, order: Order, around: int = 0) -> Tensor:
    """(H, W, 3), float32: one stage or both; each tells its share of the pixels. Of a part, the first with so many
    pixels around it.
    """
    if isinstance(backend, Sparing) and backend.spares(blurry):
        restored, seconds = _time(lambda: backend.enhance(blurry, None, order), backend.device)
        order.watch.on_network(seconds)
        return restored
    tiles = find_tiles(tiling.lay(*blurry.shape[:2]), order.part, around)
    if not isinstance(backend, Enhancing) or not backend.share:
        return restore_photos([(blurry, tiles)], backend, tiling, order.watch)[0]
    count = ShareCount(order.watch.on_pixels)
    first, second = (
        replace(order.watch, on_pixels=partial(count.add, share)) for share in (1 - backend.share, backend.share)
    )
    estimate = restore_photos([(blurry, tiles)], backend, tiling, first)[0]
    restored, seconds = _time(lambda: backend.enhance(blurry, estimate, replace(order, watch=second)), backend.device)
    order.watch.on_network(seconds)
    return restored


class ShareCount:
    """Whole pixels out of the shares of several stages, none lost to rounding."""

    def __init__(self, on_pixels: Callable[[int], None]) -> None:
        self._on_pixels, self._done, self._told = on_pixels, 0.0, 0

    def add(self, share: float, pixels: int) -> None:
        """So many pixels are through a stage that has this share of the work."""
        self._done += share * pixels
        now = round(self._done)
        self._on_pixels(now - self._told)
        self._told = now


def restore_photos(
    wanted: Sequence[tuple[Pixels, Sequence[Tile]]], backend: Backend, tiling: Cut, watch: Watch
) -> list[Tensor]:
    """(H, W, 3), float32, about [0, 1], on the CPU, for each of several photos: the first stage, tile by tile.

    Threads that find no more tiles of one photo go on with the next.

    Args:
        wanted: photos and, of the tiles that `tiling` lays on each, those that are wanted.
    Raises:
        PhotoError: the network's answer is not finite.
        Stopped: `watch.stop` said so.
    """
    portions = [
        (index, slice(first, first + tiling.at_once))
        for index, (_, tiles) in enumerate(wanted)
        for first in range(0, len(tiles), tiling.at_once)
    ]

    def work(portion: tuple[int, slice]) -> tuple[Tensor, float]:
        (blurry, tiles), place = wanted[portion[0]], portion[1]
        crops = torch.cat([_crop(blurry, tile, backend.device, mirrored=tiling.mirrors) for tile in tiles[place]])
        return _time(lambda: backend.restore(crops), backend.device)

    merged = [torch.zeros(*blurry.shape[:2], 3) for blurry, _ in wanted]
    crew = 1 if tiling.side_by_side == 1 else count_crew(len(portions), tiling.side_by_side, tiling.bytes_alone)
    with closing(map_side_by_side(work, portions, crew)) as answers:
        for index, place in portions:
            if watch.stop():
                raise Stopped
            restored, seconds = next(answers)
            watch.on_network(seconds / crew)
            tiles, canvas = wanted[index][1], merged[index]
            for tile, piece in zip(tiles[place], restored, strict=True):  # in their order, whichever came first
                _merge(canvas, piece, tile)
            before, now = (
                canvas.shape[0] * canvas.shape[1] * count // len(tiles)
                for count in (place.start, min(place.stop, len(tiles)))
            )
            watch.on_pixels(now - before)
    return merged


def _time(network: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, float]:
    """What networks answer and how long they took, so that everything around them can be weighed against it."""
    started = time.perf_counter()
    answer = network()
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # the call returns before the card is done
    return answer, time.perf_counter() - started


def _crop(blurry: Pixels, tile: Tile, device: torch.device, *, mirrored: bool) -> Tensor:
    """(1, 3, h, w), float32, [0, 1], on the device; beyond the photo its last row and column are repeated, or all of
    it is mirrored.
    """
    rows, columns = tile.rows, tile.columns
    if mirrored:
        window = blurry[_mirror(rows, blurry.shape[0])[:, None], _mirror(columns, blurry.shape[1])]
    else:
        window = blurry[rows.start : rows.start + rows.length, columns.start : columns.start + columns.length]
    top = float(np.iinfo(blurry.dtype).max)
    pixels = torch.from_numpy(np.ascontiguousarray(window)).to(device).float().div_(top)  # (h, w, 3)
    batch = pixels.permute(2, 0, 1)[None]
    missing = (0, columns.length - window.shape[1], 0, rows.length - window.shape[0])
    return functional.pad(batch, missing, mode="replicate") if any(missing) else batch


def _mirror(span: Span, length: int) -> NDArray[np.intp]:
    """(span.length,): which of the photo's rows or columns lies there; the border itself is not doubled."""
    period = max(1, 2 * (length - 1))
    place = np.arange(span.start, span.start + span.length) % period
    return np.minimum(place, period - place)


def _merge(merged: Tensor, restored: Tensor, tile: Tile) -> None:
    rows, columns = tile.rows, tile.columns
    target = merged[rows.start : rows.start + rows.length, columns.start : columns.start + columns.length]
    height, width = target.shape[:2]
    if not bool(restored.sum().isfinite()):  # twenty times faster than asking every value
        raise PhotoError(f"the network's answer is not finite at row {rows.start}, column {columns.start}")
    pixels = restored.permute(1, 2, 0).cpu()[:height, :width]  # (h, w, 3)
    weights = rows.weights[:height, None, None] * columns.weights[:width, None]
    target.addcmul_(pixels, weights)


def _halve(tiling: Cut, fault: BaseException, backend: Backend, watch: Watch) -> Cut:
    smaller = tiling.with_size(tiling.size // 2)
    if smaller.size >= tiling.size:
        text = f"out of memory on {backend.device} even with tiles of {tiling.size} pixels; free memory or use the CPU"
        raise BackendError(text) from fault
    if backend.device.type == "cuda":
        torch.cuda.empty_cache()
    watch.on_event(f"out of memory with tiles of {tiling.size} pixels; going on with {smaller.size}")
    return smaller

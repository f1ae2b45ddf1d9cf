"""An expert and its blend: the photo is restored at its own size and at halves of it, and mixed pixel by pixel.

A network that was trained on small pictures knows short blur. At the right fraction of a large photo's size any blur is
short, so from the smallest size on the blend chooses between a photo, its estimate, perhaps that of a second expert,
and what the next smaller size found. Where a photo moved so far that nothing is left to find at its own size, what half
of it gave is all there is. A second stage on the whole photo: the experts keep windows of their own.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, takewhile

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from deblur_cli.backends.engines import Float32Fallback
from deblur_cli.networks.deconvolver import BlindKernels, Deconvolver
from deblur_cli.networks.needs import FEATHER
from deblur_cli.networks.rounds import Rounds
from deblur_cli.networks.version_blend import ESTIMATE, VersionBlend, add_coarser, stack_versions
from deblur_cli.restoration.blur_measure import measure_blur
from deblur_cli.restoration.contract import Backend, Cut, Order
from deblur_cli.restoration.pipeline import ShareCount, restore_photos
from deblur_cli.restoration.tiling import PixelSource, Tile, Tiling, blend_pieces, find_tiles, widen
from deblur_cli.restoration.watch import Pixels, Stopped, Watch

_SMALLEST = 192  # pixels of the shorter side: in a smaller picture most of a network's window is repeated border
FAR, LARGE = 40.0, 4_000_000  # pixels by which so many moved, so that half the size is enough (docs/experiments.md)
_MARGIN = 2  # pixels at half the size around a tile, for the enlarging
_WORK = 12.0  # thousands of multiplications per pixel that would take as long as the blend, most of which are none
_HALVES = 1 / 3  # of a photo's pixels have all its halves together
_TOP = 65535.0
_BAND = 256  # rows that are converted at a time, so that no second photo is in memory


@dataclass(frozen=True, slots=True)
class Second:
    """Another expert, whose estimate is one of the versions; `work` as for the first."""

    backend: Backend
    work: float


class BlendedBackend:
    """Mixes an expert's estimate with other versions of the photo; see `Backend`, `Cropping` and `Sparing`."""

    def __init__(self, expert: Backend, blend: VersionBlend, work: float, second: Second | None = None) -> None:
        """`work`: of the expert, thousands of multiplications per pixel. `second`: where the blend weighs one."""
        self.name, self.device, self.dtype, self.tiling = expert.name, expert.device, expert.dtype, expert.tiling
        self._expert, self._config, self._work, self._second = expert, blend.config, work, second
        self._blend = Float32Fallback(blend, expert.device, torch.float32)
        wanted = blend.config.deconvolution
        self._deconvolver = None if wanted is None else Deconvolver(wanted)
        whole, halves = (0.0 if second is None else second.work) + _WORK, _HALVES if blend.config.coarser else 0.0
        after = whole + (work + whole) * halves
        self.work = work + after
        self.share = after / self.work
        self.reach = blend.config.needs.context + FEATHER

    @property
    def module(self) -> nn.Module:
        """See `Backend`."""
        second = {} if self._second is None else {"second": self._second.backend.module}
        return nn.ModuleDict({"expert": self._expert.module, **second, "blend": self._blend.module})

    def restore(self, blurry: Tensor) -> Tensor:
        """See `Backend.restore`: the estimate."""
        return self._expert.restore(blurry)

    def spares(self, blurry: Pixels) -> bool:
        """See `Sparing`: a large photo moved far."""
        if not self._has_half(blurry) or blurry.shape[0] * blurry.shape[1] < LARGE:
            return False
        measure = measure_blur(blurry)
        return measure.is_moved and measure.length >= FAR

    @torch.no_grad()
    def enhance(self, blurry: Pixels, estimate: Tensor | None, order: Order) -> Tensor:
        """See `Sparing.enhance`."""
        photos = [blurry, *self._halve_on(blurry)]
        first = 0 if estimate is not None else 1 + sum(1 for _ in takewhile(self.spares, photos[1:]))
        watch, watch_second, tell = self._share_out(
            [len(photo) * photo.shape[1] for photo in photos], first, order.watch
        )
        sizes = [*zip(photos, self._halve_orders(order, len(photos)), strict=True)]
        halves = sizes[max(1, first) :]
        estimates = self._restore(halves, self._expert, watch)
        others: list[Tensor] | list[None] = [None] * len(sizes[first:])
        if self._second is not None:
            others = self._restore(sizes[first:], self._second.backend, watch_second)
        found = None
        for photo, half in reversed(halves):
            found = _take_away(self._mix(photo, estimates.pop(), others.pop(), found, half, tell), photo)
        for photo in reversed(photos[1:first]):
            found = _take_away(self._enlarge(photo, found), photo)
        if estimate is None:
            return self._enlarge(blurry, found)
        return self._mix(blurry, estimate, others.pop(), found, order, tell)

    def _restore(self, photos: Sequence[tuple[Pixels, Order]], expert: Backend, watch: Watch) -> list[Tensor]:
        """(H, W, 3), float32, for each photo: an expert's estimate, of a part as far around as it is looked at."""
        if not photos:
            return []
        cut: Cut = expert.tiling.with_size(photos[0][1].tile)
        tiles = [find_tiles(cut.lay(*photo.shape[:2]), order.part, self.reach) for photo, order in photos]
        wanted = [(photo, some) for (photo, _), some in zip(photos, tiles, strict=True)]
        return restore_photos(wanted, expert, cut, watch)

    def _halve_orders(self, order: Order, count: int) -> list[Order]:
        """The order for the photo and each of its halves: what is wanted of one is what the one above it looks at."""
        orders = [order]
        for _ in range(count - 1):
            part = orders[-1].part
            if part is not None:
                rows, columns = widen(part, self.reach)
                part = widen((_halve_place(rows), _halve_place(columns)), _MARGIN)
            orders.append(replace(order, part=part))
        return orders

    def _halve_on(self, blurry: Pixels) -> Iterator[Pixels]:
        while self._has_half(blurry):
            blurry = _halve(blurry)
            yield blurry

    def _has_half(self, photo: Pixels) -> bool:
        return self._config.coarser and min(photo.shape[:2]) >= 2 * _SMALLEST

    def _share_out(self, sizes: Sequence[int], first: int, watch: Watch) -> tuple[Watch, Watch, Callable[[int], None]]:
        """What the expert tells on the smaller photos, and what the second one and the blend tell on all: together the
        largest's pixels. The seconds of all are told by who has called.

        Args:
            sizes: of all photos, in pixels, the largest first.
            first: of them that is restored at its own size.
        """
        works = (self._work, 0.0 if self._second is None else self._second.work, _WORK)
        whole = works[0] * sum(sizes[max(1, first) :]) + sum(works[1:]) * sum(sizes[first:])
        count = ShareCount(watch.on_pixels)
        of_expert, of_second, of_blend = (partial(count.add, sizes[0] * work / whole) for work in works)
        first_watch, second_watch = (Watch(watch.on_event, told, stop=watch.stop) for told in (of_expert, of_second))
        return first_watch, second_watch, of_blend

    def _mix(
        self,
        photo: Pixels,
        estimate: Tensor,
        other: Tensor | None,
        found: Tensor | None,
        order: Order,
        tell: Callable[[int], None],
    ) -> Tensor:
        """(H, W, 3), float32, from a photo, its estimate and perhaps another of this shape, and what half of it gave.

        The estimate is used up: rows that no tile will look at again take the result, so that it needs no memory.
        """
        height, width = photo.shape[:2]
        needs = self._config.needs
        tiling = Tiling(order.tile, needs.context, FEATHER, needs.multiple_of).with_size(order.tile)
        tiles = find_tiles(tiling.lay(height, width), order.part)
        rows = [list(row) for _, row in groupby(tiles, lambda tile: tile.rows.start)]
        mixed, done = torch.zeros(0, width, 3), 0
        for row, after in zip(rows, [*(row[0].rows.start for row in rows[1:]), height], strict=True):
            first, stop = row[0].rows.start, min(row[0].rows.place.stop, height)
            mixed = functional.pad(mixed, (0, 0, 0, 0, 0, stop - first - len(mixed)))
            for tile in row:
                if order.watch.stop():
                    raise Stopped
                pieces = self._weigh(photo, self._cut(photo, (estimate, other), found, tile), tile)
                blend_pieces(mixed.permute(2, 0, 1), [Tile(replace(tile.rows, start=0), tile.columns)], pieces)
                done += 1
                tell(height * width * done // len(tiles) - height * width * (done - 1) // len(tiles))
            estimate[first : min(stop, after)] = mixed[: after - first]
            mixed = mixed[after - first :]
        return estimate

    def _enlarge(self, photo: Pixels, found: Tensor | None) -> Tensor:
        """(H, W, 3), float32, [0, 1]: a photo with what was found at half its size, and nothing else."""
        height, width = photo.shape[:2]
        assert found is not None  # only a photo with a half is spared
        enlarged, columns = torch.empty(height, width, 3), slice(0, width + width % 2)
        for first in range(0, height, _BAND):
            rows = slice(first, first + _BAND)
            blurry = PixelSource(photo).cut(rows, columns)[None].to(self.device)
            band = self._add_found(blurry, found, rows, columns)[0, :, :, :width].permute(1, 2, 0)
            enlarged[rows] = band[: height - first]
        return enlarged

    def _weigh(self, photo: Pixels, pictures: list[Tensor], tile: Tile) -> Tensor:
        """(1, 3, h, w), float32: what the blend makes of the pictures below a tile and of their deconvolutions."""
        if self._deconvolver is None:
            return self._blend.run("forward", stack_versions(pictures))
        mix = partial(self._blend.run, "forward")
        rounds = Rounds.of_photos(mix, self._deconvolver, self._config.progress, BlindKernels())
        size = photo.shape[0] - tile.rows.place.start, photo.shape[1] - tile.columns.place.start
        rounds = replace(
            rounds, deconvolve=partial(_inside, size, rounds.deconvolve), share=partial(_inside, size, rounds.share)
        )
        first = stack_versions(pictures, rounds.deconvolve(pictures[0], pictures[ESTIMATE]))
        *_, (_, answer) = rounds.run(first, self._config.rounds)
        return answer

    def _cut(self, photo: Pixels, estimates: Sequence[Tensor | None], found: Tensor | None, tile: Tile) -> list[Tensor]:
        """(1, 3, h, w), float32, on the device: the versions of what lies below a tile, without deconvolutions."""
        rows, columns = tile.rows.place, tile.columns.place
        blurry = PixelSource(photo).cut(rows, columns)[None].to(self.device)
        guesses = [
            PixelSource(estimate.numpy()).cut(rows, columns)[None].to(self.device).clamp_(0, 1)
            for estimate in estimates
            if estimate is not None
        ]
        pictures = [blurry, *guesses]
        if self._config.coarser:
            pictures.append(blurry if found is None else self._add_found(blurry, found, rows, columns))
        return pictures

    def _add_found(self, blurry: Tensor, found: Tensor, rows: slice, columns: slice) -> Tensor:
        around = [slice(place.start // 2 - _MARGIN, place.stop // 2 + _MARGIN) for place in (rows, columns)]
        wide = PixelSource(found.numpy()).cut(*around)[None].to(self.device)
        border = (2 * _MARGIN,) * 4
        inner = (..., slice(2 * _MARGIN, -2 * _MARGIN), slice(2 * _MARGIN, -2 * _MARGIN))
        return add_coarser(functional.pad(blurry, border), wide, 2)[inner]


def _inside(size: tuple[int, int], work: Callable[..., Tensor], *pictures: Tensor) -> Tensor:
    """What is made of the part of pictures that lies inside a photo of this size; beyond it, its border again."""
    height, width = pictures[0].shape[-2:]
    made: Tensor = work(*(picture[..., : size[0], : size[1]] for picture in pictures))
    beyond = (0, width - made.shape[-1], 0, height - made.shape[-2])
    padded = functional.pad(made.flatten(0, -4), beyond, mode="replicate")
    return padded.reshape(*made.shape[:-2], height, width)


def _halve_place(place: slice) -> slice:
    return slice(place.start // 2, -(-place.stop // 2))


def _take_away(mixed: Tensor, photo: Pixels) -> Tensor:
    """What was found: the first less the second, in place."""
    for rows in range(0, len(photo), _BAND):
        mixed[rows : rows + _BAND].sub_(_to_floats(photo[rows : rows + _BAND]))
    return mixed


def _halve(photo: Pixels) -> Pixels:
    """(ceil(H / 2), ceil(W / 2), 3), uint16: means of four; an odd last row or column counts twice."""
    height, width = photo.shape[:2]
    even = np.pad(photo, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if height % 2 or width % 2 else photo
    half = np.empty((even.shape[0] // 2, even.shape[1] // 2, 3), np.uint16)
    for first in range(0, len(half), _BAND):
        band = even[2 * first : 2 * (first + _BAND)]
        total = sum(band[row::2, column::2].astype(np.float32) for row in (0, 1) for column in (0, 1))
        half[first : first + _BAND] = np.rint(total * (_TOP / 4 / np.iinfo(photo.dtype).max))
    return half


def _to_floats(photo: Pixels) -> Tensor:
    """The same, [0, 1]."""
    return torch.from_numpy(photo.astype(np.float32)).div_(float(np.iinfo(photo.dtype).max))

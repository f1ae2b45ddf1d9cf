"""What every restoration system looks like to the pipeline, and what the pipeline tells it. Knows no network."""

from dataclasses import dataclass, field
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from deblur_cli.restoration.tiling import Part, Tile
from deblur_cli.restoration.watch import Pixels, Stopped, Watch

__all__ = ["Backend", "Cropping", "Cut", "Enhancing", "Order", "Pixels", "Sparing", "Stopped", "Watch"]


class Cut(Protocol):
    """How a photo is cut for a network: `Tiling`, or `Windows` of one size.

    Attributes:
        size: longest side in pixels of what is in memory at once.
        multiple_of: sides of what the network gets are multiples of this.
        at_once: how many pieces it gets at a time.
        side_by_side: how many threads of a CPU may work on such portions at the same time.
        bytes_alone: what the network takes there for one of them, about.
        mirrors: whether the photo counts as mirrored at its borders, not as extended by its last pixels.
    """

    @property
    def size(self) -> int: ...
    @property
    def multiple_of(self) -> int: ...
    @property
    def at_once(self) -> int: ...
    @property
    def side_by_side(self) -> int: ...
    @property
    def bytes_alone(self) -> int: ...
    @property
    def mirrors(self) -> bool: ...

    def lay(self, height: int, width: int) -> list[Tile]:
        """Pieces that cover a photo, all of one size; at every pixel of it their weights sum to 1."""

    def with_size(self, size: int) -> Self:
        """The same with another size, as near as it can be."""


class Backend(Protocol):
    """Weights, networks and sampler behind one method."""

    name: str
    device: torch.device
    dtype: torch.dtype

    @property
    def tiling(self) -> Cut:
        """How a photo is cut for `restore`."""

    @property
    def module(self) -> nn.Module:
        """The networks that run, for counting parameters and multiplications."""

    def restore(self, blurry: Tensor) -> Tensor:
        """Sharp pieces from blurred ones.

        Args:
            blurry: (B, 3, H, W), float32, [0, 1], on `device`; H and W are multiples of `tiling.multiple_of`.
        Returns:
            (B, 3, H, W), float32, about [0, 1], finite.
        """


@dataclass(frozen=True, slots=True)
class Order:
    """How one photo is to be enhanced.

    Attributes:
        seed: of all random numbers, which are drawn on the CPU and once per photo.
        tile: longest side in pixels of what is to be in memory at once. It never decides what is computed.
        watch: `on_pixels` counts the pixels of the photo once; `stop` is asked between windows.
        part: the rows and columns that are wanted, of a `Cropping` backend; the rest may come out as anything.
    """

    seed: int = 0
    tile: int = 1024
    watch: Watch = field(default_factory=Watch)
    part: Part | None = None


@runtime_checkable
class Enhancing(Protocol):
    """A backend with a second stage that needs the whole photo: its windows lie on the photo's own grid."""

    share: float  # of the time of the whole photo that the second stage takes, 0 to 1, for the progress display

    def enhance(self, blurry: Pixels, estimate: Tensor, order: Order) -> Tensor:
        """The photo with what the second stage adds.

        Args:
            blurry: (H, W, 3), uint8 or uint16.
            estimate: (H, W, 3), float32, about [0, 1], on the CPU: what `restore` made of all tiles.
        Returns:
            (H, W, 3), float32, about [0, 1], on the CPU; may be `estimate` itself, changed in place.
        Raises:
            Stopped: `order.watch.stop` said so.
        """


@runtime_checkable
class Sparing(Enhancing, Protocol):
    """An `Enhancing` backend that can do without the first stage where that would add nothing to a photo."""

    def spares(self, blurry: Pixels) -> bool:
        """Whether `enhance` does without an estimate of this photo, (H, W, 3), uint8 or uint16."""

    def enhance(self, blurry: Pixels, estimate: Tensor | None, order: Order) -> Tensor:
        """See `Enhancing.enhance`; None where `spares` said so, and then every pixel is told here."""


@runtime_checkable
class Cropping(Enhancing, Protocol):
    """An `Enhancing` backend whose second stage sees only what is near, so that a part of a photo is less work."""

    reach: int  # pixels: so far around `Order.part` the estimate decides what becomes of it

"""What a fidelity expert needs of the photo that it is shown. Plain values; each network states its own."""

from dataclasses import dataclass

FEATHER = 32  # width of the ramp on which neighbouring tiles are mixed


@dataclass(frozen=True, slots=True)
class Needs:
    """All in pixels.

    Attributes:
        multiple_of: height and width must be multiples of this.
        context: what it must see around the pixels that count, so that a part of a photo comes out as in the whole.
        window: side of the pictures that it may be shown; None where any size will do.
        smallest_window: side of the picture that it is shown of a photo no larger than that.
        shared: what neighbouring windows of a network with such a side have in common at least.
        work: thousands of multiplications per pixel, which say how long it takes beside other networks.
    """

    multiple_of: int
    context: int
    window: int | None = None
    smallest_window: int = 0
    shared: int = 0
    work: float = 180.0

"""What is told and asked while one photo is restored, between whoever works and whoever waits. Knows no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Pixels = NDArray[Any]  # (H, W, 3), uint8 or uint16


class Stopped(Exception):
    """`stop` said so between two tiles; the photo is unfinished."""


def _ignore(_: object) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What a caller may want to hear and say while a photo is restored.

    Attributes:
        on_event: gets one-line notices (a smaller tile after memory ran out).
        on_pixels: gets the number of photo pixels finished since the last call.
        on_network: gets the seconds that the networks took, tile by tile, stage by stage.
        stop: asked between tiles; true raises `Stopped`.
    """

    on_event: Callable[[str], None] = _ignore
    on_pixels: Callable[[int], None] = _ignore
    on_network: Callable[[float], None] = _ignore
    stop: Callable[[], bool] = bool

"""How far the passes over a photo are: before a portion `stop` is asked, after it the finished pixels are told."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from deblur_cli.restoration.contract import Stopped, Watch

Portion = TypeVar("Portion")


class PixelProgress:
    """Counts so many passes over a photo as its pixels once."""

    def __init__(self, watch: Watch, pixels: int, passes: int) -> None:
        self._watch, self._pixels, self._passes = watch, pixels, passes
        self._done, self._told = 0, 0

    def over(self, portions: Sequence[Portion]) -> Iterator[Portion]:
        """The portions of one pass.

        Raises:
            Stopped: the caller wants no more.
        """
        for index, portion in enumerate(portions):
            if self._watch.stop():
                raise Stopped
            yield portion
            self._tell(self._pixels * (self._done * len(portions) + index + 1) // (self._passes * len(portions)))
        self._done += 1

    def finish(self) -> None:
        """All pixels are told, whatever is left of them."""
        self._tell(self._pixels)

    def _tell(self, pixels: int) -> None:
        self._watch.on_pixels(pixels - self._told)
        self._told = pixels

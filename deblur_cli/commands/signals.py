"""Ctrl-C and SIGTERM during the work: the first asks to stop, the second stops at once."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether to stop; at the end a signal that came is delivered after all.

    A second signal goes straight to the handler of before (KeyboardInterrupt, or exit 143).
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            handler = previous[signal.Signals(number)]
            if callable(handler):
                handler(number, frame)
        received.append(number)

    previous = {number: signal.getsignal(number) for number in _listened()}
    for number in previous:
        signal.signal(number, note)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])


def _listened() -> list[signal.Signals]:
    """The signals that are not ignored already, as SIGHUP is under nohup."""
    known = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    return [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]

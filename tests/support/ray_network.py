"""A network without torch for the workers of a Ray cluster: what it does to a photo is said by the photo's colour."""

import os
import signal
import time
from dataclasses import dataclass

from deblur_cli.commands.run_task import RestoreOrder
from deblur_cli.errors import BackendError
from deblur_cli.restoration.watch import Stopped

DEADLY, TOO_LARGE, SLOW, STUBBORN = 1, 2, 3, 4  # shades of red
SECONDS = 0.03  # for any other photo


@dataclass(frozen=True, slots=True)
class InvertingNetwork:
    """Ready to restore."""

    device: str = "cpu"
    dtype: str = "float32"

    def __call__(self, blurry, watch, place=...):
        shade = int(blurry[0, 0, 0])
        if shade == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        if shade == TOO_LARGE:
            raise BackendError("out of memory on this worker; try --tile")
        if shade == STUBBORN:
            time.sleep(120)
        for _ in range(1200 if shade == SLOW else 1):
            if watch.stop():
                raise Stopped
            time.sleep(SECONDS)
            watch.on_pixels(1)
        watch.on_event("was inverted") if shade == 90 else None
        return 255 - blurry[place]


@dataclass(frozen=True, slots=True)
class InvertingOrder(RestoreOrder):
    """In the place of the real one, in every process."""

    def load(self, cores=None):
        return InvertingNetwork()

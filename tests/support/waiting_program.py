"""`deblur` with a network that only waits: `python -m support.waiting_program SECONDS LARGE CUT run in -o out`.

A tile takes SECONDS, one of more than 32 pixels LARGE. The cut is "tiles", or "windows" that two threads take side by
side, each in many short operations. The network is replaced from outside, the product has no hook.
"""

import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from deblur_cli import app, backends, weights
from deblur_cli.restoration.tiling import Tiling, Windows
from support.fake_backend import FakeBackend

_OPERATION = 0.1  # seconds


def main() -> None:
    seconds, large, cut = float(sys.argv.pop(1)), float(sys.argv.pop(1)), sys.argv.pop(1)
    torch.set_num_threads(2)

    def wait(blurry: Tensor) -> Tensor:
        is_large = blurry.shape[-1] > 32
        if is_large:
            Path("a large tile is begun").touch()
        left = large if is_large else seconds
        while left > 0:
            time.sleep(min(left, _OPERATION))
            left -= _OPERATION
        return blurry

    tiling = Tiling(64, 8, 8, 16) if cut == "tiles" else Windows(64, 8, 256, 16, 16, bytes_alone=1)
    backends.load_model = lambda model, **_: FakeBackend(wait, tiling=tiling)  # type: ignore[assignment]
    weights.find_model = lambda name: weights.ModelEntry(name, "waiting", "waits", {})
    app.main()


if __name__ == "__main__":
    main()

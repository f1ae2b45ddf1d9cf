"""`deblur` with a network that only waits: `python -m support.waiting_program SECONDS LARGE run in -o out`.

A tile takes SECONDS, one of more than 32 pixels LARGE. The network is replaced from outside, the product has no hook.
"""

import sys
import time
from pathlib import Path

from torch import Tensor

from deblur_cli import app, backends, weights
from support.fake_backend import FakeBackend


def main() -> None:
    seconds, large = float(sys.argv.pop(1)), float(sys.argv.pop(1))

    def wait(blurry: Tensor) -> Tensor:
        is_large = blurry.shape[-1] > 32
        if is_large:
            Path("a large tile is begun").touch()
        time.sleep(large if is_large else seconds)
        return blurry

    backends.load_model = lambda model, **_: FakeBackend(wait)  # type: ignore[assignment]
    weights.find_model = lambda name: weights.ModelEntry(name, "waiting", "waits", {})
    app.main()


if __name__ == "__main__":
    main()

"""How long OpenMP's threads turn on the spot before they sleep; said before torch is loaded, which brings OpenMP."""

import os

_TURNS = 3000  # a tenth of a millisecond; GCC's OpenMP takes 300,000


def wait_briefly() -> None:
    """Threads that wait for each other go to sleep at once, unless the user's own variables say otherwise.

    Where another program is at work, the one that they wait for may not run for a whole time slice, and turning on the
    spot takes away the core that it needs: photos took twice as long, tests twenty times (docs/experiments.md). For
    Linux; the OpenMP of other systems does not know the variable.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(_TURNS))

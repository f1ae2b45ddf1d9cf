"""Entry point of `deblur` and of `python -m deblur_cli`."""

import os
import signal

# Ctrl-C while the modules are still being loaded: nothing is begun that would have to be ended properly.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

import gc
from typing import NoReturn


def main() -> NoReturn:
    """Load the command line and run it."""
    gc.disable()  # loading leaves nothing to collect, and looking for it takes time; the app enables it
    from deblur_cli.app import main as run
    from deblur_cli.system.openmp import wait_briefly

    wait_briefly()
    run()


if __name__ == "__main__":
    main()

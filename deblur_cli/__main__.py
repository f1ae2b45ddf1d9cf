"""Entry point of `deblur` and of `python -m deblur_cli`."""

import gc
from typing import NoReturn


def main() -> NoReturn:
    """Load the command line and run it."""
    gc.disable()  # loading leaves nothing to collect, and looking for it takes time; the app enables it
    from deblur_cli.app import main as run

    run()


if __name__ == "__main__":
    main()

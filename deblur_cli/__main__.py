"""Entry point of `deblur` and of `python -m deblur_cli`."""

import gc
from typing import NoReturn


def main() -> NoReturn:
    """Load the command line and run it."""
    gc.disable()  # loading leaves nothing to collect; looking for it would take a tenth of the time of --help
    from deblur_cli.app import main as run

    run()


if __name__ == "__main__":
    main()

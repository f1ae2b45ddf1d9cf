"""The command line: registers the commands and turns every fault into one line and an exit status."""

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, NoReturn

import typer

from deblur_cli import __version__
from deblur_cli.commands import bench, train, weights
from deblur_cli.commands.doctor import doctor
from deblur_cli.commands.run import run
from deblur_cli.errors import DeblurError, ExitStatus

# Typer's usage faults have no public name of their own; the base of BadParameter is it in every release.
_UsageFault: type[Exception] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="deblur",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
app.command("run")(run)
app.command("doctor")(doctor)
app.add_typer(bench.app, name="bench")
app.add_typer(train.app, name="train")
app.add_typer(weights.app, name="weights")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deblur {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def deblur(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Motion-blurred photos in, sharp photos out.

    Example: deblur run holiday/ -o sharp/
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(ExitStatus.INPUT)


def main() -> NoReturn:
    """Entry point of the `deblur` command."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run_app(sys.argv[1:]))


def run_app(arguments: Sequence[str]) -> int:
    """Run one command line; its exit status. Faults become one line on stderr, bugs stay tracebacks."""
    try:
        status = app(list(arguments), prog_name="deblur", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return ExitStatus.FAILURE
    except DeblurError as fault:
        return _explain(fault, fault.exit_status)
    except _UsageFault as fault:
        return _explain(fault, ExitStatus.INPUT)
    return status if isinstance(status, int) else ExitStatus.OK


def _explain(fault: Exception, status: int) -> int:
    if os.environ.get("DEBLUR_DEBUG") == "1":
        traceback.print_exc()
    format_message = getattr(fault, "format_message", fault.__str__)  # usage faults name their option there
    message = " ".join(format_message().splitlines())
    if message:  # a group that was called without a command has shown its help instead
        sys.stderr.write(f"deblur: error: {message}\n")
    return status


def _terminate(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _silence_stdout() -> None:
    """Nobody reads stdout any more: what is still buffered must not raise again while Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

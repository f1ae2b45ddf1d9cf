"""The command line: registers the commands and turns every fault into one line and an exit status."""

import errno
import gc
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from deblur_cli.commands.quick_help import prepare_help
from deblur_cli.commands.streams import is_told, write_note
from deblur_cli.errors import DeblurError, ExitStatus
from deblur_cli.system.version import __version__

# Typer's usage faults have no public name of their own; the base of BadParameter is it in every release.
_UsageFault: type[Exception] = typer.BadParameter.__bases__[0]

# What `deblur --help` says of each command; each lives in a module of its name.
_COMMANDS = {
    "run": "Restore motion-blurred photos; everything else about them stays as it is.",
    "preview": "Show a crop of each photo through several choices, before a whole card is done.",
    "view": "Look at results beside their photos in a browser, and say which to keep or do again.",
    "inspect": "Tell how blurred photos are: direction, length, sharpness, noise, and which model to take.",
    "doctor": "Tell devices, memory, torch build, codecs, cache and weights.",
    "bench": "Measure models on data sets, beside doing nothing; or compare two reports.",
    "train": "Train the networks, and look at what they learn from.",
    "weights": "Models and their files: list, download, verify, bring your own.",
}


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """The commands that these arguments name, and of the others only what help says of them; all for completion."""
    app = typer.Typer(
        name="deblur",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode="rich",
    )
    app.callback(invoke_without_command=True)(deblur)
    for name, summary in _COMMANDS.items():
        if name not in arguments and "_DEBLUR_COMPLETE" not in os.environ:
            app.command(name, help=summary)(_not_loaded)
            continue
        module = importlib.import_module(f"deblur_cli.commands.{name}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name, help=summary)
        else:
            app.command(name)(getattr(module, name))
    return app


def _not_loaded() -> None:
    """In the place of a command that is not called."""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deblur {__version__}")
        raise typer.Exit


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
    gc.enable()  # see __main__
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(ExitStatus.INPUT)


def main() -> NoReturn:
    """Run the command line of this process, whatever its streams are, and end the process."""
    _open_missing_streams()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        status = run_app(sys.argv[1:])
    except KeyboardInterrupt:  # between two lines of those
        status = ExitStatus.INTERRUPTED
    finally:  # one more signal, while Python takes its modules down, would show as a traceback of one of them
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
    sys.exit(status)


def run_app(arguments: Sequence[str]) -> int:
    """Run one command line; its exit status. Faults become one line on stderr, bugs stay tracebacks."""
    if not arguments or {"-h", "--help"} & set(arguments):
        prepare_help()
    try:
        app = build_app(arguments)
        status = app(list(arguments), prog_name="deblur", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except BrokenPipeError as fault:
        _silence_stdout()
        return _explain(fault, ExitStatus.FAILURE) if is_told(fault) else ExitStatus.FAILURE
    except OSError as fault:
        if fault.errno != errno.ENOSPC:
            raise
        _silence_stdout()
        full = f"disk full: {fault.filename or 'standard output or a file'} was not written to its end"
        return _explain(DeblurError(f"{full}; free some space and run again"), ExitStatus.FAILURE)
    except DeblurError as fault:
        return _explain(fault, fault.exit_status)
    except _UsageFault as fault:
        return _explain(fault, ExitStatus.INPUT)
    return status if isinstance(status, int) else ExitStatus.OK


def _explain(fault: Exception, status: int) -> int:
    if os.environ.get("DEBLUR_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    format_message = getattr(fault, "format_message", fault.__str__)  # usage faults name their option there
    message = " ".join(format_message().splitlines())
    if getattr(fault, "option_name", None) == "--suffix":
        message += "; names are made by --name, as in --name '{stem}_sharp{ext}'"
    if message:  # a group that was called without a command has shown its help instead
        write_note(f"error: {message}")
    return status


def _terminate(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _open_missing_streams() -> None:
    """A stream that the caller closed becomes the null device; a photo would be opened in its place otherwise."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - stays open
            setattr(sys, name, stream)


def _silence_stdout() -> None:
    """Nobody reads stdout any more, or it is full: what is still buffered must not raise again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

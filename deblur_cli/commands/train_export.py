"""`deblur train export`: a trained model as a folder for the Hub, and the way there."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from deblur_cli.commands.options import QuietOption, option
from deblur_cli.commands.streams import write_note, write_result
from deblur_cli.errors import InputError


def _own(panel: str, flag: str, text: str, metavar: str | None = None) -> Any:
    """An option without an environment variable: those of its name are `deblur run`'s, or nothing should be sent."""
    return typer.Option(flag, help=text, metavar=metavar, rich_help_panel=panel)


def export(
    expert: Annotated[str, option("Model", "--expert", "A model without a flow, or a file.", metavar="NAME|FILE")],
    out: Annotated[Path, option("Model", "--out -o", "The folder; new, or empty.", metavar="FOLDER")],
    blend: Annotated[
        Path | None, option("Model", "--blend", "Of the expert, if it brings none.", metavar="FILE")
    ] = None,
    second: Annotated[
        str | None,
        option("Model", "--second", "The second expert, where the blend weighs one.", metavar="NAME|FILE"),
    ] = None,
    codec: Annotated[
        Path | None, option("Model", "--codec", "Of the flow; leave all three out for an expert alone.", metavar="FILE")
    ] = None,
    base: Annotated[
        str | None, option("Model", "--base", "Of the flow: a file, its folder, or a model.", metavar="NAME|PATH")
    ] = None,
    lora: Annotated[Path | None, option("Model", "--lora", "Of the flow.", metavar="FILE")] = None,
    prompt: Annotated[
        Path | None, option("Model", "--prompt", "Of the flow, where it was trained with one.", metavar="FILE")
    ] = None,
    steps: Annotated[int | None, _own("Model", "--steps", "What it runs with by default.", "N")] = None,
    strength: Annotated[float | None, _own("Model", "--strength", "What it runs with by default.", "0-1")] = None,
    name: Annotated[str | None, _own("Card", "--name", "Default: the repository's, or the folder's.", "TEXT")] = None,
    licence: Annotated[
        str | None, option("Card", "--licence", "Of these weights; --push needs it.", metavar="TEXT")
    ] = None,
    data_note: Annotated[
        str | None, option("Card", "--data-note", "What they were trained on, and its licences.", metavar="TEXT")
    ] = None,
    push: Annotated[str | None, _own("Hub", "--push", "Send the folder to this repository.", "OWNER/NAME")] = None,
    private: Annotated[bool, _own("Hub", "--private", "If the repository is new, only you see it.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Write a trained model as a folder in diffusers' manner, with a model card; --push sends it to the Hub.

    Weights are copied byte for byte. Of a base or an expert that is given by the name of a model from the Hub, only
    repository, commit and sha256 are noted. Files that were not trained on each other are refused.

    \b
    Examples:
      deblur train export --expert quick --codec runs/codec/codec.safetensors \\
        --base runs/base/transformer.safetensors --lora runs/flow/lora.safetensors --out exported
      deblur weights add mine exported
      deblur train export --expert runs/expert/expert.safetensors --out sharp --licence Apache-2.0 --push me/sharp
    """
    from deblur_cli.weights.repository import check_push

    if push is None and private:
        raise InputError("--private: goes with --push OWNER/NAME")
    if push is not None:
        if not licence:
            raise InputError("--push: say the licence of these weights with --licence, such as --licence Apache-2.0")
        check_push(push)
    from deblur_cli.training.export import Export, export_model

    chosen = name or (out.resolve().name if push is None else push.rpartition("/")[2])
    flow, run = (codec, base, lora, prompt), (steps, strength)
    wanted = Export(chosen, expert, out, blend, second, *flow, *run, licence or "", data_note or "", push or "")
    for note in export_model(wanted):
        write_note(note)
    write_result(str(out))
    source = shlex.quote(str(out)) if push is None else _push(out, push, private=private, quiet=quiet)
    if not quiet:
        write_note(f"use it with: deblur weights add {chosen} {source}")


def _push(folder: Path, repository: str, *, private: bool, quiet: bool) -> str:
    """What `deblur weights add` takes for the folder on the Hub."""
    from deblur_cli.weights.repository import push_folder

    pushed = push_folder(folder, repository, private=private, show_bars=sys.stderr.isatty() and not quiet)
    write_result(pushed.url)
    write_result(pushed.source)
    return pushed.source

"""`deblur weights`: what the tool can run, what of it is on this machine, and how the rest gets there."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deblur_cli.commands.options import DEFAULT_MODEL, JsonOption, QuietOption, known_models, option
from deblur_cli.commands.streams import write_json, write_note, write_result
from deblur_cli.errors import WeightsError
from deblur_cli.system.wording import count

if TYPE_CHECKING:
    from deblur_cli.weights.entries import Manifest, ModelEntry, WeightsFile

app = typer.Typer(no_args_is_help=True)

_SCHEMA = 1  # fields are only ever added


def _complete_model(incomplete: str) -> list[str]:
    return [model.name for model in known_models() if model.name.startswith(incomplete)]


NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A model, or one of its files.", autocompletion=_complete_model)
]
NamesArgument = Annotated[
    list[str], typer.Argument(metavar="NAME...", help="Models, or their files.", autocompletion=_complete_model)
]
MaybeNamesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME]...", help="Models, or their files; default: all.", autocompletion=_complete_model),
]
OfflineOption = Annotated[bool, option("Network", "--offline", "Never go to the network.")]
AllOption = Annotated[
    bool, option("Reports", "--all", "Also rows for benchmarks, and what is not trained; sizes and licences.")
]


@app.command("list")
def list_models(everything: AllOption = False, as_object: JsonOption = False) -> None:
    """List the models to choose from: what each is good for, and how long it takes. Your own ones follow.

    The time is that of a photo of 24 megapixels on two cores, without a GPU.

    \b
    State:
      bundled   came with the tool
      cached    in the Hub's cache        imported, local   brought by you
      absent    deblur weights pull NAME fetches it
      damaged   wrong size or wrong bytes; never used
      untrained cannot run yet; deblur weights show NAME says how to train it

    \b
    Examples:
      deblur weights list
      deblur weights list --all
      deblur weights list --json    (all of them, too)
    """
    from deblur_cli.commands import weights_tables
    from deblur_cli.weights.manifest import read_manifest

    manifest = read_manifest()
    models, default = manifest.models.values(), manifest.resolve(DEFAULT_MODEL)
    if as_object:
        rows = [{**_describe_model(entry), "default": entry.name == default} for entry in models]
        write_json({"schema": _SCHEMA, "models": rows}, indent=2)
    elif everything:
        weights_tables.show_all(models, default)
    else:
        weights_tables.show_choices(models, default)


@app.command()
def show(name: NameArgument, as_object: JsonOption = False) -> None:
    """Tell everything about one model: files, hashes, licence, published scores.

    Example: deblur weights show nafnet-64
    """
    from deblur_cli.commands.weights_tables import show_facts
    from deblur_cli.weights.manifest import find_model

    facts = _describe_model(find_model(name))
    if as_object:
        write_json({"schema": _SCHEMA, **facts}, indent=2)
    else:
        show_facts(facts)


@app.command()
def pull(names: NamesArgument, offline: OfflineOption = False, quiet: QuietOption = False) -> None:
    """Download models, verify them, and print where their files lie.

    Several files come side by side. A cut connection is resumed. HF_HOME, HF_TOKEN, HF_ENDPOINT and
    HF_HUB_OFFLINE mean what they mean to every program of the Hub.

    \b
    Examples:
      deblur weights pull nafnet-64
      HF_ENDPOINT=https://mirror.example deblur weights pull nafnet-32 nafnet-64
    """
    from deblur_cli.commands.progress import Gauge, choose_display
    from deblur_cli.commands.weights_tables import format_size
    from deblur_cli.weights.fetching import pull_files

    files = _find_all(names, to_run=True)
    gauges: dict[str, Gauge] = {}
    with choose_display(quiet=quiet) as display:

        def see(file: "WeightsFile", done: int, total: int | None) -> None:
            gauge = gauges.setdefault(file.key, Gauge(total, name=file.key, begun=done))
            gauge.done, gauge.total = done, total
            gauge.text = f"{file.key}: {format_size(done)} of {format_size(total)}"
            display.show(gauge)

        pulled, faults = pull_files(files, see, offline=offline)
    for done in pulled:
        if not quiet:
            write_note(f"{done.file.key}: {'downloaded and verified' if done.downloaded else 'was here, verified'}")
        if done.pinned:
            write_note(f"{done.file.key}: nobody has published its sha256; pinned to {done.pinned}")
        write_result(str(done.path))
    _raise_all(faults, f"{len(faults)} of {count(len(files), 'file')} not there; see above")


@app.command()
def verify(names: MaybeNamesArgument = None, as_object: JsonOption = False) -> None:
    """Read every byte again and compare with the promised sha256.

    \b
    Examples:
      deblur weights verify
      deblur weights verify nafnet-64

    Exit status: 0 all is sound, 1 something is damaged, or named and absent.
    """
    from deblur_cli.commands.table import show_table
    from deblur_cli.weights.manifest import read_manifest

    files = _find_all(names) if names else _used_files(read_manifest())
    rows = [_verify_file(file) for file in files]
    if as_object:
        write_json({"schema": _SCHEMA, "files": rows}, indent=2)
    else:
        show_table(("file", "result", "path"), [(row["key"], row["result"], row["path"]) for row in rows])
    bad = [row["key"] for row in rows if row["result"].startswith("damaged") or (names and row["result"] == "absent")]
    if bad:
        raise WeightsError(f"not usable: {', '.join(bad)}; run deblur weights pull {' '.join(bad)}")


@app.command()
def path(name: NameArgument) -> None:
    """Print where the verified files of a model lie; never goes to the network.

    Example: deblur weights path nafnet-64
    """
    from deblur_cli.weights.fetching import pull_files
    from deblur_cli.weights.manifest import find_files

    present, faults = pull_files(find_files(name), offline=True)
    for file in present:
        write_result(str(file.path))
    _raise_all(faults, f"{count(len(faults), 'file')} of {name} not there; run deblur weights pull {name}")


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What --model will call it.")],
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A file or a folder, here or on the Hub; see above.")],
    like: Annotated[
        str | None,
        option("Entry", "--like", "For a file: the model it runs like; default: quick.", metavar="MODEL"),
    ] = None,
    sha256: Annotated[str | None, option("Entry", "--sha256", "Else pinned by the first use.", metavar="HEX")] = None,
    licence: Annotated[str | None, option("Entry", "--licence", "Of these weights.", metavar="TEXT")] = None,
    summary: Annotated[str | None, option("Entry", "--summary", "A line for the list.", metavar="TEXT")] = None,
) -> None:
    """Add a model of your own; it never takes the name of one that ships with the tool.

    \b
    Source:
      FILE                                  weights that run as --like does
      hf://OWNER/REPOSITORY@COMMIT/FILE     the same, on the Hub
      FOLDER                                a whole model with its model.json
      hf://OWNER/REPOSITORY@REVISION        the same, on the Hub; default: main

    \b
    Examples:
      deblur weights add mine runs/expert/expert.safetensors
      deblur weights add my-nafnet tuned.pth --like nafnet-32
      deblur weights add theirs hf://OWNER/REPOSITORY@FULL-COMMIT/net.pth --like nafnet-64
      deblur weights add my-flow exported/
      deblur weights add their-flow hf://OWNER/REPOSITORY
    """
    from deblur_cli.weights.manifest import user_manifest_path
    from deblur_cli.weights.user_manifest import add_model

    given = {"sha256": sha256, "licence": licence, "summary": summary}
    entry = add_model(name, source, like, {key: value for key, value in given.items() if value is not None})
    write_note(f"{entry.name}: added to {user_manifest_path()}; runs with deblur run --model {entry.name}")


@app.command()
def remove(name: NameArgument) -> None:
    """Take a model of your own out of the list; your files and the Hub's cache stay as they are.

    Example: deblur weights remove mine
    """
    from deblur_cli.weights.user_manifest import remove_model

    remove_model(name)
    write_note(f"{name}: removed from the list")


@app.command("import")
def import_weights(
    name: NameArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What you have fetched by hand.")],
) -> None:
    """Take a file that you fetched by hand, check its bytes, and keep a copy below HF_HOME.

    \b
    Examples:
      deblur weights import nafnet-64 Downloads/NAFNet-GoPro-width64.pth
      deblur weights import maxim-realblur-j Downloads/checkpoint.npz
    """
    from deblur_cli.weights.manifest import find_converting, find_files
    from deblur_cli.weights.store import expected_sha256, import_file

    wanted = find_files(name)
    if len(wanted) != 1:
        raise WeightsError(f"{name}: has several files; name one of {', '.join(entry.key for entry in wanted)}")
    known, converting = expected_sha256(wanted[0]), find_converting(wanted[0])
    if converting is not None:
        from deblur_cli.backends.importing import check_convertible, convert_imported  # torch takes seconds

        check_convertible(converting, file)
    target = import_file(wanted[0], file)
    if known is None:
        write_note(f"{name}: nobody has published its sha256; pinned to {expected_sha256(wanted[0])}")
    if converting is not None:
        write_note(convert_imported(converting, name, target))
    write_result(str(target))


def _find_all(names: list[str], *, to_run: bool = False) -> "list[WeightsFile]":
    """The files of all these models, each once."""
    from deblur_cli.weights.manifest import find_files

    return list({file.key: file for name in names for file in find_files(name, to_run=to_run)}.values())


def _used_files(manifest: "Manifest") -> "list[WeightsFile]":
    used = {file.key: file for entry in manifest.models.values() for file in entry.files.values()}
    return list({**used, **manifest.files}.values())


def _verify_file(file: "WeightsFile") -> dict[str, str]:
    from deblur_cli.weights.store import expected_sha256, find_fault, locate

    place = locate(file)
    fault = None if place is None else find_fault(file, place, thorough=True)
    sound = "verified" if expected_sha256(file) else "nobody has published its sha256"
    result = "absent" if place is None else f"damaged: {fault}" if fault else sound
    return {"key": file.key, "result": result, "path": str(place or "")}


def _describe_model(entry: "ModelEntry") -> dict[str, Any]:
    from deblur_cli.commands.weights_tables import model_state

    facts = {key: value for key, value in asdict(entry).items() if key != "files"}
    files = [_describe_file(role, file) for role, file in entry.files.items()]
    return {**facts, "state": model_state(entry), "bytes": entry.bytes, "files": files}


def _describe_file(role: str, file: "WeightsFile") -> dict[str, Any]:
    from deblur_cli.weights.store import expected_sha256, find_state, locate

    place = locate(file)
    return {
        "role": role,
        **{key: getattr(file, key) for key in ("key", "kind", "origin", "bytes", "licence", "gated", "source")},
        "sha256": expected_sha256(file),
        "state": find_state(file),
        "path": str(place) if place else None,
    }


def _raise_all(faults: list[WeightsError], summary: str) -> None:
    """One fault is the command's own line; several are a line each, then a line that counts them."""
    if len(faults) == 1:
        raise faults[0]
    for fault in faults:
        write_note(str(fault))
    if faults:
        raise WeightsError(summary)

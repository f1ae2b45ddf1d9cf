"""The options of the commands, each also an environment variable, and their checks. Knows no torch."""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deblur_cli.errors import InputError
from deblur_cli.image_io.formats import list_words, writable_formats, writers

if TYPE_CHECKING:
    from deblur_cli.weights import ModelEntry

DEFAULT_MODEL = "standard"

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


DTYPES = ("auto", "float32", "bfloat16")
PLACES = ("auto", "all", "blurry")
FORMATS = ("same", *writable_formats())


def option(
    panel: str,
    flags: str,
    text: str,
    *,
    metavar: str | None = None,
    complete: Callable[[str], Sequence[str | tuple[str, str]]] | None = None,
) -> Any:
    """A Typer option that `DEBLUR_<NAME>` sets as well, under its heading in the help."""
    names = flags.split()
    variable = "DEBLUR_" + names[0].removeprefix("--").replace("-", "_").upper()
    return typer.Option(
        *names, help=text, metavar=metavar, envvar=variable, autocompletion=complete, rich_help_panel=panel
    )


def complete_model(incomplete: str) -> list[tuple[str, str]]:
    """Model names for the shell, with what they are; of names of before only the present one."""
    return [(model.name, model.summary) for model in known_models() if model.name.startswith(incomplete)]


def known_models() -> "Iterable[ModelEntry]":
    """Every model, for the shell; nothing is told beside them, it would stand in the middle of a command line."""
    from deblur_cli.weights import read_manifest

    logging.getLogger("deblur_cli").disabled = True
    return read_manifest().models.values()


def complete_device(incomplete: str) -> list[str]:
    """Device names for the shell; cards are not counted, that would need torch."""
    return [name for name in ("auto", "cpu", "cuda", "cuda:0", "mps") if name.startswith(incomplete)]


def complete_format(incomplete: str) -> list[str]:
    """File formats for the shell."""
    return [name for name in FORMATS if name.startswith(incomplete)]


def complete_dtype(incomplete: str) -> list[str]:
    """Number formats for the shell."""
    return [name for name in DTYPES if name.startswith(incomplete)]


def complete_places(incomplete: str) -> list[str]:
    """Places for the shell."""
    return [name for name in PLACES if name.startswith(incomplete)]


def complete_engine(incomplete: str) -> list[str]:
    """Engines for the shell."""
    from deblur_cli.weights.model_spec import ENGINES

    return [name for name in ENGINES if name.startswith(incomplete)]


OutputOption = Annotated[
    str | None,
    option("Files", "--output -o", "Folder for the results; for one photo also its file.", metavar="OUT"),
]
RecursiveOption = Annotated[bool, option("Files", "--recursive -r", "Also the sub-folders; their tree is mirrored.")]
FilesFromOption = Annotated[
    str | None,
    option("Files", "--files-from", "More inputs from a file, lines or NUL; - is stdin.", metavar="FILE|-"),
]
FormatOption = Annotated[
    str,
    option("Files", "--format", f"{list_words(FORMATS, 'or')}.", metavar="FORMAT", complete=complete_format),
]
_LOSSY = list_words([row.label for row, writer in writers() if writer.lossy], "and")
QualityOption = Annotated[
    int | None,
    option("Files", "--quality", f"Of {_LOSSY} results; default: fits the input.", metavar="1-100"),
]
NameOption = Annotated[
    str | None,
    option("Files", "--name", "Name of the results, from {stem}, {type}, {model}, {ext}.", metavar="TEMPLATE"),
]
OverwriteOption = Annotated[
    bool,
    option("Files", "--overwrite", "Do all again; replace also files not of this tool or this photo, or changed."),
]
ModelOption = Annotated[
    str,
    option(
        "Restoration",
        "--model",
        "What restores the photos; deblur weights list tells the choices.",
        metavar="NAME",
        complete=complete_model,
    ),
]
ExpertOption = Annotated[
    str | None,
    option(
        "Restoration",
        "--expert",
        "Instead of --model, or of the expert of one with a flow: a name, a trained file, or one that spandrel knows; "
        "for a NAFNet, --model nafnet-64 is the local variant, as published.",
        metavar="NAME|FILE",
    ),
]
StepsOption = Annotated[
    int | None,
    option("Restoration", "--steps", "Of a model with a flow: more are sharper and slower.", metavar="N"),
]
StrengthOption = Annotated[
    float | None,
    option("Restoration", "--strength", "How much detail a flow adds; 0 is its expert alone.", metavar="0-1"),
]
DeviceOption = Annotated[
    str,
    option(
        "Restoration",
        "--device",
        "auto, cpu, cuda, cuda:N or mps; one that is named must exist.",
        metavar="DEVICE",
        complete=complete_device,
    ),
]
DtypeOption = Annotated[
    str,
    option("Restoration", "--dtype", "auto, float32 or bfloat16.", metavar="DTYPE", complete=complete_dtype),
]
EngineOption = Annotated[
    str,
    option(
        "Restoration",
        "--engine",
        "auto, torch or openvino; the same picture, but OpenVINO is quicker on CPUs.",
        metavar="ENGINE",
        complete=complete_engine,
    ),
]
TileOption = Annotated[
    int | None,
    option("Restoration", "--tile", "Longest side of a tile; default: fits the device.", metavar="PIXELS"),
]
OnlyBlurredOption = Annotated[
    bool, option("What to restore", "--only-blurred", "Skip photos that are sharp, by the measure of deblur inspect.")
]
WhereOption = Annotated[
    str,
    option(
        "What to restore",
        "--where",
        "auto: all but the soft background of a sharp photo; all; blurry: only what moved.",
        metavar="PLACES",
        complete=complete_places,
    ),
]
MaskOption = Annotated[
    str | None,
    option(
        "What to restore",
        "--mask",
        "A picture of the photo's size or proportions: white is restored, black is kept.",
        metavar="FILE",
    ),
]
ShardOption = Annotated[
    str | None,
    option(
        "Several machines",
        "--shard",
        "Only part I of N of the photos, 1/4 to 4/4; auto: by Slurm's or SkyPilot's variables.",
        metavar="I/N|auto",
    ),
]
RayOption = Annotated[
    str | None,
    option(
        "Several machines",
        "--ray",
        "Work on a Ray cluster: local, auto or HOST:PORT; see docs/cluster.md.",
        metavar="ADDRESS",
    ),
]
SeedOption = Annotated[
    int, option("Restoration", "--seed", "Start of the random numbers, where a model draws any.", metavar="N")
]
FromViewOption = Annotated[
    str | None,
    option("Files", "--from-view", "Do what was chosen in deblur view, instead of INPUT and OUT.", metavar="FILE"),
]
SheetOption = Annotated[
    str | None,
    option("Reports", "--report", "Contact sheet: before and after, what changed, what failed.", metavar="FILE.html"),
]
DryRunOption = Annotated[bool, option("Reports", "--dry-run", "Show what would be done; write nothing.")]
JsonOption = Annotated[bool, option("Reports", "--json", "One JSON object on stdout at the end.")]
JsonLinesOption = Annotated[bool, option("Reports", "--jsonl", "JSON lines on stdout while it works.")]
QuietOption = Annotated[bool, option("Reports", "--quiet -q", "No progress, no summary; errors stay.")]
VerboseOption = Annotated[bool, option("Reports", "--verbose -v", "Also tell what is skipped, ignored or kept.")]
FailFastOption = Annotated[bool, option("Reports", "--fail-fast", "Stop at the first photo that fails.")]


def check_device(device: str) -> None:
    """Raise InputError unless the name could be a device; whether it exists is the backend's to say."""
    if not _DEVICE.fullmatch(device):
        raise InputError(f"--device {device}: unknown device; use auto, cpu, cuda, cuda:N or mps")


def was_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter stands on the command line; a default and the environment do not count."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def check_choice(flag: str, value: str, choices: Sequence[str]) -> None:
    """Raise InputError unless the value is one of the choices."""
    if value not in choices:
        raise InputError(f"{flag} {value}: unknown; use one of {', '.join(choices)}")


def pick_engine(engine: str) -> str | None:
    """An engine for a `ModelSpec`, None for auto; raises InputError where there is none of that name."""
    from deblur_cli.weights.model_spec import ENGINES

    check_choice("--engine", engine, ENGINES)
    return None if engine == "auto" else engine


def check_range(flag: str, value: float | None, lowest: int, highest: int) -> None:
    """Raise InputError when a given number lies outside its range."""
    if value is not None and not lowest <= value <= highest:
        raise InputError(f"{flag} {value}: must be from {lowest} to {highest}")

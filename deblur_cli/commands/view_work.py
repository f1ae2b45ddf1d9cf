"""The working half of `deblur view`: the page is served until Ctrl-C, or written into one file."""

import time
import webbrowser
from pathlib import Path

from deblur_cli.batch.looks.choices import FILE_NAME, ChoiceFile
from deblur_cli.batch.looks.comparisons import ComparisonStyle, export_result
from deblur_cli.batch.looks.desk import Desk, OfferedModel
from deblur_cli.batch.looks.results import Results, SourceFinder, find_results
from deblur_cli.batch.looks.server import served
from deblur_cli.batch.looks.sheet import Sheet, check_target, write_page
from deblur_cli.commands.progress import Gauge, choose_display
from deblur_cli.commands.streams import write_note, write_result
from deblur_cli.commands.weights_tables import model_state
from deblur_cli.errors import InputError
from deblur_cli.system.kept_files import KeptFiles
from deblur_cli.system.wording import count
from deblur_cli.weights import read_manifest
from deblur_cli.weights.model_spec import ModelSpec
from deblur_cli.weights.store import own_folder

_THUMBNAIL_BYTES = 100_000_000  # of some six thousand results
_ABSENT = ("absent", "damaged", "untrained")


def do_view(target: Path, sources: tuple[Path, ...], *, opens_browser: bool, quiet: bool) -> None:
    """Serve the page until a signal ends the command.

    Raises:
        InputError: no result is there, or the file of choices is none.
        KeyboardInterrupt: the usual end, which is no fault.
    """
    results = find_results(target)
    choices = ChoiceFile(results.folder / FILE_NAME)
    choices.read()
    finder = SourceFinder(results.folder, sources)
    kept = KeptFiles(own_folder("thumbnails"), _THUMBNAIL_BYTES)
    kept.trim()
    with served(Desk(results, finder, choices, _offer_models(), _read_model, kept)) as address:
        write_result(address.lasting)
        if not quiet:
            write_note(f"{count(len(results.files), 'result')}; the page is for this machine alone; Ctrl-C ends it")
        if opens_browser and not webbrowser.open(address.once) and not quiet:
            write_note("no browser could be opened; open the address above in one on this machine")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            if not quiet:
                write_note(_tell_choices(choices))


def do_export(target: Path, sources: tuple[Path, ...], export: Path, *, quiet: bool) -> None:
    """Write the results beside their photos into one file.

    Raises:
        InputError: no result is there, or the file cannot be written.
    """
    if export.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--export {export}: must end in .html")
    check_target(export)
    results = find_results(target)
    chosen = ChoiceFile(results.folder / FILE_NAME)
    verdicts = chosen.read()
    finder, style = SourceFinder(results.folder, sources), ComparisonStyle.of(len(results.files))
    photos, gauge = [], Gauge(len(results.files))
    with choose_display(quiet=quiet) as display:
        for file in results.files:
            choice = verdicts.get(chosen.relative(file.path))
            photos.append(export_result(file, finder, style, *([f"decided: {choice.verdict}"] if choice else [])))
            gauge.done += 1
            gauge.text = f"{len(photos)}/{count(len(results.files), 'result')}"
            display.show(gauge)
    write_page(export, _describe(results, target, photos).to_html())
    write_result(str(export))


def _describe(results: Results, target: Path, photos: list) -> Sheet:  # type: ignore[type-arg]
    title = target.resolve().name or str(target)
    others = f", {count(results.others, 'other photo')} left out" if results.others else ""
    return Sheet("Before and after", title, f"{count(len(photos), 'result')}{others}", photos)


def _offer_models() -> list[OfferedModel]:
    """What can run here: the models of `deblur weights list`, the user's, and those with a flow."""
    found = [entry for entry in read_manifest().models.values() if model_state(entry) not in _ABSENT]
    return [OfferedModel(entry.name, entry.backend == "dual_expert") for entry in found]


def _read_model(text: str) -> tuple[str, float | None]:
    spec = ModelSpec.parse(text)
    return spec.name, spec.strength


def _tell_choices(choices: ChoiceFile) -> str:
    try:
        verdicts = [choice.verdict for choice in choices.read().values()]
    except InputError as fault:
        return str(fault)
    if not verdicts:
        return "nothing was decided"
    told = ", ".join(f"{verdicts.count(word)} {word}" for word in ("keep", "redo", "reject"))
    return f"{told}; 'deblur run --from-view {choices.path}' does the work"

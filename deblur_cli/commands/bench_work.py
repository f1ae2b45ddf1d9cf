"""The working half of `deblur bench`: a plan becomes scores, files and a table."""

import shlex
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deblur_cli.backends import Backend, load_model
from deblur_cli.benchmark.bench_plan import BenchPlan
from deblur_cli.benchmark.gallery import Wanted, drop_outdated, keep_pictures, list_pictures
from deblur_cli.benchmark.journal import Journal, Record
from deblur_cli.benchmark.measuring import run_plan
from deblur_cli.benchmark.records import BenchmarkReport
from deblur_cli.benchmark.report_files import open_folder, write_report
from deblur_cli.benchmark.summary import build_report
from deblur_cli.benchmark.tables import note_lines, summary_rows
from deblur_cli.commands.progress import Display, Gauge, choose_display
from deblur_cli.commands.streams import write_json, write_note
from deblur_cli.commands.table import show_table
from deblur_cli.errors import BatchFailed
from deblur_cli.weights.model_spec import ModelSpec


@dataclass(frozen=True, slots=True)
class BenchTarget:
    """Where the report goes and what is left of an earlier one."""

    report: Path | None
    pictures: int
    fresh: bool


@dataclass(frozen=True, slots=True)
class BenchManner:
    """How the run shows itself."""

    as_json: bool
    quiet: bool


def measure_plan(plan: BenchPlan, target: BenchTarget, manner: BenchManner) -> None:
    """Run the plan, write its report, show its table.

    Raises:
        BatchFailed: a photo could not be read or restored; the others are measured.
        BackendError, WeightsError: a model cannot run; what was finished is kept.
    """
    with open_folder(target.report) if target.report else nullcontext():
        _measure_plan(plan, target, manner)


def _measure_plan(plan: BenchPlan, target: BenchTarget, manner: BenchManner) -> None:
    _tell_plan(plan, manner)
    with choose_display(quiet=manner.quiet) as display:
        tell_score = partial(_tell_score, display, Gauge(plan.total, steady=False))
        records = run_plan(plan, Journal(target.report, fresh=target.fresh), tell_score, load_row)
        report = build_report(plan, records, _command_line())
        if target.report:
            keys = {(row.score.dataset, row.score.model, row.score.image): row.key for row in records}
            drop_outdated(target.report, keys)
            wanted = list(list_pictures(plan, report, keys, target.pictures))
            tell_picture = partial(_tell_picture, display, Gauge(len(wanted), name="pictures", steady=False))
            keep_pictures(plan, wanted, target.report, tell_picture, load_row)
            write_report(report, target.report)
    _show(report, target, manner)
    failed = [row.score.note for row in records if row.failed]
    if failed:
        raise BatchFailed(f"{len(failed)} scores are missing: {failed[0]}")


def load_row(text: str, *, device: str, dtype: str) -> Backend:
    """The backend of a row of the table; worker processes find this function by its name."""
    spec = ModelSpec.parse(text)
    return load_model(spec.name, device=device, dtype=dtype, steps=spec.steps, strength=spec.strength)


def _tell_score(display: Display, gauge: Gauge, record: Record) -> None:
    score = record.score
    if record.failed:
        display.note(f"{score.model}: {score.note}")
    gauge.done += 1
    gauge.text = f"{gauge.done:.0f}/{gauge.total:.0f}, {score.dataset}, {score.model}, {score.image}"
    display.show(gauge)


def _tell_picture(display: Display, gauge: Gauge, picture: Wanted) -> None:
    gauge.done += 1
    gauge.text = f"picture {picture.place}"
    display.show(gauge)


def _tell_plan(plan: BenchPlan, manner: BenchManner) -> None:
    if manner.quiet:
        return
    for dataset in plan.datasets:
        write_note(f"{dataset.name}: layout {dataset.layout}, {len(dataset.pairs)} photos")
        for remark in dataset.remarks:
            write_note(remark)


def _show(report: BenchmarkReport, target: BenchTarget, manner: BenchManner) -> None:

    if manner.as_json:
        write_json(report.to_dict(), indent=2)
    else:
        show_table(*summary_rows(report))
    if manner.quiet:
        return
    for line in note_lines(report):
        write_note(line)
    if target.report:
        write_note(f"report: {target.report / 'report.html'}")


def _command_line() -> str:
    return shlex.join(["deblur", *sys.argv[1:]])

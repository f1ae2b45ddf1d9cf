"""The working half of `deblur bench`: a plan becomes scores, files and a table."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deblur_cli.benchmark.bench_plan import BenchPlan
from deblur_cli.benchmark.compare import read_report
from deblur_cli.benchmark.gallery import Wanted, copy_pictures, drop_outdated, keep_pictures, list_pictures
from deblur_cli.benchmark.journal import Journal, Record
from deblur_cli.benchmark.measuring import run_plan
from deblur_cli.benchmark.merging import has_failed, merge_reports
from deblur_cli.benchmark.records import BenchmarkReport
from deblur_cli.benchmark.report_files import open_folder, write_report
from deblur_cli.benchmark.summary import build_report
from deblur_cli.benchmark.tables import note_lines, summary_rows
from deblur_cli.commands.progress import Display, Gauge, choose_display
from deblur_cli.commands.streams import write_json, write_note
from deblur_cli.commands.table import show_table
from deblur_cli.errors import BatchFailed, InputError
from deblur_cli.system.wording import count


@dataclass(frozen=True, slots=True)
class BenchOutput:
    """Where the figures go, what is left there of an earlier run, and how this one shows itself."""

    report: Path | None
    pictures: int
    fresh: bool
    as_json: bool
    quiet: bool


def measure_plan(plan: BenchPlan, output: BenchOutput) -> None:
    """Run the plan, write its report, show its table.

    Raises:
        BatchFailed: a photo could not be read or restored; the others are measured.
        BackendError, WeightsError: a model cannot run; what was finished is kept.
    """
    with open_folder(output.report) if output.report else nullcontext():
        _measure_plan(plan, output)


def _measure_plan(plan: BenchPlan, output: BenchOutput) -> None:
    _tell_plan(plan, output)
    with choose_display(quiet=output.quiet) as display:
        tell_score = partial(_tell_score, display, Gauge(plan.total, steady=False))
        records = run_plan(plan, Journal(output.report, fresh=output.fresh), tell_score)
        report = build_report(plan, records, _command_line())
        if output.report:
            keys = {(row.score.dataset, row.score.model, row.score.image): row.key for row in records}
            drop_outdated(output.report, keys)
            wanted = list(list_pictures(plan, report, keys, output.pictures))
            tell_picture = partial(_tell_picture, display, Gauge(len(wanted), name="pictures", steady=False))
            keep_pictures(plan, wanted, output.report, tell_picture)
            write_report(report, output.report)
    _show(report, output)
    failed = [row.score.note for row in records if row.failed]
    if failed:
        raise BatchFailed(f"{count(len(failed), 'score')} missing: {failed[0]}")


def merge_parts(parts: Sequence[Path], output: BenchOutput) -> None:
    """Make one report of the parts' reports, show its table.

    Raises:
        InputError: they are not the parts of one plan, or the folder is one of theirs.
        BatchFailed: a photo could not be read or restored in a part.
    """
    folders = [part if part.is_dir() else part.parent for part in parts]
    if output.report and any(output.report.resolve() == folder.resolve() for folder in folders):
        raise InputError(f"--report {output.report}: is one of the parts; choose another folder")
    report = merge_reports([(str(part), read_report(part)) for part in parts], _command_line())
    if output.report:
        with open_folder(output.report):
            copy_pictures(folders, output.report)
            write_report(report, output.report)
    _show(report, output)
    failed = [row.note for row in report.images if has_failed(row)]
    if failed:
        raise BatchFailed(f"{count(len(failed), 'score')} missing: {failed[0]}")


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


def _tell_plan(plan: BenchPlan, output: BenchOutput) -> None:
    if output.quiet:
        return
    for dataset in plan.datasets:
        part = f" of shard {plan.part}" if plan.whole else ""
        write_note(f"{dataset.name}: layout {dataset.layout}, {count(len(dataset.pairs), 'photo')}{part}")
        for remark in dataset.remarks:
            write_note(remark)


def _show(report: BenchmarkReport, output: BenchOutput) -> None:
    if output.as_json:
        write_json(report.to_dict(), indent=2)
    else:
        show_table(*summary_rows(report))
    if output.quiet:
        return
    for line in note_lines(report):
        write_note(line)
    if output.report:
        write_note(f"report: {output.report / 'report.html'}")


def _command_line() -> str:
    return shlex.join(["deblur", *sys.argv[1:]])

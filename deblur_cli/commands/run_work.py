"""The working half of `deblur run`: a plan becomes a batch that is shown, reported and ended properly."""

import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from deblur_cli.batch.jobs import Event, Notice, Outcome, PhotoFinished
from deblur_cli.batch.local import clear_away, run_batch
from deblur_cli.commands import report
from deblur_cli.commands.progress import Display, Meter, choose_display, format_duration
from deblur_cli.commands.report import Report, Setting
from deblur_cli.commands.run_task import RunTask
from deblur_cli.commands.streams import closed_output, write_note
from deblur_cli.errors import BatchFailed, InputError
from deblur_cli.system.wording import count

if TYPE_CHECKING:
    from deblur_cli.batch.looks.run_sheet import RunSheet

_STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")  # not every system has them all


def show_plan(task: RunTask) -> None:
    """What `--dry-run` prints."""
    setting = Setting(task.write_order.stamp, task.restore_order.tile)
    for job in task.plan.todo:
        if job.misfit:
            write_note(f"{job.source}: will fail: {job.misfit}")
    selection = task.write_order.selection
    if selection is not None and selection.only_blurred and task.plan.todo:
        write_note("sharp photos will be skipped; which they are shows in the work, or by deblur inspect")
    _tell_left_out(task)
    report.show_plan(task.plan, setting, as_object=task.manner.as_object, as_lines=task.manner.as_lines)
    _raise_failures(task, Outcome())


def do_runs(tasks: Sequence[RunTask], sheet: Path | None = None) -> None:
    """One batch after the other, each with its own model, and the contact sheet of them all.

    Args:
        sheet: where that is written, also when photos failed or a signal came.
    Raises:
        BatchFailed: as `do_run`, of one batch or of several together.
        InputError: the sheet cannot be written.
    """
    drawn, failures = _open_sheet(sheet, tasks), []
    try:
        for task in tasks:
            try:
                do_run(task, drawn)
            except BatchFailed as fault:
                failures.append(fault)
                if task.manner.fail_fast:
                    break
    except BaseException:
        _write_sheet(drawn, is_ending=True)
        raise
    _write_sheet(drawn)
    if failures:
        raise failures[0] if len(failures) == 1 else BatchFailed("; ".join(map(str, failures)))


def _open_sheet(sheet: Path | None, tasks: Sequence[RunTask]) -> "RunSheet | None":
    if sheet is None:
        return None
    from deblur_cli.batch.looks.run_sheet import RunSheet

    return RunSheet(sheet, sum(len(task.plan.jobs) for task in tasks))


def _write_sheet(sheet: "RunSheet | None", *, is_ending: bool = False) -> None:
    """Write the sheet, if there is one; when the command ends for another reason, that one is told and this a note."""
    try:
        if sheet is not None:
            sheet.write()
    except InputError as fault:
        if not is_ending:
            raise
        write_note(str(fault))


def do_run(task: RunTask, sheet: "RunSheet | None" = None) -> None:
    """Restore and write what the plan says, tell it, and raise what the exit status must show.

    Raises:
        BatchFailed: at least one photo failed, or a folder could not be listed.
        BackendError, WeightsError: the machine or the weights gave up.
        KeyboardInterrupt, SystemExit: a signal ended the work.
    """
    _tell_left_out(task)
    _tell_skipped(task)
    teller = report.choose_report(as_object=task.manner.as_object, as_lines=task.manner.as_lines)
    if not task.plan.todo:
        _do_nothing(task, teller)
        if sheet is not None:
            sheet.close_batch(task.plan, Outcome(), task.write_order.stamp)
        _raise_failures(task, Outcome())
        return
    started = time.perf_counter()
    with _opened(task) as equipment, stop_on_signals() as stop:
        setting = _describe(task, equipment, time.perf_counter() - started)
        try:
            teller.start(task.plan, setting)
        except BrokenPipeError as fault:
            raise closed_output("nothing was begun") from fault
        meter = Meter.of(task.plan.todo)
        with choose_display(quiet=task.manner.quiet) as display:
            emit = _Listener(teller, meter, display, sheet, task.manner.verbose)
            outcome = equipment.run(emit=emit, stop=stop, fail_fast=task.manner.fail_fast)
        if sheet is not None:
            sheet.close_batch(task.plan, outcome, task.write_order.stamp)
        outcome = _report_end(task, teller, outcome)
        _tell_summary(task, outcome, setting)
    _raise_failures(task, outcome)


def _report_end(task: RunTask, teller: Report, outcome: Outcome) -> Outcome:
    """Who has closed stdout is told so on stderr: the batch ends there, or only its report is lost."""
    try:
        if not isinstance(outcome.fault, BrokenPipeError):
            teller.end(task.plan, outcome)
            return outcome
    except BrokenPipeError:
        pass
    left = len(task.plan.todo) - len(outcome.results)
    what = f"{count(left, 'photo')} not begun or not finished, run again to go on" if left else "every photo was done"
    return replace(outcome, fault=closed_output(what))


@dataclass(frozen=True, slots=True)
class _Listener:
    """Passes the events of a batch to everyone who wants them."""

    teller: Report
    meter: Meter
    display: Display
    sheet: "RunSheet | None" = None
    verbose: bool = False

    def __call__(self, event: Event) -> None:
        self.meter.see(event)
        if isinstance(event, Notice):
            self.display.note(f"{event.job.source}: {event.text}")
        if isinstance(event, PhotoFinished) and event.fault is not None:
            self.display.note(event.result.error + _trace(event.fault))
        if self.verbose and isinstance(event, PhotoFinished) and event.result.kept:
            self.display.note(f"{event.result.job.source}: {event.result.kept}")
        self.teller.see(event, self.meter, self.display)
        self.display.show(self.meter)
        if self.sheet is not None:
            self.sheet.see(event)


def _trace(fault: Exception) -> str:
    if os.environ.get("DEBLUR_DEBUG") != "1":
        return ""
    return "\n" + "".join(traceback.format_exception(fault)).rstrip()


@dataclass(frozen=True, slots=True)
class _Equipment:
    """What is ready to do the work: one of the runners, and where its networks run."""

    device: str
    dtype: str
    run: Callable[..., Outcome]
    place: str = ""


@contextmanager
def _opened(task: RunTask) -> Iterator[_Equipment]:
    jobs, order = task.plan.todo, task.restore_order
    if task.ray is None:
        from deblur_cli.system.devices import tune_malloc  # brings torch, which a dry run does without

        tune_malloc()
        model = order.load()
        yield _Equipment(model.device, model.dtype, partial(run_batch, jobs, model, task.write_order))
        return
    from deblur_cli.batch.ray_runner import RayTask, opened_ray

    with opened_ray(task.ray, RayTask(jobs, order, task.write_order, order.device, write_note)) as run:
        first = run.crew.ready[0]
        yield _Equipment(first.device, first.dtype, run.run, f"{count(len(run.crew.members), 'worker')} of Ray, ")


def _describe(task: RunTask, equipment: _Equipment, load_seconds: float) -> Setting:
    stamp = task.write_order.stamp
    setting = Setting(stamp, task.restore_order.tile, equipment.device, equipment.dtype, load_seconds)
    if not task.manner.quiet:
        size = sum(job.pixels for job in task.plan.todo) / 1e6
        photos = count(len(task.plan.todo), "photo")
        where = f"{setting.device} in {setting.dtype}, {equipment.place}"
        write_note(f"{stamp.model} on {where}{photos}, {size:.1f} megapixels")
    return setting


def _do_nothing(task: RunTask, teller: Report) -> None:
    clear_away(task.plan.jobs)
    teller.start(task.plan, Setting(task.write_order.stamp, task.restore_order.tile))
    teller.end(task.plan, Outcome())
    if not task.manner.quiet:
        if task.plan.jobs:
            write_note(f"nothing left to do, {count(len(task.plan.skipped), 'photo')} done before")
        else:
            write_note(f"nothing to do, shard {task.plan.part} has no photo: there are fewer than shards")


def _tell_left_out(task: RunTask) -> None:
    for line in task.plan.unread:
        write_note(line)
    if task.plan.results and not task.manner.quiet:
        results = count(task.plan.results, "result")
        write_note(f"{results} of this tool left out; name a file to restore it again")


def _tell_skipped(task: RunTask) -> None:
    if task.manner.verbose:
        for job in task.plan.skipped:
            write_note(f"{job.source}: skipped, {job.output} was made by the same recipe")
        write_note(f"{count(task.plan.ignored, 'other file')} ignored")


def _tell_summary(task: RunTask, outcome: Outcome, setting: Setting) -> None:
    if task.manner.quiet:
        return
    parts = [f"{len(outcome.done)} written"]
    skipped = len(task.plan.skipped) + len(outcome.skipped)
    sharp = [result.job.source for result in outcome.skipped if result.reason == "sharp"]
    parts += [f"{skipped} skipped" + (f", {len(sharp)} of them sharp" if sharp else "")] if skipped else []
    if task.manner.verbose:
        for source in sharp:
            write_note(f"{source}: skipped, it is sharp")
    parts += [f"{len(outcome.failed)} failed"] if outcome.failed else []
    remaining = len(task.plan.todo) - len(outcome.results)
    parts += [f"{remaining} not begun or not finished"] if remaining else []
    pace = f", {outcome.seconds / outcome.megapixels:.2f} s per megapixel" if outcome.megapixels >= 0.1 else ""
    write_note(f"{', '.join(parts)} in {format_duration(outcome.seconds)}{pace}")


def _raise_failures(task: RunTask, outcome: Outcome) -> None:
    if outcome.fault is not None:
        raise outcome.fault
    if outcome.failed:
        all_photos = count(len(task.plan.jobs), "photo")
        good = outcome.done or outcome.skipped or task.plan.skipped
        others = "stopped there" if task.manner.fail_fast else "the others are written" if good else "none is written"
        raise BatchFailed(f"{len(outcome.failed)} of {all_photos} failed; {others}")
    if task.plan.unread:
        folders = count(len(task.plan.unread), "folder")
        raise BatchFailed(f"{folders} could not be listed; the photos there are left out")


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether to stop; at the end a signal that came is delivered after all.

    A second signal goes straight to the handler of before (KeyboardInterrupt, or exit 143).
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            handler = previous[signal.Signals(number)]
            if callable(handler):
                handler(number, frame)
        received.append(number)

    previous = {number: signal.getsignal(number) for number in _listened()}
    for number in previous:
        signal.signal(number, note)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])


def _listened() -> list[signal.Signals]:
    """The signals that are not ignored already, as SIGHUP is under nohup."""
    known = [getattr(signal, name) for name in _STOPPING if hasattr(signal, name)]
    return [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]

"""What `deblur run` writes to stdout: paths, one JSON object or JSON lines; and the plan of `--dry-run`."""

import json
import time
from dataclasses import dataclass
from typing import Any

from deblur_cli.batch.jobs import Event, Job, Outcome, PhotoFinished, Result
from deblur_cli.batch.plan import Plan
from deblur_cli.batch.stamp import TOOL, Stamp
from deblur_cli.commands.progress import Display, Meter
from deblur_cli.commands.streams import write_json
from deblur_cli.commands.table import show_table
from deblur_cli.system.version import __version__

SCHEMA = 1  # fields are only ever added
_PROGRESS_EVERY = 2.0  # seconds between two "progress" lines of --jsonl


@dataclass(frozen=True, slots=True)
class Setting:
    """What holds for every photo of a run; device and dtype are empty when no network was needed."""

    stamp: Stamp
    tile: int | None
    device: str = ""
    dtype: str = ""
    load_seconds: float = 0.0


class Report:
    """What a script is told: a path a line, each as soon as the photo is written."""

    def start(self, plan: Plan, setting: Setting) -> None:
        """Before the first photo."""
        self._setting = setting

    def see(self, event: Event, meter: Meter, display: Display) -> None:
        """Something happened in the batch."""
        if isinstance(event, PhotoFinished) and event.result.status == "done":
            display.result(str(event.result.job.output))

    def end(self, plan: Plan, outcome: Outcome) -> None:
        """After the last photo, also when the run was cut short."""


class JsonReport(Report):
    """One object at the end."""

    def see(self, event: Event, meter: Meter, display: Display) -> None:
        """The outcome will tell it."""

    def end(self, plan: Plan, outcome: Outcome) -> None:
        """The object."""
        made = {result.job.source: result for result in outcome.results}
        made |= {job.source: Result(job, "skipped") for job in plan.skipped}
        results = [describe_result(made[job.source], self._setting) for job in plan.jobs if job.source in made]
        summary = summarise_run(plan, outcome, self._setting)
        write_json({**describe_setting(self._setting), "results": results, "summary": summary}, indent=2)


class JsonLinesReport(Report):
    """One event a line: start, file, progress, end."""

    def start(self, plan: Plan, setting: Setting) -> None:
        """The start line, and one file line for every photo that is skipped."""
        self._setting, self._last = setting, time.monotonic()
        write_json({"event": "start", **describe_setting(setting), "plan": count_actions(plan)})
        for job in plan.skipped:
            write_json({"event": "file", **describe_result(Result(job, "skipped"), setting)})

    def see(self, event: Event, meter: Meter, display: Display) -> None:
        """A file line at once, a progress line now and then."""
        if isinstance(event, PhotoFinished):
            display.result(json.dumps({"event": "file", **describe_result(event.result, self._setting)}))
        elif time.monotonic() - self._last >= _PROGRESS_EVERY:
            self._last = time.monotonic()
            display.result(json.dumps({"event": "progress", **describe_progress(meter)}))

    def end(self, plan: Plan, outcome: Outcome) -> None:
        """The summary."""
        write_json({"event": "end", "summary": summarise_run(plan, outcome, self._setting)})


def choose_report(*, as_object: bool, as_lines: bool) -> Report:
    """The report that the options ask for."""
    if as_object:
        return JsonReport()
    return JsonLinesReport() if as_lines else Report()


def describe_setting(setting: Setting) -> dict[str, Any]:
    """The head of every report."""
    stamp = setting.stamp
    return {
        "schema": SCHEMA,
        "tool": TOOL,
        "version": __version__,
        "model": {"name": stamp.model, "weights": dict(stamp.weights)},
        "device": setting.device or None,
        "dtype": setting.dtype or None,
        "tile": setting.tile,
        "options": dict(stamp.options),
    }


def describe_result(result: Result, setting: Setting) -> dict[str, Any]:
    """What became of one photo."""
    error = {"code": result.error_type, "message": result.error} if result.error else None
    return {
        "input": str(result.job.source),
        "output": str(result.job.output),
        "status": result.status,
        "reason": (result.reason or "same recipe") if result.status == "skipped" else result.job.action,
        "error": error,
        "kept": result.kept or None,
        "seconds": round(result.seconds, 6),
        "network_seconds": round(result.network_seconds, 6),
        "width": result.width or None,
        "height": result.height or None,
        "bits": result.bits or None,
        "tile": setting.tile,
        "dtype": setting.dtype or None,
    }


def describe_progress(meter: Meter) -> dict[str, Any]:
    """How far the batch is."""
    return {
        "photos": meter.photos,
        "total_photos": meter.total_photos,
        "megapixels": round(meter.done, 3),
        "total_megapixels": round(meter.total or 0.0, 3),
        "megapixels_per_second": round(meter.rate, 3),
        "seconds_left": meter.seconds_left and round(meter.seconds_left, 1),
        "current": meter.current,
    }


def summarise_run(plan: Plan, outcome: Outcome, setting: Setting) -> dict[str, Any]:
    """Counts and times; `seconds` is the batch's wall time without loading the model."""
    return {
        "done": len(outcome.done),
        "skipped": len(plan.skipped) + len(outcome.skipped),
        "sharp": sum(result.reason == "sharp" for result in outcome.skipped),
        "failed": len(outcome.failed),
        "remaining": len(plan.todo) - len(outcome.results),
        "ignored": plan.ignored,
        "results_left_out": plan.results,
        "folders_not_listed": list(plan.unread),
        "shard": _name_part(plan),
        "megapixels": round(outcome.megapixels, 4),
        "seconds": round(outcome.seconds, 6),
        "network_seconds": round(outcome.network_seconds, 6),
        "load_seconds": round(setting.load_seconds, 6),
        "error": str(outcome.fault) if outcome.fault else None,
    }


def count_actions(plan: Plan) -> dict[str, Any]:
    """How many photos are new, replaced and skipped, and their size."""
    actions = [job.action for job in plan.jobs]
    megapixels = sum(job.pixels for job in plan.todo) / 1e6
    return {
        "photos": len(actions),
        "new": actions.count("new"),
        "replace": actions.count("replace"),
        "skip": actions.count("skip"),
        "ignored": plan.ignored,
        "results_left_out": plan.results,
        "folders_not_listed": list(plan.unread),
        "shard": _name_part(plan),
        "megapixels": round(megapixels, 4),
    }


def _name_part(plan: Plan) -> str | None:
    return str(plan.part) if plan.part.count > 1 else None


def show_plan(plan: Plan, setting: Setting, *, as_object: bool, as_lines: bool) -> None:
    """The plan of `--dry-run`: JSON, or a table."""
    if as_object:
        jobs = [_describe_job(job) for job in plan.jobs]
        content = {"dry_run": True, "plan": jobs, "summary": count_actions(plan)}
        write_json({**describe_setting(setting), **content}, indent=2)
    elif as_lines:
        write_json({"event": "start", "dry_run": True, **describe_setting(setting), "plan": count_actions(plan)})
        for job in plan.jobs:
            write_json({"event": "plan", **_describe_job(job)})
        write_json({"event": "end", "summary": count_actions(plan)})
    else:
        rows = [(str(job.source), str(job.output), job.action) for job in plan.jobs]
        show_table(("input", "output", "action"), rows)


def _describe_job(job: Job) -> dict[str, Any]:
    return {
        "input": str(job.source),
        "output": str(job.output),
        "action": job.action,
        "format": job.file_format,
        "width": job.width or None,
        "height": job.height or None,
        "misfit": job.misfit or None,
    }

"""The contact sheet of a run: each photo beside its result, what it took, what changed, and what failed."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from deblur_cli.batch.jobs import Event, Job, Notice, Outcome, PhotoFinished, Result
from deblur_cli.batch.looks.comparisons import ComparisonStyle, compare_files, describe_recipe
from deblur_cli.batch.looks.sheet import Sheet, SheetPhoto, write_page
from deblur_cli.batch.plan import Plan
from deblur_cli.batch.stamp import Stamp
from deblur_cli.system.wording import count


@dataclass(slots=True)
class RunSheet:
    """Takes in the events of one batch or of several, and is written at the end, however that came.

    Crops are cut from the files as soon as a photo is written, so that nothing is left to do when a run is stopped.

    Attributes:
        photos: of the whole run; a few are shown larger than many.
    """

    path: Path
    photos: int
    _shown: list[SheetPhoto] = field(default_factory=list)
    _told: dict[Path, list[str]] = field(default_factory=dict)
    _left_out: list[str] = field(default_factory=list)
    _recipes: list[str] = field(default_factory=list)
    _counts: dict[str, int] = field(default_factory=dict)
    _seconds: float = 0.0

    def see(self, event: Event) -> None:
        """Something happened in a batch."""
        match event:
            case Notice(job, text):
                self._told.setdefault(job.output, []).append(text)
            case PhotoFinished(result):
                self._shown += self._lay_out(result)

    def close_batch(self, plan: Plan, outcome: Outcome, stamp: Stamp) -> None:
        """A batch is over, to its end or not."""
        finished = {result.job.output for result in outcome.results}
        sharp = [result.job for result in outcome.skipped if result.reason == "sharp"]
        skipped = [*plan.skipped, *(result.job for result in outcome.skipped if result.reason != "sharp")]
        open_jobs = [job for job in plan.todo if job.output not in finished]
        self._recipes.append(describe_recipe(stamp))
        self._seconds += outcome.seconds
        groups = {"written": outcome.done, "failed": outcome.failed, "done before": skipped, "left out as sharp": sharp}
        for name, jobs in (groups | {"not begun or not finished": open_jobs}).items():
            self._counts[name] = self._counts.get(name, 0) + len(jobs)
        self._left_out += _tell(skipped, "done before, by the same recipe")
        self._left_out += _tell(sharp, "sharp, and only blurred photos were wanted")
        self._left_out += _tell(open_jobs, "not begun or not finished; run again to go on")
        self._left_out += plan.unread

    def write(self) -> None:
        """Write the sheet; raises InputError where the system refuses."""
        counts = [f"{number} {name}" for name, number in self._counts.items() if number]
        facts = f"{', '.join(counts) or 'nothing was done'} in {self._seconds:.1f} s"
        title = count(self.photos, "photo")
        recipes = "; ".join(dict.fromkeys(self._recipes))
        failed_first = sorted(self._shown, key=lambda photo: not photo.fault)
        write_page(self.path, Sheet("Contact sheet", title, facts, failed_first, recipes, self._left_out).to_html())

    def _lay_out(self, result: Result) -> list[SheetPhoto]:
        job = result.job
        if result.status == "skipped":
            return []
        if result.status == "failed":
            return [SheetPhoto(str(job.source), fault=result.error)]
        fact = f"{result.seconds:.1f} s, the network {result.network_seconds:.1f} s → {job.output}"
        facts = [f"as taken: {result.blur}"] * bool(result.blur) + [fact]
        try:
            style = ComparisonStyle.of(self.photos, shows_face=True)
            first, *faces = compare_files(str(job.source), job.source, job.output, style, *facts)
        except Exception as fault:  # a picture of the sheet: its place says why, and the batch goes on
            first, faces = SheetPhoto(str(job.source), tuple(facts), fault=f"written, but cannot be shown: {fault}"), []
        notes = [*self._told.get(job.output, ()), *([result.kept] if result.kept else [])]
        return [replace(first, notes=tuple(notes)), *faces]


def _tell(jobs: Iterable[Job], what: str) -> list[str]:
    return [f"{job.source}: {what}" for job in jobs]

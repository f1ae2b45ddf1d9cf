"""A runner: the stages of a batch on the workers of a Ray cluster. Plan, order, events and retries stay here.

    idle worker --asks--> driver --path--> worker: read, network, write --result--> driver: event

No photo is a worker's before it asks, so that a slow node holds nobody up; and pixels never travel. A photo whose
worker dies is tried again when the others are done, on another node if there is one, and alone in its worker: then it
is known whose fault it was. It fails at the third death.
"""

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from deblur_cli.batch.jobs import Event, Job, Notice, Outcome, PhotoFinished, PhotoStarted, PixelsDone, Result
from deblur_cli.batch.local import clear_away
from deblur_cli.batch.ray_cluster import joined
from deblur_cli.batch.ray_crew import Crew, CrewMember, Heard, Lost, PhotoTask, Progressed
from deblur_cli.batch.ray_worker import Answer, Loadable, WorkerOrder
from deblur_cli.batch.stages import WriteOrder
from deblur_cli.errors import BackendError, PhotoError
from deblur_cli.system import claims
from deblur_cli.system.files import find_leftovers, is_leftover_of, remove_leftovers

_TRIES = 3  # of a photo
_AT_ONCE = 2  # photos that a worker holds
_AGAIN = 1.0  # seconds between two looks at a photo that another run is at work on


@dataclass(frozen=True, slots=True)
class RayTask:
    """A batch for a cluster; `device` is what the user asked for, and `tell` gets lines for him."""

    jobs: Sequence[Job]
    model: Loadable
    writing: WriteOrder
    device: str
    tell: Callable[[str], None]


@contextmanager
def opened_ray(address: str, task: RayTask) -> Iterator["RayRun"]:
    """A run whose first worker is ready.

    Raises:
        InputError, BackendError, WeightsError: as `ray_cluster.joined` and `Crew.hire_all`.
    """
    with joined(address):
        order = WorkerOrder(task.model, task.writing, secrets.token_hex(8), str(Path.cwd()))
        crew = Crew(order, task.jobs, task.device, task.tell)
        try:
            crew.hire_all()
            yield RayRun(task.jobs, crew)
        finally:
            crew.close()


@dataclass(slots=True)
class RayRun:
    """A batch on the workers of a crew."""

    jobs: Sequence[Job]
    crew: Crew
    emit: Callable[[Event], None] = lambda event: None
    fail_fast: bool = False
    results: list[Result] = field(default_factory=list)
    fault: Exception | None = None
    _fresh: deque[PhotoTask] = field(default_factory=deque)
    _again: list[PhotoTask] = field(default_factory=list)
    _elsewhere: list[PhotoTask] = field(default_factory=list)  # another run is at work on them
    _leftovers: list[Path] = field(default_factory=list)  # of earlier runs, on whatever host

    def run(self, *, emit: Callable[[Event], None], stop: Callable[[], bool], fail_fast: bool = False) -> Outcome:
        """As `local.run_batch`; `emit` is called from this thread only."""
        started = time.perf_counter()
        self.emit, self.fail_fast = emit, fail_fast
        self._fresh.extend(PhotoTask(job) for job in self.jobs)
        clear_away(self.jobs)
        self._leftovers = find_leftovers({job.output.parent for job in self.jobs}, of_all=True)
        try:
            while self._goes_on():
                if stop() and not self.crew.is_closed:
                    self.crew.halt()
                self.crew.look_around()
                self._hand_out()
                for heard in self.crew.listen():
                    self._take(heard)
        except BaseException:  # a second Ctrl-C
            for task in self.crew.abort():
                self._tidy(task.job.output)
            raise
        places = {job.source: place for place, job in enumerate(self.jobs)}
        results = sorted(self.results, key=lambda result: places[result.job.source])
        return Outcome(tuple(results), time.perf_counter() - started, self.fault)

    def _goes_on(self) -> bool:
        if any(member.tasks for member in self.crew.members):
            return True
        waiting = [*self._again, *self._elsewhere, *self._fresh] if not self.crew.is_closed else []
        if waiting and not self.crew.members:
            names = ", ".join(str(task.job.source) for task in self._again[:_TRIES])
            last = f"; the last were at work on {names}" if names else ""
            self.fault = self.fault or BackendError(f"no node is left that can work{last}; run again to go on")
            return False
        return bool(waiting)

    # What goes out.

    def _hand_out(self) -> None:
        if self.crew.is_closed:
            return
        for _ in range(_AT_ONCE):  # everybody has one before anybody has two
            for member in self.crew.members:
                if (task := self._next_for(member)) is not None:
                    member.give(task, tuple(path for path in self._leftovers if is_leftover_of(path, task.job.output)))
                    self._tell(PhotoStarted(task.job))

    def _next_for(self, member: CrewMember) -> PhotoTask | None:
        tasks = member.tasks
        if member.ready is None or len(tasks) >= _AT_ONCE or any(task.tried_on for task in tasks):
            return None
        idle = sum(not other.tasks for other in self.crew.members) if tasks else 0
        if len(self._fresh) > idle:  # the last ones wait for who has none, not in the hand of who has one
            return self._fresh.popleft()
        task = self._next_elsewhere(member.ready.host)
        return self._next_again(member) if task is None and not tasks else task

    def _next_again(self, member: CrewMember) -> PhotoTask | None:
        """A photo that was lost on another node; on this one, too, if it was lost on all."""
        nodes = {other.node.id for other in self.crew.members if other.ready}
        for task in self._again:
            if member.node.id not in task.tried_on or nodes <= set(task.tried_on):
                self._again.remove(task)
                return task
        return None

    def _next_elsewhere(self, host: str) -> PhotoTask | None:
        """A photo that another run has let go, or that a worker of this host can tell whether it will."""
        now = time.monotonic()
        for task in self._elsewhere:
            is_judge = host == task.holder and not task.asked
            if task.look_at > now and not is_judge:
                continue
            if is_judge or not claims.is_taken(task.job.output):
                task.asked = task.asked or is_judge
                self._elsewhere.remove(task)
                return task
            if not task.look_at:
                self._tell(Notice(task.job, "another run is at work on this photo; waiting for it"))
            task.look_at = now + _AGAIN
        return None

    # What comes back.

    def _take(self, heard: Heard | Progressed | Lost) -> None:
        task = heard.task
        if isinstance(heard, Lost):
            self._lose(heard)
        elif isinstance(heard, Progressed):
            self._tell(PixelsDone(task.job, heard.pixels))
        elif heard.answer is None:
            text = f"{task.job.source}: {heard.fault}".splitlines()[0]
            self._record(Result(task.job, "failed", text, type(heard.fault).__name__), PhotoError(text))
        elif heard.answer.is_taken:
            task.holder = heard.answer.holder
            self._elsewhere.append(task)
        elif heard.answer.result is not None:
            for text in heard.answer.notices:
                self._tell(Notice(task.job, text))
            self._finish(task, heard.member, heard.answer, heard.answer.result)

    def _finish(self, task: PhotoTask, member: CrewMember, answer: Answer, result: Result) -> None:
        if answer.is_machine_at_fault:
            self._lose(Lost(member, task, result.error), BackendError(result.error))
            for other in self.crew.dismiss(member, result.error):  # its device is not trusted any more
                self._lose(other)
            return
        self.crew.praise(member)
        if result.job == task.job:
            result = replace(result, job=task.job)  # a million copies of what is there anyway take a gigabyte
        if (
            result.status == "skipped" and not result.reason and task.tried_on
        ):  # written by a worker that died before it could tell
            result = replace(result, status="done", width=task.job.width, height=task.job.height)
        fault = PhotoError(result.error) if result.status == "failed" else None
        if fault is not None:
            fault.add_note(answer.trace)
        self._record(result, fault)

    def _lose(self, lost: Lost, fault: BackendError | None = None) -> None:
        task = lost.task
        self._tidy(task.job.output)
        task.tried_on.append(lost.member.node.id)
        if len(task.tried_on) < _TRIES:
            self._again.append(task)
            return
        text = f"its workers died {_TRIES} times, the last because {lost.reason}" if fault is None else lost.reason
        text = text if str(task.job.source) in text else f"{task.job.source}: {text}"
        self._record(Result(task.job, "failed", text, type(fault or PhotoError()).__name__), fault or PhotoError(text))
        if fault is not None:
            self._end(fault)

    def _tidy(self, output: Path) -> None:
        """Remove the claim and the temporary files that a dead worker left; not those of a living one."""
        if (claim := claims.take(output, self.crew.order.run)) is not None:
            left = find_leftovers([output.parent], of_all=True)
            remove_leftovers([path for path in left if is_leftover_of(path, output)], age=0)
            claim.release()

    def _record(self, result: Result, fault: Exception | None) -> None:
        self.results.append(result)
        self._tell(PhotoFinished(result, fault))
        if fault is not None and self.fail_fast:
            self.crew.halt()

    def _tell(self, event: Event) -> None:
        try:
            self.emit(event)
        except Exception as fault:  # nobody listens any more (a closed pipe); the caller raises it
            self._end(fault)

    def _end(self, fault: Exception) -> None:
        self.fault = self.fault or fault
        self.crew.halt()

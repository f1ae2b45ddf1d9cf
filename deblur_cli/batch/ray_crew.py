"""The workers of a run on a Ray cluster: hired where there is a node, replaced when they die, and listened to.

Knows which photos a worker holds, and not what becomes of them: that is `ray_runner.py`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deblur_cli.batch.jobs import Job
from deblur_cli.batch.ray_cluster import (
    Node,
    NodeCheck,
    describe_death,
    import_ray,
    list_nodes,
    share_out,
    start_worker,
)
from deblur_cli.batch.ray_worker import Answer, Ready, WorkerOrder
from deblur_cli.errors import BackendError, DeblurError, InputError

_LOOK = 3.0  # seconds between two looks at the nodes
_POLL = 0.1  # seconds to wait for an answer
_PULSE = 2.0  # seconds between two questions how far a photo is
_LAST = 3.0  # seconds for a worker to be gone, before its process is ended from outside
_DEATHS = 3  # of workers of a node in a row while they load, before it is left alone
_GUILTLESS = 5  # photos in a row that a node's workers died of, before it is the node's fault
_PATIENCE = 60.0  # seconds before it is told that no worker is ready


@dataclass(slots=True, eq=False)
class PhotoTask:
    """A photo that has no result yet.

    Attributes:
        pixels: that are finished, as was told.
        tried_on: ids of the nodes whose worker died while it had the photo.
        holder: the host of another run that is at work on it; `asked` when a worker of ours on that host was, who can
            tell by the lock whether the other lives; `look_at` when to look again.
    """

    job: Job
    pixels: int = 0
    tried_on: list[str] = field(default_factory=list)
    holder: str = ""
    asked: bool = False
    look_at: float = 0.0


@dataclass(slots=True, eq=False)
class CrewMember:
    """A worker as the driver sees it; it may be given photos once it is ready."""

    node: Node
    cores: int
    cards: int
    handle: Any
    calls: dict[Any, PhotoTask | None] = field(default_factory=dict)  # by Ray's reference; None is its preparation
    ready: Ready | None = None
    question: Any = None  # how far it is, by Ray's reference
    asked: float = 0.0

    @property
    def tasks(self) -> list[PhotoTask]:
        """The photos that it holds."""
        return [task for task in self.calls.values() if task is not None]

    def give(self, task: PhotoTask, leftovers: tuple[Path, ...]) -> None:
        """Have it do a photo."""
        self.calls[self.handle.work.options(concurrency_group="photos").remote(task.job, leftovers)] = task

    def order_to(self, what: str) -> Any:
        """`halt`, `abort` or `progress`, beside the work; Ray's reference."""
        with suppress(Exception):  # it may be dead
            return getattr(self.handle, what).options(concurrency_group="control").remote()
        return None

    def awaited(self) -> Iterator[Any]:
        """References of all that it owes an answer to; how far it is, is asked from time to time."""
        now = time.monotonic()
        if self.question is None and self.ready and self.calls and now - self.asked > _PULSE:
            self.question, self.asked = self.order_to("progress"), now
        yield from self.calls
        if self.question is not None:
            yield self.question

    def kill(self) -> None:
        """End its process, whatever that is doing."""
        with suppress(Exception):  # it may be dead
            import_ray().kill(self.handle)


@dataclass(frozen=True, slots=True)
class Heard:
    """A worker's answer on a photo, or the fault that its own code met there."""

    member: CrewMember
    task: PhotoTask
    answer: Answer | None = None
    fault: Exception | None = None


@dataclass(frozen=True, slots=True)
class Progressed:
    """So many more pixels of a photo are finished."""

    task: PhotoTask
    pixels: int


@dataclass(frozen=True, slots=True)
class Lost:
    """A photo whose worker died."""

    member: CrewMember
    task: PhotoTask
    reason: str


@dataclass(slots=True)
class Crew:
    """All workers of a run.

    Attributes:
        jobs: what the nodes must see, and how many workers can be of use.
        tell: gets lines for the user.
    """

    order: WorkerOrder
    jobs: Sequence[Job]
    device: str
    tell: Callable[[str], None]
    members: list[CrewMember] = field(default_factory=list)
    refusal: Exception | None = None  # of the last worker that could not load its model
    is_closed: bool = False  # nobody is hired any more
    _known: set[str] = field(default_factory=set)  # ids of nodes that have workers, or shall have none
    _deaths: dict[str, int] = field(default_factory=dict)  # node -> in a row, while loading
    _victims: dict[str, set[Path]] = field(default_factory=dict)  # node -> photos lost since one was finished there
    _looked: float = 0.0
    _node_check: NodeCheck | None = None

    @property
    def ready(self) -> list[Ready]:
        """What the workers that have loaded their model say of themselves."""
        return [member.ready for member in self.members if member.ready]

    def hire_all(self) -> None:
        """Check the nodes, create all workers at once, and wait until the first has loaded its model.

        Raises:
            InputError: a node does not see the photos, or does not see where the results go.
            BackendError, WeightsError: no node can do the work.
        """
        inspection = self._inspect(list_nodes())
        while not inspection.is_over(_POLL):
            pass
        nodes, lines = self._learn(inspection)
        if lines:
            raise InputError(lines[0] + (f"; and {len(lines) - 1} more" if len(lines) > 1 else ""))
        self._hire(nodes)
        if not self.members:
            raise BackendError(
                f"--device {self.device}: no node of the cluster has it; ray status shows what they have"
            )
        told_at = time.monotonic() + _PATIENCE
        while not self.ready:
            for _ in self.listen():
                pass
            self.look_around()
            if not self.members:
                raise self.refusal or BackendError("no node of the cluster could start a worker; Ray's logs tell why")
            if time.monotonic() > told_at:
                told_at = float("inf")
                self.tell("no worker is ready yet: models are being loaded, or the cluster is busy with other work")

    def look_around(self) -> None:
        """Hire on nodes that have joined the cluster since, or have come back, once they have said what they see."""
        if self.is_closed or time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        if self._node_check is None:
            joined = [node for node in list_nodes() if node.id not in self._known]
            if joined:
                self._inspect(joined)
        elif self._node_check.is_over():
            nodes, lines = self._learn(self._node_check)
            for line in lines:
                self.tell(f"{line}; it is left out")
            has_cards = any(member.cards for member in self.members)
            self._hire([node for node in nodes if node.cards or not has_cards])

    def listen(self) -> Iterator[Heard | Progressed | Lost]:
        """What comes next, perhaps nothing, after a tenth of a second at most."""
        ray = import_ray()
        calls = {reference: member for member in self.members for reference in member.awaited()}
        if not calls:
            time.sleep(_POLL)
            return
        done, _ = ray.wait(list(calls), timeout=_POLL)
        for reference in done:
            member = calls[reference]
            try:
                answer = ray.get(reference)
            except ray.exceptions.RayTaskError as fault:
                yield from self._hear_fault(member, member.calls.pop(reference), fault)
            except ray.exceptions.RayError as fault:
                yield from self.dismiss(member, describe_death(fault))
            else:
                yield from self._hear(member, reference, answer)

    def praise(self, member: CrewMember) -> None:
        """It has finished a photo: what was lost on its node before was not the node's fault."""
        self._victims.pop(member.node.id, None)

    def dismiss(self, member: CrewMember, reason: str) -> Iterator[Lost]:
        """End a worker, or mourn it, and start another on its node while there is hope for that."""
        if member not in self.members:
            return
        self.members.remove(member)
        member.kill()
        lost, node = member.tasks, member.node.id
        victims = self._victims.setdefault(node, set())
        victims.update(task.job.source for task in lost)
        self._deaths[node] = 0 if member.ready else self._deaths.get(node, 0) + 1
        if self._deaths[node] >= _DEATHS or len(victims) > _GUILTLESS:
            self.tell(f"node {member.node.address} is left out, its workers die again and again: {reason}")
        elif not self.is_closed and node in {other.id for other in list_nodes()}:
            self._start(member.node, member.cores, member.cards)
        yield from (Lost(member, task, reason) for task in lost)

    def halt(self) -> None:
        """Have all workers come to an end with what they hold."""
        self.is_closed = True
        for member in self.members:
            member.order_to("halt")

    def abort(self) -> list[PhotoTask]:
        """End all workers at once; the photos that they held, whose claims nobody has any more."""
        self.is_closed = True
        photos = [reference for member in self.members if member.ready for reference in member.calls]
        for end in (lambda member: member.order_to("abort"), CrewMember.kill):
            for member in self.members:
                end(member)
            if not photos or len(import_ray().wait(photos, num_returns=len(photos), timeout=_LAST)[0]) == len(photos):
                break
        return [task for member in self.members for task in member.tasks]

    def _hear(self, member: CrewMember, reference: Any, answer: Any) -> Iterator[Heard | Progressed]:
        if reference == member.question:
            member.question = None
            source, pixels = answer or (None, 0)
            for held in member.tasks:
                if held.job.source == source and pixels > held.pixels:
                    more, held.pixels = pixels - held.pixels, pixels
                    yield Progressed(held, more)
        elif (task := member.calls.pop(reference)) is None:
            member.ready = answer
        else:
            yield Heard(member, task, answer)

    def _hear_fault(self, member: CrewMember, task: PhotoTask | None, fault: Any) -> Iterator[Heard | Lost]:
        if task is not None:
            yield Heard(member, task, fault=fault)
            return
        self.refusal = fault.cause if isinstance(fault.cause, DeblurError) else fault
        yield from self.dismiss(member, str(fault.cause))

    def close(self) -> None:
        """Ask nobody any more."""
        if self._node_check is not None:
            self._node_check.close()
            self._node_check = None

    def _inspect(self, nodes: Sequence[Node]) -> NodeCheck:
        self._node_check = NodeCheck(nodes, self.jobs, self.order.run)
        self._node_check.begin()
        return self._node_check

    def _learn(self, inspection: NodeCheck) -> tuple[list[Node], list[str]]:
        """Those that can do the work, and why others cannot."""
        blind = inspection.find_blind()
        self.close()
        self._known |= {node.id for node in inspection.nodes}
        return [node for node in inspection.nodes if node not in blind], [line for line in blind.values() if line]

    def _hire(self, nodes: Sequence[Node]) -> None:
        for place in share_out(nodes, self.device)[: max(0, len(self.jobs) - len(self.members))]:
            self._start(*place)

    def _start(self, node: Node, cores: int, cards: int) -> None:
        member = CrewMember(node, cores, cards, start_worker(node, cores, cards, self.order))
        member.calls[member.handle.prepare.remote()] = None
        self.members.append(member)

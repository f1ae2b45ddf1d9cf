"""A Ray cluster: joining it, which nodes it has, whether they see the photos, and a worker on one of them.

Only this file speaks Ray's language besides `ray_runner.py`, which uses the values it gives.
"""

import importlib
import logging
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO, cast

from deblur_cli.batch.jobs import Job
from deblur_cli.batch.ray_worker import RayWorker, Storage, WorkerOrder, find_obstacle
from deblur_cli.errors import BackendError, InputError
from deblur_cli.system.files import nearest_existing

_ADDRESS = re.compile(r"local|auto|[\w.-]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}")
_STORE = 80 << 20  # bytes of Ray's store on a cluster of our own: pixels do not go through it
_GROUP = 8  # cores of a worker without a GPU
_LOOK = 60.0  # seconds for a node to say what it sees
_KNOCK = 10.0  # seconds for the head to answer
_INPUTS = 8  # folders of photos that every node is asked for
# What Ray would otherwise do unasked: report its use to its makers, warn of its own future, repeat itself at the end.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_DEDUP_LOGS": "0"}


def import_ray() -> Any:
    """Ray, which takes a second to load and may not be there; its own types do not say what it takes."""
    return importlib.import_module("ray")


@dataclass(frozen=True, slots=True)
class Node:
    """A living node and what workers on it may have."""

    id: str
    address: str
    cores: int
    cards: int


def check_address(text: str) -> None:
    """Raise InputError unless `--ray` names a cluster, and Ray is installed."""
    if not _ADDRESS.fullmatch(text):
        raise InputError(f"--ray {text}: must be local, auto or HOST:PORT of the cluster's head")
    if find_spec("ray") is None:
        raise InputError(f"--ray {text}: Ray is not installed; pip install 'deblur-cli[ray]'")


class _WithoutRay:
    """Standard output but for what Ray's threads print there: the state of a node that died, among the results."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if threading.current_thread().name.startswith("ray_") else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def joined(address: str) -> Iterator[None]:
    """Be the driver of a cluster while the block lasts; `local` makes one of this machine.

    Raises:
        BackendError: there is none, or it does not let us in.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    _knock(os.environ.get("RAY_ADDRESS", "") if address == "auto" else address)
    ray = import_ray()
    own = {"object_store_memory": _STORE, "include_dashboard": False} if address == "local" else {}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, RuntimeError, ValueError) as fault:
        advice = "ray start --head makes a cluster, ray status shows it"
        raise BackendError(f"--ray {address}: {_first_line(fault)}; {advice}") from fault
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray puts its own in the place of it
    with redirect_stdout(cast(TextIO, _WithoutRay(sys.stdout))):
        try:
            yield
        finally:
            ray.shutdown()


def _knock(address: str) -> None:
    """Ray itself would try for minutes, and tell every try."""
    place, _, port = address.rpartition(":")
    if not place or not port.isdigit():
        return
    try:
        socket.create_connection((place.strip("[]"), int(port)), timeout=_KNOCK).close()
    except OSError as fault:
        reason = fault.strerror or fault
        raise BackendError(
            f"--ray {address}: nobody answers there ({reason}); ray start --head makes a cluster"
        ) from fault


def list_nodes() -> list[Node]:
    """The living nodes that work may go to: a head that has no cores to give is none."""
    ray = import_ray()
    found = []
    for row in ray.nodes():
        resources = row["Resources"]
        if row["Alive"] and resources.get("CPU", 0) >= 1:
            address = row["NodeManagerAddress"]
            found.append(Node(row["NodeID"], address, int(resources["CPU"]), int(resources.get("GPU", 0))))
    return found


def share_out(nodes: Sequence[Node], device: str) -> list[tuple[Node, int, int]]:
    """Workers as (node, cores, cards): one a GPU; where no node has any, or none is wanted, one a group of cores.

    The first ones are one on each node, for a run of fewer photos than workers.

    Args:
        device: as the user says it: `cpu` wants no GPU, `cuda` nothing else, `auto` GPUs where there are any.
    """
    with_cards = [node for node in nodes if node.cards] if device != "cpu" else []
    if with_cards or device.startswith("cuda"):
        cards = [(node, node.cards) for node in with_cards]
        return [(node, max(1, node.cores // count), 1) for node, count in _in_turns(cards)]
    groups = [(node, max(1, node.cores // _GROUP)) for node in nodes]
    return [(node, node.cores // count, 0) for node, count in _in_turns(groups)]


def _in_turns(counts: Sequence[tuple[Node, int]]) -> Iterator[tuple[Node, int]]:
    for turn in range(max((count for _, count in counts), default=0)):
        yield from ((node, count) for node, count in counts if turn < count)


def start_worker(node: Node, cores: int, cards: int, order: WorkerOrder) -> Any:
    """A worker on a node, which may have to wait until somebody else's work there is done."""
    ray = import_ray()
    there = _on(node)
    groups = {"photos": 2, "control": 1}
    wanted = {"num_cpus": cores, "num_gpus": cards, "scheduling_strategy": there, "concurrency_groups": groups}
    return ray.remote(max_restarts=0, **wanted)(RayWorker).remote(order, cores)


def _on(node: Node) -> Any:
    strategies = importlib.import_module("ray.util.scheduling_strategies")
    return strategies.NodeAffinitySchedulingStrategy(node.id, soft=False)


class NodeCheck:
    """Asks nodes whether they can do the work, by a file where the results will go, which is there until `close`."""

    def __init__(self, nodes: Sequence[Node], jobs: Sequence[Job], run: str) -> None:
        self.nodes = nodes
        place = nearest_existing(jobs[0].output.parent)
        marker = place / f".deblur-cluster-{secrets.token_hex(8)}"
        sources = {job.source.parent: job.source for job in reversed(jobs)}
        inputs = []
        for source in list(sources.values())[-_INPUTS:]:
            with suppress(OSError):  # the work will say what is the matter
                inputs.append((source, source.stat().st_size))
        self.storage = Storage(str(Path.cwd()), marker, run, tuple(inputs))
        self._until = time.monotonic() + _LOOK
        self._answers: dict[Node, Any] = {}

    def begin(self) -> None:
        """Write the file, and send the question."""
        self.storage.marker.write_text(self.storage.run, encoding="ascii")
        for node in self.nodes:
            look = import_ray().remote(num_cpus=0, max_retries=1, scheduling_strategy=_on(node))(find_obstacle)
            self._answers[node] = look.remote(self.storage, self._file(node))

    def close(self) -> None:
        """Remove the file, and those that the nodes have written beside it."""
        marker = self.storage.marker
        for path in (marker, *marker.parent.glob(f"{marker.name}.*")):
            path.unlink(missing_ok=True)

    def is_over(self, patience: float = 0.0) -> bool:
        """Whether all have answered, or will not.

        Args:
            patience: seconds to wait for that.
        """
        return len(self._wait(patience)) == len(self.nodes) or time.monotonic() > self._until

    def find_blind(self) -> dict[Node, str]:
        """The nodes that cannot do the work, each with one line that names it; an empty one for a node that is gone."""
        done = self._wait(0.0)
        answers = {node: self._judge(node, is_there=node in done) for node in self.nodes}
        return {node: said for node, said in answers.items() if said is not None}

    def _wait(self, patience: float) -> set[Node]:
        if not self._answers:
            return set()
        references = list(self._answers.values())
        done = set(import_ray().wait(references, num_returns=len(references), timeout=patience)[0])
        return {node for node, reference in self._answers.items() if reference in done}

    def _judge(self, node: Node, *, is_there: bool) -> str | None:
        faults, file = import_ray().exceptions, self._file(node)
        try:
            said = import_ray().get(self._answers[node]) if is_there else f"gave no answer in {_LOOK:.0f} s"
        except (faults.TaskUnschedulableError, faults.NodeDiedError):
            return ""
        except faults.RayError as fault:
            said = f"cannot run deblur-cli ({_first_line(fault)}); install the same version on all nodes"
        if not said and not file.is_file():
            said = f"does not share the folder {file.parent.absolute()}; results must go where all nodes write"
        return f"node {node.address} {said}" if said else None

    def _file(self, node: Node) -> Path:
        return self.storage.marker.with_name(f"{self.storage.marker.name}.{node.id}")


def describe_death(fault: BaseException) -> str:
    """Why a worker is no more, in few words for Ray's many."""
    text = str(fault)
    if "node has died" in text or "node was terminated" in text:
        return "its node died"
    if "OutOfMemory" in type(fault).__name__:
        return "memory ran out on its node"
    return "its process crashed or was killed, perhaps for want of memory"


def _first_line(fault: BaseException) -> str:
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(fault).__name__

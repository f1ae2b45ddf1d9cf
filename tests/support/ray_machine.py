"""A real Ray cluster of three nodes on this machine, and `deblur` as its driver in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import deblur_cli

_PATHS = (str(Path(deblur_cli.__file__).parents[1]), str(Path(__file__).parents[1]))
_DRIVER = """
from deblur_cli import app, weights
from deblur_cli.commands import run
from support.ray_network import InvertingOrder

run.RestoreOrder = InvertingOrder
weights.find_model = lambda name: weights.ModelEntry(name, "fake", "inverts", {})
app.main()
"""
_NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
_SWITCHES = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}


class RayMachine:
    """Three nodes, of which the driver sits on the first."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster: Any = Cluster(initialize_head=True, head_node_args={**_NODE, "include_dashboard": False})
        self.address: str = self._cluster.address
        self._others = [self._cluster.add_node(wait=False, **_NODE) for _ in range(2)]
        self._cluster.wait_for_nodes()

    def kill_node(self) -> None:
        """One of the others is gone without a word, and its workers with it."""
        node = self._others.pop()
        os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)
        self._cluster.remove_node(node, allow_graceful=False)

    def add_node(self) -> None:
        """Another joins."""
        self._others.append(self._cluster.add_node(**_NODE))

    def close(self) -> None:
        self._cluster.shutdown()


@contextmanager
def ray_machine() -> Iterator[RayMachine]:
    """The cluster, while the block lasts; its workers find the package and these modules."""
    before = dict(os.environ)
    os.environ.update(_SWITCHES, PYTHONPATH=os.pathsep.join(_PATHS))
    try:
        machine = RayMachine()
        try:
            yield machine
        finally:
            machine.close()
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def start_driver(*arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """`deblur` with the inverting network, killed with the block."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DEBLUR_")}
    environment |= {**_SWITCHES, "PYTHONPATH": os.pathsep.join(_PATHS)}
    command, pipe = [sys.executable, "-c", _DRIVER, *arguments], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()

"""A million photos on 64 nodes by the rules of `deblur run --ray`, with nodes that fail: what it costs beside the work.

    python docs/simulate_cluster.py --seconds 52 --spread 0.5

Each node has one worker that holds two photos, of which one is in the network; an idle worker asks the driver, which
answers one after the other. When a node dies, both photos are tried again at the end, alone, and the node comes back
with an empty worker. The same photos in fixed shards, one a node, are shown beside it. Nothing is measured here: the
seconds of a photo and of the driver are what was measured elsewhere (docs/cluster.md).
"""

import argparse
import heapq
import random
import statistics
import sys
from collections import deque
from dataclasses import dataclass, field

TRIES = 3  # as in deblur_cli/batch/ray_runner.py


@dataclass
class Setting:
    """Times in seconds."""

    photos: int
    nodes: int
    seconds: float  # of the mean photo in the network
    spread: float  # standard deviation of the logarithm of a photo's seconds
    slow: float  # how much slower the slowest node is; the others lie between
    driver: float  # of the driver for a photo
    failures: float  # of nodes an hour, all together
    away: float  # until a failed node is back
    load: float  # of a model
    seed: int


@dataclass
class Node:
    pace: float
    held: list[int] = field(default_factory=list)  # photos: the first is in the network
    life: int = 0  # how often it failed: what was planned in an earlier life does not happen
    is_up: bool = True
    since: float = 0.0  # when the first of the held photos was begun, or the node became idle
    busy: float = 0.0


class Cluster:
    """Events in the order of their time."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.dice = setting, random.Random(setting.seed)
        mean = -(setting.spread**2) / 2  # of the logarithm, so that the mean photo takes `seconds`
        self.work = [setting.seconds * self.dice.lognormvariate(mean, setting.spread) for _ in range(setting.photos)]
        self.nodes = [Node(1 + (setting.slow - 1) * place / (setting.nodes - 1)) for place in range(setting.nodes)]
        self.fresh, self.again = deque(range(setting.photos)), deque[int]()
        self.tries: dict[int, int] = {}
        self.events: list[tuple[float, int, str, int, int]] = []
        self.count, self.done, self.failed, self.retries, self.deaths = 0, 0, 0, 0, 0
        self.driver_free, self.driver_busy, self.waited, self.lost, self.asked = 0.0, 0.0, 0.0, 0.0, 0

    def plan(self, time: float, what: str, node: int) -> None:
        self.count += 1
        heapq.heappush(self.events, (time, self.count, what, node, self.nodes[node].life if node >= 0 else 0))

    def run(self) -> float:
        """The seconds until the last photo is done."""
        for node in range(len(self.nodes)):
            self.plan(self.setting.load, "ask", node)
            self.plan(self.setting.load, "ask", node)
        self.plan_failure(0.0)
        now = 0.0
        while self.done + self.failed < self.setting.photos:
            now, _, what, node, life = heapq.heappop(self.events)
            if node < 0 or life == self.nodes[node].life:
                getattr(self, what)(now, node)
        return now

    def plan_failure(self, now: float) -> None:
        if self.setting.failures:
            self.plan(now + self.dice.expovariate(self.setting.failures / 3600), "fail", -1)

    def ask(self, now: float, node: int) -> None:
        """A worker has room for one more; the driver answers when it has answered the others."""
        self.waited += max(0.0, self.driver_free - now)
        self.driver_free = max(now, self.driver_free) + self.setting.driver
        self.driver_busy += self.setting.driver
        self.asked += 1
        self.plan(self.driver_free, "get", node)

    def get(self, now: float, node: int) -> None:
        here = self.nodes[node]
        is_alone = any(photo in self.tries for photo in here.held)
        if is_alone or not (self.fresh or (self.again and not here.held)):
            return
        is_near_end = here.held and len(self.fresh) <= len(self.nodes)
        if is_near_end and len(self.fresh) <= sum(not other.held for other in self.nodes if other.is_up):
            return  # the last photos are for nodes that have none; this one asks again when it has finished
        here.held.append(self.fresh.popleft() if self.fresh else self.again.popleft())
        if len(here.held) == 1:
            self.begin(now, node)

    def begin(self, now: float, node: int) -> None:
        here = self.nodes[node]
        here.since = now
        self.plan(now + self.work[here.held[0]] * here.pace, "finish", node)

    def finish(self, now: float, node: int) -> None:
        here = self.nodes[node]
        here.busy += now - here.since
        here.held.pop(0)
        self.done += 1
        if here.held:
            self.begin(now, node)
        self.plan(now, "ask", node)

    def fail(self, now: float, _: int) -> None:
        self.plan_failure(now)
        node = self.dice.randrange(len(self.nodes))
        here = self.nodes[node]
        if not here.is_up:
            return
        self.deaths += 1
        self.lost += now - here.since if here.held else 0.0
        for photo in here.held:
            self.tries[photo] = self.tries.get(photo, 0) + 1
            self.retries += self.tries[photo] < TRIES
            self.failed += self.tries[photo] == TRIES
            self.again.extend([photo] if self.tries[photo] < TRIES else [])
        here.held, here.is_up = [], False
        here.life += 1
        for other in range(len(self.nodes)):  # some may have been idle, with nothing left to ask for
            if self.again and not self.nodes[other].held and self.nodes[other].is_up:
                self.plan(now, "ask", other)
        self.plan(now + self.setting.away, "come_back", node)

    def come_back(self, now: float, node: int) -> None:
        self.nodes[node].is_up = True
        self.plan(now + self.setting.load, "ask", node)
        self.plan(now + self.setting.load, "ask", node)


def fixed_shards(cluster: Cluster) -> list[float]:
    """The seconds of each node if every one does every 64th photo, and none fails."""
    count = len(cluster.nodes)
    return [sum(cluster.work[place::count]) * node.pace for place, node in enumerate(cluster.nodes)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = Setting(1_000_000, 64, 52.0, 0.5, 1.3, 0.0008, 1.0, 600.0, 5.0, 0)
    for name, value in vars(defaults).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    setting = Setting(**vars(parser.parse_args()))
    cluster = Cluster(setting)
    end = cluster.run()
    shards = fixed_shards(cluster)
    idle = 1 - sum(node.busy for node in cluster.nodes) / (end * setting.nodes)
    lines = [
        f"{cluster.done} of {setting.photos} photos on {setting.nodes} nodes in {end / 3600:.1f} h",
        f"node failures {cluster.deaths}, photos tried again {cluster.retries}, failed for good {cluster.failed}",
        f"nodes without work {idle:.2%} of the time, of that away or loading "
        f"{cluster.deaths * (setting.away + setting.load) / (end * setting.nodes):.2%}, work lost with a node "
        f"{cluster.lost / (end * setting.nodes):.3%}",
        f"driver busy {cluster.driver_busy / end:.2%}, a worker waited {cluster.waited / cluster.asked * 1000:.3f} ms "
        "for it on average",
        f"fixed shards without a failure: the last ends after {max(shards) / 3600:.1f} h, nodes without work "
        f"{1 - statistics.mean(shards) / max(shards):.2%}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

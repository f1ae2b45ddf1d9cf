"""The run itself: every photo through every model, in one process or in one per device. Streams, prints nothing."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.queues import Queue
from queue import Empty
from typing import Any

import torch

from deblur_cli.benchmark.bench_plan import BenchPlan
from deblur_cli.benchmark.datasets import Dataset, Pair
from deblur_cli.benchmark.journal import Cost, Journal, Record, make_key
from deblur_cli.benchmark.records import BLURRY, ImageScore, Scores
from deblur_cli.benchmark.scoring import (
    OUT_OF_MEMORY,
    BoundMetric,
    Photos,
    Restored,
    Restorer,
    bind_metrics,
    pick_truth,
    read_pair,
    score,
)
from deblur_cli.errors import BackendError, PhotoError
from deblur_cli.metrics import Sample

Place = tuple[str, str, str]  # data set, model, photo
Known = Mapping[str, Record]  # what the journal has, by its key
_PATIENCE = 5.0  # seconds between two looks whether the workers still live


@dataclass(frozen=True, slots=True)
class BenchJob:
    """One photo and one row of the table."""

    dataset: Dataset
    model: str
    pair: Pair

    @property
    def place(self) -> Place:
        """Its cell of the report."""
        return self.dataset.name, self.model, self.pair.image


@dataclass(frozen=True, slots=True)
class Opened:
    """A job whose files were read: its record is known from before, or its photos are there, or neither."""

    job: BenchJob
    key: str
    record: Record | None = None
    photos: Photos | None = None
    fault: PhotoError | None = None


@dataclass(frozen=True, slots=True)
class Shard:
    """The part of the photos that one device works on."""

    device: str
    index: int = 0
    count: int = 1


def run_plan(plan: BenchPlan, journal: Journal, on_finished: Callable[[Record], None]) -> list[Record]:
    """Do what the journal does not know yet; every record of the plan, in the plan's order.

    Args:
        on_finished: called for every record as soon as it is known.
    Raises:
        BackendError, WeightsError: a model cannot run; what was finished is in the journal.
    """
    known = dict(journal.records)
    shards = [Shard(name, index, len(plan.options.devices)) for index, name in enumerate(plan.options.devices)]
    source = measure_all(plan, known, shards[0]) if len(shards) == 1 else _work_apart(plan, known, shards)
    used = {}
    for record in source:
        if record != known.get(record.key):
            journal.append(record)
        used[_place_of(record.score)] = record
        on_finished(record)
    return [used[job.place] for job in list_jobs(plan, Shard(""))]


def _place_of(score: ImageScore) -> Place:
    return score.dataset, score.model, score.image


def list_jobs(plan: BenchPlan, shard: Shard) -> Iterator[BenchJob]:
    """Model by model, so that one is in memory at a time; data set by data set, photo by photo."""
    for model in plan.rows:
        for dataset in plan.datasets:
            for pair in dataset.pairs[shard.index :: shard.count]:
                yield BenchJob(dataset, model, pair)


def measure_all(plan: BenchPlan, known: Known, shard: Shard) -> Iterator[Record]:
    """The shard's jobs one after the other; the next photo is read while this one is restored."""
    bench = _Bench(plan, shard.device)
    for opened in _read_ahead(list_jobs(plan, shard), lambda job: _open(plan, known, job)):
        yield opened.record or bench.measure(opened)


class _Bench:
    """One device with one model on it at a time."""

    def __init__(self, plan: BenchPlan, device: str) -> None:
        self._plan, self._device = plan, device
        self._model = ""
        self._restorer: Restorer | None = None
        self._functions: dict[torch.device, dict[str, BoundMetric]] = {}

    def measure(self, opened: Opened) -> Record:
        """Restore and score one photo; a photo at fault becomes a record that says so."""
        job, photos = opened.job, opened.photos
        try:
            if photos is None:
                raise opened.fault or PhotoError(f"{job.pair.blurry}: cannot be read")
            restored = self._restore(job.model, photos)
            sharp = pick_truth(job.pair, photos, restored.pixels)
        except PhotoError as fault:
            return Record(opened.key, _to_score(job, photos, {}, None, str(fault)), Cost(), failed=True)
        sample = Sample(restored.pixels, photos.blurry, sharp, self._metric_device())
        scores, note = score(sample, self._bind(job.dataset))
        row = _to_score(job, photos, scores, restored.seconds, note)
        return Record(opened.key, row, restored.cost, failed=OUT_OF_MEMORY in note)

    def _restore(self, model: str, photos: Photos) -> Restored:
        if model == BLURRY:
            return Restored(photos.blurry, None, Cost())
        if model != self._model or self._restorer is None:
            self._restorer = None  # before the next is loaded: two at once may not fit
            self._restorer, self._model = Restorer(self._plan, model, self._device), model
        return self._restorer(photos.blurry)

    def _metric_device(self) -> torch.device:
        """Metrics run where the model runs: on a card they would be the slow part otherwise."""
        return self._restorer.device if self._restorer else torch.device("cpu")

    def _bind(self, dataset: Dataset) -> dict[str, BoundMetric]:
        device = self._metric_device()
        if device not in self._functions:
            every = {metric.name: metric for other in self._plan.datasets for metric in self._plan.metrics(other)}
            self._functions[device] = bind_metrics(list(every.values()), device)
        return {metric.name: self._functions[device][metric.name] for metric in self._plan.metrics(dataset)}


def _open(plan: BenchPlan, known: Known, job: BenchJob) -> Opened:
    try:
        key = make_key(plan, job.dataset, job.model, job.pair)
    except OSError as fault:
        gone = PhotoError(f"{job.pair.blurry} or its truth: cannot be read ({fault.strerror})")
        return Opened(job, f"{job.dataset.name}/{job.model}/{job.pair.image}", fault=gone)
    record = known.get(key)
    if record is not None and _place_of(record.score) == job.place:
        return Opened(job, key, record)
    try:
        return Opened(job, key, photos=read_pair(job.pair))
    except PhotoError as fault:
        return Opened(job, key, fault=fault)


def _read_ahead(jobs: Iterable[BenchJob], open_job: Callable[[BenchJob], Opened]) -> Iterator[Opened]:
    """One job ahead, never more: memory does not grow with the data set."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        waiting = None
        for job in jobs:
            following = reader.submit(open_job, job)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


def _to_score(job: BenchJob, photos: Photos | None, scores: Scores, seconds: float | None, note: str) -> ImageScore:
    height, width = photos.blurry.shape[:2] if photos else (0, 0)
    return ImageScore(job.dataset.name, job.pair.image, job.model, width, height, scores, seconds, note)


def _work_apart(plan: BenchPlan, known: Known, shards: list[Shard]) -> Iterator[Record]:
    """One process per device; results arrive in the order in which they are finished.

    Raises:
        BackendError, WeightsError: as the worker raised it; the other workers are stopped.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    results: Queue[Any] = context.Queue()
    arguments = [(plan, known, shard, results) for shard in shards]
    workers = [context.Process(target=_serve, args=args, daemon=True) for args in arguments]
    try:
        for worker in workers:
            worker.start()
        busy = len(workers)
        while busy:
            result = _next_result(results, workers)
            if isinstance(result, Exception):
                raise result
            if result is None:
                busy -= 1
            else:
                yield result
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _serve(plan: BenchPlan, known: Known, shard: Shard, results: "Queue[Any]") -> None:
    """A worker's life: its share of the processor, its jobs, a last word."""
    torch.set_num_threads(max(1, torch.get_num_threads() // shard.count))
    try:
        for record in measure_all(plan, known, shard):
            results.put(record)
        results.put(None)
    except Exception as fault:  # handed to the parent, which raises it
        results.put(fault)


def _next_result(results: "Queue[Any]", workers: list[Any]) -> Any:
    while True:
        try:
            return results.get(timeout=_PATIENCE)
        except Empty:
            if not any(worker.is_alive() for worker in workers):
                raise BackendError("a worker process died without a word; memory may have run out") from None

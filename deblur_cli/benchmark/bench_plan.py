"""What a run will do, checked before it begins: options, data sets, columns. Loads no model."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from deblur_cli.benchmark.datasets import Dataset, PairSearch, check_sizes, find_datasets
from deblur_cli.benchmark.perceptual import load_perceptual
from deblur_cli.benchmark.records import BLURRY, SHARP, DatasetInfo, MetricInfo
from deblur_cli.errors import InputError, WeightsError
from deblur_cli.metrics import METRICS, Metric, choose_metrics
from deblur_cli.system.parts import WHOLE, Part
from deblur_cli.system.version import __version__
from deblur_cli.weights.model_spec import ModelSpec, ResolvedModel, resolve


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that can change a figure, and who computes it."""

    models: tuple[ModelSpec, ...] = ()
    metrics: tuple[str, ...] = ()  # empty: the defaults
    protocol: str = "auto"
    devices: tuple[str, ...] = ("auto",)
    dtype: str = "auto"
    tile: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """A run that can begin. It is sent to worker processes, so it holds plain values only."""

    options: Options
    datasets: tuple[Dataset, ...]
    columns: Mapping[str, tuple[str, ...]]  # data set -> metrics asked
    models: Mapping[str, ResolvedModel]  # by the text of their specification, which names their rows
    missing: Mapping[str, str] = field(default_factory=dict)  # metric -> why it cannot be computed here
    part: Part = WHOLE  # which of the photos these are
    whole: str = ""  # hash of the plan that it is a part of; empty where it is the whole

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of the table's rows: doing nothing, then the models."""
        return (BLURRY, *self.models)

    @property
    def total(self) -> int:
        """Scores to compute: photos times rows."""
        return len(self.rows) * sum(len(dataset.pairs) for dataset in self.datasets)

    def metrics(self, dataset: Dataset) -> list[Metric]:
        """The metrics of a data set that can be computed here."""
        return [METRICS[name] for name in self.columns[dataset.name] if name not in self.missing]

    def describe_metrics(self) -> list[MetricInfo]:
        """Every column of the report, in the order of the table of metrics."""
        wanted = {name for names in self.columns.values() for name in names}
        rows = [metric for name, metric in METRICS.items() if name in wanted]
        return [MetricInfo(row.name, row.direction, row.unit, row.protocol) for row in rows]

    def describe_datasets(self) -> list[DatasetInfo]:
        """The data sets as the report names them."""
        return [DatasetInfo(row.name, row.layout, row.root.resolve().name, len(row.pairs)) for row in self.datasets]


def build_bench_plan(
    roots: tuple[Path, ...],
    options: Options,
    search: PairSearch,
    limit: int | None = None,
    part: Part | None = None,
) -> BenchPlan:
    """The plan, or the one line that says why there is none.

    Args:
        part: of the photos of all data sets together, in their order; all of them are checked. Its report says so, that
            it may be merged.
    Raises:
        InputError: a data set, a model, a metric, a protocol or a pair is not what it should be.
        WeightsError: an unknown model, or one that is not trained.
    """
    datasets = find_datasets(roots, search, limit)
    for dataset in datasets:
        check_sizes(dataset)
    columns = {dataset.name: _columns(dataset, options) for dataset in datasets}
    found = [resolve(_check_name(spec)) for spec in options.models]
    models = {str(model.spec): model for model in found}
    plan = BenchPlan(options, tuple(datasets), columns, models, _find_missing(columns))
    if part is None:
        return plan
    return replace(plan, datasets=tuple(_take_part(datasets, part)), part=part, whole=_hash_plan(plan))


def _take_part(datasets: Sequence[Dataset], part: Part) -> list[Dataset]:
    places = part.pick([(dataset.name, pair.image) for dataset in datasets for pair in dataset.pairs])
    taken = set(places)
    return [
        replace(dataset, pairs=tuple(pair for pair in dataset.pairs if (dataset.name, pair.image) in taken))
        for dataset in datasets
    ]


def _hash_plan(plan: BenchPlan) -> str:
    """Equal for the parts of one plan. Files count by name and size: to read them all would be each part's work."""
    parts = {
        "version": __version__,
        "datasets": [
            [dataset.name, dataset.layout, protocol_of(dataset, plan.options), plan.columns[dataset.name]]
            + [[pair.image, *map(_measure_file, (pair.blurry, *pair.truths))] for pair in dataset.pairs]
            for dataset in plan.datasets
        ],
        "models": [[name, model.hashes, model.settings] for name, model in plan.models.items()],
        "options": {**asdict(plan.options), "models": None, "devices": None},  # cards may differ from part to part
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _measure_file(path: Path) -> int:
    with suppress(OSError):  # the work will say what is the matter
        return path.stat().st_size
    return 0


def protocol_of(dataset: Dataset, options: Options) -> str:
    """The protocol that a data set is scored by."""
    return dataset.protocol if options.protocol == "auto" else options.protocol


def _columns(dataset: Dataset, options: Options) -> tuple[str, ...]:
    protocol = protocol_of(dataset, options)
    rows = choose_metrics(options.metrics, protocol, dataset.has_truth)
    if not rows:
        raise InputError(f"{dataset.root}: has no truth, and every metric asked for needs one; try blur_effect")
    if any(row.name.endswith("-realblur") for row in rows) and find_spec("cv2") is None:
        advice = "pip install 'deblur-cli[bench]', or use --protocol full"
        raise InputError(f"{dataset.root}: the realblur protocol needs OpenCV: {advice}")
    return tuple(row.name for row in rows)


def _check_name(spec: ModelSpec) -> ModelSpec:
    if spec.name in {BLURRY, SHARP}:
        raise InputError(f"--model {spec.name}: this name stands for the photo itself and is always a row")
    return spec


def _find_missing(columns: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Metrics whose weights are not at hand, with the reason; the rest of the run does not depend on them."""
    missing = {}
    for name in dict.fromkeys(name for names in columns.values() for name in names):
        network = METRICS[name].network
        if network is not None:
            try:
                load_perceptual(network)
            except WeightsError as fault:
                missing[name] = str(fault)
    return missing

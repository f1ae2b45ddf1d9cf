"""The summary as its template draws it: one table for each data set, with footnotes."""

from collections.abc import Sequence
from dataclasses import dataclass

from deblur_cli.benchmark.page.columns import (
    Column,
    difference,
    find_best,
    find_reference,
    metric_columns,
    summary_columns,
    verdict,
)
from deblur_cli.benchmark.records import BLURRY, BenchmarkReport, DatasetInfo, ModelSummary


@dataclass(frozen=True, slots=True)
class Cell:
    """One value as it is written, and what stands beside it."""

    column: Column
    text: str
    is_best: bool
    note: int  # number of its footnote; 0 for none
    change: str  # to doing nothing; empty where that says nothing
    verdict: str  # of the change: "better", "worse" or "same"


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One model."""

    name: str
    cells: list[Cell]
    notes: list[int]  # on what has no column


@dataclass(frozen=True, slots=True)
class SummaryTable:
    """One data set."""

    dataset: DatasetInfo
    columns: list[Column]
    rows: list[SummaryRow]
    notes: list[str]  # numbered from 1 in the order of first use; equal notes share a number


def build_tables(report: BenchmarkReport) -> list[SummaryTable]:
    """The tables of all data sets."""
    return [_build_table(report, dataset, metric_columns(report)) for dataset in report.datasets]


def used_metrics(report: BenchmarkReport) -> list[Column]:
    """The metrics to explain: those with a score; all where none has one."""
    metrics = metric_columns(report)
    return [column for column in metrics if any(column.key in row.scores for row in report.models)] or metrics


def _build_table(report: BenchmarkReport, dataset: DatasetInfo, metrics: Sequence[Column]) -> SummaryTable:
    models = [row for row in report.models if row.dataset == dataset.name]
    models.sort(key=lambda row: row.name != BLURRY)  # doing nothing first, the others as they came
    columns = summary_columns(metrics, models)
    best = {column.key: find_best(column, models) for column in columns}
    notes: list[str] = []
    rows = []
    for number, model in enumerate(models):
        marked = {key for key, numbers in best.items() if number in numbers}
        cells = [_build_cell(model, column, column.key in marked, models, notes) for column in columns]
        others = [text for key, text in model.notes.items() if key not in best]
        rows.append(SummaryRow(model.name, cells, [_number(f"{model.name}: {text}", notes) for text in others]))
    return SummaryTable(dataset, columns, rows, notes)


def _build_cell(
    model: ModelSummary, column: Column, is_best: bool, models: Sequence[ModelSummary], notes: list[str]
) -> Cell:
    value, note = column.value_of(model), model.notes.get(column.key)
    number = _number(f"{column.title}, {model.name}: {note}", notes) if note else 0
    reference = find_reference(models)
    change = difference(value, column.value_of(reference)) if reference else None
    if change is None or column.is_cost or model is reference:
        return Cell(column, column.format(value), is_best, number, "", "same")
    return Cell(
        column, column.format(value), is_best, number, column.format(change, sign=True), verdict(change, column)
    )


def _number(text: str, notes: list[str]) -> int:
    if text not in notes:
        notes.append(text)
    return notes.index(text) + 1

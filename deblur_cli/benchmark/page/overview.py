"""The summary: one table for each data set, its notes, and the protocols behind the columns."""

from collections.abc import Sequence

from deblur_cli.benchmark.page.columns import (
    ARROWS,
    BETTER_WORDS,
    Column,
    difference,
    find_best,
    find_reference,
    metric_columns,
    summary_columns,
    verdict,
)
from deblur_cli.benchmark.page.markup import Markup, element, hidden_text, join
from deblur_cli.benchmark.records import BLURRY, BenchmarkReport, DatasetInfo, ModelSummary

GLYPHS = {"better": "▲", "worse": "▼", "same": ""}


class Footnotes:
    """Notes of one table, numbered in the order of first use; equal notes share a number."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.texts: list[str] = []

    def mark(self, text: str) -> Markup:
        """The raised number that leads to the note."""
        if text not in self.texts:
            self.texts.append(text)
        number = str(self.texts.index(text) + 1)
        link = element("a", {"href": f"#{self.prefix}-{number}", "aria-label": f"note {number}"}, number)
        return element("sup", {}, link)

    def to_list(self) -> Markup:
        """All notes, in order; nothing when there is none."""
        if not self.texts:
            return Markup("")
        items = [
            element("li", {"id": f"{self.prefix}-{number}"}, text) for number, text in enumerate(self.texts, start=1)
        ]
        return element("ol", {"class": "notes"}, *items)


def render_summary(report: BenchmarkReport) -> Markup:
    """The tables of all data sets, then what every column means."""
    metrics = metric_columns(report)
    tables = [
        _dataset_block(index, dataset, _rows_of(report, dataset.name), metrics)
        for index, dataset in enumerate(report.datasets)
    ]
    used = [column for column in metrics if any(column.key in row.scores for row in report.models)]
    return join([*tables, _protocols(used or metrics)])


def _rows_of(report: BenchmarkReport, dataset: str) -> list[ModelSummary]:
    rows = [row for row in report.models if row.dataset == dataset]
    return sorted(rows, key=lambda row: row.name != BLURRY)  # doing nothing first, the others as they came


def _dataset_block(index: int, dataset: DatasetInfo, rows: Sequence[ModelSummary], metrics: Sequence[Column]) -> Markup:
    columns = summary_columns(metrics, rows)
    notes = Footnotes(f"note-{index}")
    marked = {column.key: find_best(column, rows) for column in columns}
    body = [
        _row(row, [(column, number in marked[column.key]) for column in columns], find_reference(rows), notes)
        for number, row in enumerate(rows)
    ]
    table = element(
        "table",
        {"class": "summary"},
        element("caption", {"class": "visually-hidden"}, f"Scores and costs on {dataset.name}"),
        element("thead", {}, element("tr", {}, element("th", {"scope": "col"}, "Model"), *map(_head, columns))),
        element("tbody", {}, *body),
    )
    scroll = {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": f"Summary of {dataset.name}"}
    return element(
        "section",
        {"class": "dataset"},
        _dataset_heading(dataset),
        element("div", scroll, table),
        notes.to_list(),
    )


def _dataset_heading(dataset: DatasetInfo) -> Markup:
    photos = f"{dataset.images:,} photo{'' if dataset.images == 1 else 's'}"
    layout = f"{photos} · layout {dataset.layout} · folder {dataset.root_name}"
    return element("h3", {}, dataset.name, " ", element("span", {"class": "aside"}, layout))


def _head(column: Column) -> Markup:
    arrow = ARROWS.get(column.direction, "")
    name = column.title + (f"\u00a0{arrow}" if arrow and not column.is_cost else "")
    unit = element("span", {"class": "unit"}, column.unit) if column.unit else Markup("")
    attributes = {"scope": "col", "class": "number", "title": column.protocol}
    if column.is_cost:
        attributes["class"] = "number cost"
    return element("th", attributes, name, hidden_text(f", {BETTER_WORDS.get(column.direction, '')}"), unit)


def _row(
    row: ModelSummary, columns: Sequence[tuple[Column, bool]], reference: ModelSummary | None, notes: Footnotes
) -> Markup:
    is_nothing = row.name == BLURRY
    name = [row.name, element("span", {"class": "aside"}, "doing nothing")] if is_nothing else [row.name]
    cells = [_cell(row, column, is_best, reference, notes) for column, is_best in columns]
    known = {column.key for column, _ in columns}
    extra = [notes.mark(f"{row.name}: {text}") for key, text in row.notes.items() if key not in known]
    head = element("th", {"scope": "row"}, *name, *extra)
    return element("tr", {"class": "nothing"} if is_nothing else {}, head, *cells)


def _cell(row: ModelSummary, column: Column, is_best: bool, reference: ModelSummary | None, notes: Footnotes) -> Markup:
    value = column.value_of(row)
    shown = element("span", {"class": "value"}, column.format(value))
    best = join([element("span", {"class": "star", "aria-hidden": "true"}, "★"), hidden_text("best: ")])
    note = row.notes.get(column.key)
    parts = [
        best if is_best else "",
        shown,
        notes.mark(f"{column.title}, {row.name}: {note}") if note else "",
        _change(row, column, value, reference),
    ]
    attributes = {"class": " ".join(_cell_classes(column, is_best))}
    return element("td", attributes, *parts)


def _cell_classes(column: Column, is_best: bool) -> list[str]:
    return ["number", *(["cost"] if column.is_cost else []), *(["best"] if is_best else [])]


def _change(row: ModelSummary, column: Column, value: float | None, reference: ModelSummary | None) -> Markup:
    if column.is_cost or reference is None or row.name == BLURRY:
        return Markup("")
    change = difference(value, column.value_of(reference))
    if change is None:
        return Markup("")
    word = verdict(change, column)
    glyph = element("span", {"class": "glyph", "aria-hidden": "true"}, GLYPHS[word])
    spoken = hidden_text("" if word == "same" else f", {word} than doing nothing")
    return element("span", {"class": f"change {word}"}, glyph, column.format(change, sign=True), spoken)


def _protocols(columns: Sequence[Column]) -> Markup:
    if not columns:
        return Markup("")
    entries = [
        join(
            [
                element("dt", {}, f"{column.title} {ARROWS.get(column.direction, '')}".strip()),
                element("dd", {}, f"{column.protocol} ({BETTER_WORDS.get(column.direction, '')})"),
            ]
        )
        for column in columns
    ]
    return element(
        "details",
        {"class": "protocols", "open": ""},
        element("summary", {}, "How the numbers were made"),
        element("dl", {}, *entries),
    )

"""The page from its parts: one file, no network, its own content security policy."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from deblur_cli.benchmark.page.error_map import colour_ramp
from deblur_cli.benchmark.page.markup import Markup, element, join, to_script_json
from deblur_cli.benchmark.page.overview import render_summary
from deblur_cli.benchmark.page.payload import to_scores_table, to_viewer_table
from deblur_cli.benchmark.page.photos import find_extremes, gather_photos, order_of_worth
from deblur_cli.benchmark.page.pictures import BUDGET, LOSSLESS, build_viewers, to_data_uri
from deblur_cli.benchmark.page.plot import render_plots
from deblur_cli.benchmark.records import BLURRY, BenchmarkReport

LEAST_FOR_PICTURES = 4_000_000  # characters, however long the table of scores is
NOTHING = "not set"
STYLES = ("page.css", "viewer.css")
SCRIPTS = ("dom.js", "scores.js", "table.js", "extremes.js", "compare.js", "viewer.js", "page.js")


def render_page(report: BenchmarkReport, folder: Path) -> str:
    """The page's text."""
    extremes = find_extremes(report)
    photos = gather_photos(report, folder)
    scores = to_script_json(to_scores_table(report, extremes))
    viewers = build_viewers(order_of_worth(photos, extremes), max(LEAST_FOR_PICTURES, BUDGET - len(scores)))
    places = {(photo.dataset, photo.image): number for number, photo in enumerate(photos)}
    viewers.sort(key=lambda viewer: places[viewer.photo.dataset, viewer.photo.image])
    early, script = _asset("theme.js"), "\n".join(map(_asset, SCRIPTS))
    script = f"(() => {{\n{script}\n}})();\n"
    return Template(_asset("page.html")).substitute(
        policy=_policy([early, script]),
        title=element("title", {}, _title(report)),
        style="\n".join(map(_asset, STYLES)),
        early=early,
        header=_header(report),
        summary=render_summary(report),
        options=join(
            element("option", {"value": str(number)}, dataset.name) for number, dataset in enumerate(report.datasets)
        ),
        plots=render_plots(report),
        ramp=to_data_uri(colour_ramp(), LOSSLESS),
        scores=scores,
        pictures=to_script_json(to_viewer_table(viewers, len(photos) - len(viewers))),
        script=script,
    )


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("static", name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    """Nothing from the network, and no script but these: names and notes cannot become code."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{text}'" for text in hashes)
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}"


def _title(report: BenchmarkReport) -> str:
    return "Deblurring benchmark: " + (", ".join(dataset.name for dataset in report.datasets) or "no data")


def _header(report: BenchmarkReport) -> Markup:
    names = ", ".join(dataset.name for dataset in report.datasets) or "no data"
    return join(
        [
            element("p", {"class": "eyebrow"}, "Deblurring benchmark"),
            element("h1", {}, names),
            element("p", {"class": "facts"}, _facts(report)),
            _command(report.command),
            element("details", {}, element("summary", {}, "Environment and weights"), _environment(report)),
        ]
    )


def _command(command: str) -> Markup:
    """The command as one could copy it; its words never break at their hyphens."""
    words = [element("span", {"class": "word"}, word) for word in command.split(" ")]
    return element("pre", {"class": "command"}, element("code", {}, join(words, " ")))


def _facts(report: BenchmarkReport) -> str:
    models = len({row.name for row in report.models} - {BLURRY})
    photos = sum(dataset.images for dataset in report.datasets)
    counted = [_count(len(report.datasets), "data set"), _count(models, "model"), _count(photos, "photo")]
    return " · ".join([*counted, _date(report.created)])


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _date(created: str) -> str:
    try:
        moment = datetime.fromisoformat(created).astimezone(UTC)
    except ValueError:
        return created
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _environment(report: BenchmarkReport) -> Markup:
    weights = {f"{row.name}, {role}": digest for row in report.models for role, digest in sorted(row.hashes.items())}
    parts = [_pairs(report.environment)]
    if weights:
        parts += [element("h2", {"class": "minor"}, "Weights, SHA-256"), _pairs(weights)]
    return join(parts)


def _pairs(table: Mapping[str, Any]) -> Markup:
    entries = [join([element("dt", {}, str(name)), element("dd", {}, _plain(value))]) for name, value in table.items()]
    return element("dl", {"class": "pairs"}, *entries)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return _pairs(value)
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return NOTHING if value is None else str(value)

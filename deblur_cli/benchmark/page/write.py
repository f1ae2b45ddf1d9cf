"""The page from its parts: one file, no network, its own content security policy."""

from datetime import UTC, datetime
from pathlib import Path

from deblur_cli.benchmark.page.error_map import colour_ramp
from deblur_cli.benchmark.page.overview import build_tables, used_metrics
from deblur_cli.benchmark.page.payload import to_scores_table, to_viewer_table
from deblur_cli.benchmark.page.photos import find_extremes, gather_photos, order_of_worth
from deblur_cli.benchmark.page.pictures import BUDGET, build_viewers
from deblur_cli.benchmark.page.trade_off import build_figures
from deblur_cli.benchmark.records import BLURRY, BenchmarkReport
from deblur_cli.system import plot
from deblur_cli.system.page_pictures import LOSSLESS, to_data_uri
from deblur_cli.system.pages import build_dress, render, to_script_json

LEAST_FOR_PICTURES = 4_000_000  # characters, however long the table of scores is
STYLES = ("page.css", "viewer.css")
SCRIPTS = ("scores.js", "table.js", "extremes.js", "compare.js", "viewer.js", "page.js")


def render_page(report: BenchmarkReport, folder: Path) -> str:
    """The page's text."""
    extremes = find_extremes(report)
    photos = gather_photos(report, folder)
    scores = to_script_json(to_scores_table(report, extremes))
    viewers = build_viewers(order_of_worth(photos, extremes), max(LEAST_FOR_PICTURES, BUDGET - len(scores)))
    places = {(photo.dataset, photo.image): number for number, photo in enumerate(photos)}
    viewers.sort(key=lambda viewer: places[viewer.photo.dataset, viewer.photo.image])
    return render(
        __package__,
        "report.html",
        report=report,
        nothing=BLURRY,
        models={row.name for row in report.models} - {BLURRY},
        date=_date(report.created),
        weights={f"{row.name}, {role}": digest for row in report.models for role, digest in sorted(row.hashes.items())},
        tables=build_tables(report),
        metrics=used_metrics(report),
        figures=build_figures(report),
        ramp=to_data_uri(colour_ramp(), LOSSLESS),
        scores=scores,
        pictures=to_script_json(to_viewer_table(viewers, len(photos) - len(viewers))),
        dress=build_dress(__package__, STYLES, SCRIPTS, more_style=plot.style()),
    )


def _date(created: str) -> str:
    try:
        moment = datetime.fromisoformat(created).astimezone(UTC)
    except ValueError:
        return created
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"

"""The log of a training as a page to look at: self-contained HTML with one SVG plot per quantity."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deblur_cli.errors import InputError
from deblur_cli.system import plot
from deblur_cli.system.files import write_whole
from deblur_cli.system.pages import render
from deblur_cli.system.plot import Axis, Plot, draw_lines
from deblur_cli.system.wording import count

if TYPE_CHECKING:
    from markupsafe import Markup

Lines = dict[str, list[tuple[float, float]]]  # name -> (minutes, value)


def write_log_page(run: Path) -> Path:
    """Write `log.html` beside the `log.jsonl` of a training folder; the path of the page.

    Raises:
        InputError: there is no log, or it is empty or damaged.
    """
    path = run / "log.jsonl"
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        page = _build_page(run.resolve().name, records)
    except FileNotFoundError as fault:
        raise InputError(f"{path}: no training log there") from fault
    except (ValueError, KeyError, IndexError) as fault:
        raise InputError(f"{path}: the training log is empty or damaged") from fault
    target = run / "log.html"
    write_whole(target, page.encode())
    return target


def _build_page(name: str, records: list[dict[str, Any]]) -> str:
    last = records[-1]
    plots = [("Loss", _draw("Loss", {"loss": [(r["elapsed"] / 60, r["loss"]) for r in records]}))]
    plots += [(title, _draw(title, _follow(records, title))) for title in last["figures"]]
    speed = {"speed": [(r["elapsed"] / 60, r["photos_per_second"]) for r in records]}
    plots.append(("Patches per second", _draw("Patches per second", speed)))
    summary = f"{count(last['step'], 'step')} in {last['elapsed'] / 60:.1f} of {last['budget'] / 60:.1f} minutes"
    return render(__package__, "log.html", name=name, summary=summary, plots=plots, style=plot.style())


def _follow(records: list[dict[str, Any]], title: str) -> Lines:
    """Every figure under a title, once per look at the validation data."""
    lines: Lines = {}
    for record in records:
        for name, value in record["figures"].get(title, {}).items():
            line = lines.setdefault(name, [])
            if not line or line[-1][1] != value:
                line.append((record["elapsed"] / 60, value))
    return lines


def _draw(title: str, lines: Lines) -> "Markup | None":
    """The plot; None where there is no finite value to draw."""
    finite = {name: [point for point in line if all(map(math.isfinite, point))] for name, line in lines.items()}
    shown = {f"{name} {line[-1][1]:.3g}": line for name, line in finite.items() if line}
    points = [point for line in shown.values() for point in line]
    if not points:
        return None
    across = Axis("minutes", 0.0, max(max(x for x, _ in points), 1e-6))
    up = Axis.around("", [y for _, y in points], margin=0.05)
    return draw_lines(Plot(title, across, up, width=860.0, height=310.0, right_margin=130.0), shown)

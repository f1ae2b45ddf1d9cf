"""The working half of `deblur bench --speed`: models become rows of seconds, a table and a file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from deblur_cli.benchmark.speed import SpeedPlan, describe_speed, measure_speed, speed_rows
from deblur_cli.commands.bench_work import BenchOutput
from deblur_cli.commands.options import check_device
from deblur_cli.commands.progress import Gauge, choose_display
from deblur_cli.commands.streams import write_json, write_note
from deblur_cli.commands.table import show_table
from deblur_cli.errors import InputError
from deblur_cli.system.files import check_writable, write_whole
from deblur_cli.weights.model_spec import ModelSpec, resolve


@dataclass(frozen=True, slots=True)
class SpeedWish:
    """Sizes in megapixels and numbers of photos, as the user gave them."""

    megapixels: Sequence[float]
    photos: Sequence[float]


def do_speed(models: Sequence[ModelSpec], wish: SpeedWish, device: str, dtype: str, output: BenchOutput) -> None:
    """Measure, show the table, and write speed.json where a folder is given.

    Raises:
        InputError: no size, half a photo, a model or a folder that is none.
        BackendError, WeightsError: a model cannot run.
    """
    check_device(device)
    if not wish.megapixels:
        raise InputError("--megapixels: name a size, as in 1,6")
    if any(count != int(count) or count < 1 for count in wish.photos):
        raise InputError("--photos: must be whole numbers, as in 1,4,16")
    if output.report is not None:
        check_writable([output.report])
    counts = tuple(map(int, wish.photos))
    plan = SpeedPlan(tuple(map(resolve, models)), tuple(wish.megapixels), counts, device, dtype)
    rows = []
    with choose_display(quiet=output.quiet) as display:
        gauge = Gauge(plan.total, steady=False)
        for row in measure_speed(plan):
            rows.append(row)
            gauge.done += 1
            gauge.text = f"{gauge.done:.0f}/{gauge.total:.0f}, {row.model}, {row.kind}, {row.megapixels:g} MP"
            display.show(gauge)
    found = describe_speed(plan, rows)
    if output.as_json:
        write_json(found, indent=2)
    else:
        show_table(*speed_rows(rows))
    if output.report is not None:
        path = output.report / "speed.json"
        write_whole(path, (json.dumps(found, indent=1) + "\n").encode())
        if not output.quiet:
            write_note(f"report: {path}")

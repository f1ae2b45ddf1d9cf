"""`deblur bench`: models measured on data sets, beside doing nothing; and two reports compared."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from deblur_cli.commands.options import (
    DEFAULT_MODEL,
    DTYPES,
    DtypeOption,
    EngineOption,
    JsonOption,
    QuietOption,
    SeedOption,
    ShardOption,
    TileOption,
    check_choice,
    check_device,
    check_range,
    complete_model,
    option,
    pick_engine,
    was_given,
)
from deblur_cli.commands.streams import write_json
from deblur_cli.commands.table import show_table
from deblur_cli.errors import DeblurError, InputError

_MEASURE = "measure"
_OF_SCORES = [
    "metrics",
    "protocol",
    "limit",
    "allow_missing",
    "gamma",
    "self_truth",
    "tile",
    "seed",
    "shard",
    "save_images",
    "fresh",
]
_OF_SPEED = ("megapixels", "photos")


class _MeasureByDefault(TyperGroup):
    """`deblur bench FOLDER` without naming a sub-command; only the first word decides."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Anything that is no sub-command belongs to `measure`; a folder called compare is ./compare."""
        known = bool(args) and args[0] in self.commands
        parsed: list[str] = super().parse_args(ctx, args if known else [_MEASURE, *args])
        return parsed

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """The default command has no name of its own in usage lines."""
        name, command, rest = super().resolve_command(ctx, args)
        return None if name == _MEASURE else name, command, rest


app = typer.Typer(
    cls=_MeasureByDefault,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


@app.command(_MEASURE, hidden=True)
def measure(
    context: typer.Context,
    datasets: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DATASET...", help="Folders, or RealBlur's test list.", show_default=False),
    ] = None,
    models: Annotated[
        list[str] | None,
        option(
            "Restoration",
            "--model",
            "What restores; repeat it for several: quick+flow:steps=1.",
            metavar="NAME",
            complete=complete_model,
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        option(
            "Figures",
            "--metrics",
            "psnr,ssim3d,ssim,lpips,lpips-vgg,dists,detail,detail_corr,blur_effect; default: all without VGG.",
            metavar="A,B",
        ),
    ] = None,
    protocol: Annotated[
        str,
        option(
            "Figures",
            "--protocol",
            "full, shift (kernels not centred), realblur, koehler; auto: by layout.",
            metavar="NAME",
        ),
    ] = "auto",
    limit: Annotated[
        int | None, option("Figures", "--limit", "Only the first N photos of each data set.", metavar="N")
    ] = None,
    allow_missing: Annotated[
        bool, option("Figures", "--allow-missing", "Leave out photos without partner instead of refusing.")
    ] = False,
    gamma: Annotated[
        bool, option("Figures", "--gamma", "GoPro: score blur_gamma; the literature uses the linear blur.")
    ] = False,
    self_truth: Annotated[
        bool, option("Figures", "--self", "Sharp photos, each its own truth: what does a model harm?")
    ] = False,
    device: Annotated[
        str,
        option(
            "Restoration", "--device", "auto, cpu, cuda, mps; several share the work: cuda:0,cuda:1.", metavar="DEVICE"
        ),
    ] = "auto",
    dtype: DtypeOption = "auto",
    engine: EngineOption = "auto",
    tile: TileOption = None,
    seed: SeedOption = 0,
    shard: ShardOption = None,
    speed: Annotated[
        bool, option("Speed", "--speed", "Seconds by part of made photos, instead of scores of a data set.")
    ] = False,
    megapixels: Annotated[
        str, option("Speed", "--megapixels", "Sizes of single photos, as in 1,6,24,45.", metavar="A,B")
    ] = "1,6",
    photos: Annotated[
        str | None, option("Speed", "--photos", "Whole folders of so many photos, as in 1,4,16.", metavar="A,B")
    ] = None,
    report: Annotated[
        Path | None,
        option(
            "Reports", "--report", "Folder for report.html, .json, .csv, .md; run again, it goes on.", metavar="DIR"
        ),
    ] = None,
    save_images: Annotated[
        int, option("Reports", "--save-images", "Pictures for the page: this many photos a data set.", metavar="N")
    ] = 12,
    fresh: Annotated[bool, option("Reports", "--fresh", "Forget an earlier run's scores in the folder.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure models on data sets, each beside doing nothing (the row `blurry`).

    A data set is recognised by its folders: GoPro, HIDE, RealBlur, Köhler, blur/ beside sharp/, or photos alone.

    \b
    Examples:
      deblur bench photos/            (photos/blur and photos/sharp)
      deblur bench gopro/ hide/ --model best --report out/
      deblur bench gopro/ --model NAME:steps=1 --model NAME:steps=8,strength=0.5
      deblur bench levin/ --protocol shift --metrics psnr,ssim
      deblur bench sharp_photos/ --self
      deblur bench gopro/ --report part2/ --shard 2/4; deblur bench merge part1/ part2/ part3/ part4/
      deblur bench --speed --model standard --model standard:engine=torch
      deblur bench compare old/report.json new/report.json --fail-below psnr=-0.05

    \b
    Exit status:
      0 measured    1 weights or device    2 no data set, unpaired files, bad option
      3 a photo could not be read, the others are measured
    """
    from deblur_cli.benchmark.bench_plan import Options, build_bench_plan
    from deblur_cli.benchmark.datasets import PairSearch
    from deblur_cli.commands.bench_work import BenchOutput, measure_plan
    from deblur_cli.system.parts import parse_part
    from deblur_cli.weights.model_spec import ModelSpec

    check_choice("--dtype", dtype, DTYPES)
    wanted_engine = pick_engine(engine)
    check_range("--seed", seed, 0, 2**63 - 1)
    specs = tuple(ModelSpec.parse(text).override(engine=wanted_engine) for text in models or [DEFAULT_MODEL])
    _check_kind(context, speed=speed)
    if speed:
        from deblur_cli.commands.speed_work import SpeedWish, do_speed

        if datasets:
            raise InputError(f"--speed: makes its own photos; leave {datasets[0]} out")
        wish = SpeedWish(_numbers("--megapixels", megapixels, 1000), _numbers("--photos", photos or "", 1000))
        do_speed(specs, wish, device, dtype, BenchOutput(report, 0, fresh, as_json, quiet))
        return
    _check(datasets, limit, tile, save_images)
    options = Options(
        models=specs,
        metrics=_split(metrics),
        protocol=protocol,
        devices=_split_devices(device),
        dtype=dtype,
        tile=tile,
        seed=seed,
    )
    search = PairSearch(allow_missing, gamma, self_truth)
    plan = build_bench_plan(tuple(datasets or ()), options, search, limit, parse_part(shard) if shard else None)
    measure_plan(plan, BenchOutput(report, save_images, fresh, as_json, quiet))


@app.command("compare")
def compare(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="A report.json or its folder.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="The one to judge.")],
    fail_below: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-below",
            help="Exit 1 when a metric's mean improvement is below this or photos lost it; repeat it for several.",
            metavar="METRIC=X",
            envvar="DEBLUR_FAIL_BELOW",
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option("--models", help="Compare two names: OLD,NEW.", metavar="OLD,NEW", envvar="DEBLUR_MODELS"),
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """What changed between two reports, photo by photo, with a 95 % paired bootstrap interval.

    An improvement counts in the metric's good direction: psnr=-0.05 lets 0.05 dB go, lpips=0 lets nothing go.

    \b
    Examples:
      deblur bench compare old/ new/
      deblur bench compare old/ new/ --fail-below psnr=-0.05 --fail-below lpips=0
      deblur bench compare run/ run/ --models expert,flow
    """
    from deblur_cli.benchmark.compare import compare_reports, find_crossed, find_differences, parse_limits, read_report
    from deblur_cli.benchmark.tables import change_rows

    limits = parse_limits(fail_below or [])
    reports, names = (read_report(before), read_report(after)), _two(models)
    changes = compare_reports(*reports, models=names, seed=seed)
    crossed = find_crossed(changes, limits)
    gaps = find_differences(*reports, limits, models=names)
    if as_json:
        rows = [change.to_dict() for change in changes]
        write_json({"changes": rows, "crossed": len(crossed), "gaps": gaps}, indent=2)
    else:
        show_table(*change_rows(changes))
    lines = [f"{row.dataset}/{row.model} {row.metric} {row.improvement:+.4f}" for row in crossed]
    if lines := lines + gaps:
        raise DeblurError(f"--fail-below: {'; '.join(lines)}")


@app.command("merge")
def merge(
    parts: Annotated[
        list[Path], typer.Argument(metavar="PART...", help="The reports of all parts, in any order: folders or files.")
    ],
    report: Annotated[
        Path | None,
        option("Reports", "--report", "Folder for report.html, .json, .csv, .md of the whole.", metavar="DIR"),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """One report of the parts that `--shard` made, with the figures of an undivided run.

    \b
    Examples:
      deblur bench merge part*/ --report out/
      deblur bench merge part1/ part2/ --json

    \b
    Exit status:
      0 merged    2 no part, a part is missing or twice, parts of different plans
      3 a photo could not be read in a part, the others are measured
    """
    from deblur_cli.commands.bench_work import BenchOutput, merge_parts

    merge_parts(parts, BenchOutput(report, 0, fresh=False, as_json=as_json, quiet=quiet))


def _check_kind(context: typer.Context, *, speed: bool) -> None:
    """No option may do nothing."""
    for name in _OF_SCORES if speed else _OF_SPEED:
        if was_given(context, name):
            flag = "--self" if name == "self_truth" else f"--{name.replace('_', '-')}"
            raise InputError(f"{flag}: {'not with' if speed else 'only with'} --speed, which makes its own photos")


def _check(datasets: list[Path] | None, limit: int | None, tile: int | None, pictures: int) -> None:
    if not datasets:
        raise InputError("no data set; name a folder (see 'deblur bench --help')")
    check_range("--limit", limit, 1, 10**9)
    check_range("--tile", tile, 64, 65536)
    check_range("--save-images", pictures, 0, 10**6)


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))


def _numbers(flag: str, text: str, most: int) -> tuple[float, ...]:
    """Positive numbers; of megapixels they may be parts of one."""
    try:
        found = tuple(map(float, _split(text)))
    except ValueError as fault:
        raise InputError(f"{flag} {text}: must be numbers, as in 1,6") from fault
    if not all(0.01 <= number <= most for number in found):
        raise InputError(f"{flag} {text}: must be from 0.01 to {most}")
    return found


def _split_devices(text: str) -> tuple[str, ...]:
    """Devices may repeat: cpu,cpu is two processes."""
    names = tuple(part.strip() for part in text.split(","))
    for name in names:
        check_device(name)
    if len(names) > 1 and "auto" in names:
        raise InputError(f"--device {text}: auto is one device; name each of several")
    return names


def _two(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    names = [part.strip() for part in re.split(r",(?!\w+=)", text)]  # not at the commas inside NAME:steps=1,strength=0
    if len(names) != 2:
        raise InputError(f"--models {text}: name two, as in OLD,NEW")
    return names[0], names[1]

"""Reports and pictures for the tests of the report page, and what a reader finds in its text."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deblur_cli.benchmark.records import (
    SCHEMA,
    SHARP,
    BenchmarkReport,
    DatasetInfo,
    ImageScore,
    MetricInfo,
    ModelSummary,
    picture_path,
)

NASTY = '</script><script>alert(1)</script><img src=x onerror="alert(2)">&amp;\u2028<!--'
SIZE = (96, 64)
METRICS = [
    MetricInfo("psnr", "higher", "dB", "RGB, rounded to 8 bits"),
    MetricInfo("lpips", "lower", "", "AlexNet"),
    MetricInfo("detail", "none", "", "mean gradient"),
]
MODELS = ("blurry", "expert", "dual-expert")
PLAIN_MODELS = ("blurry", "expert")


def make_report(images: int = 3) -> BenchmarkReport:
    """Two data sets: "pairs" with truth and three rows, "plain" without truth and two."""
    photos = [f"seq/{number:03}.png" for number in range(images)]
    pairs = [
        ImageScore("pairs", image, model, *SIZE, _paired_scores(number, row), 0.5 * row if row else None)
        for number, image in enumerate(photos)
        for row, model in enumerate(MODELS)
    ]
    plain = [
        ImageScore("plain", image, model, *SIZE, {"detail": 2.0 + row}, None)
        for image in photos
        for row, model in enumerate(PLAIN_MODELS)
    ]
    return BenchmarkReport(
        schema=SCHEMA,
        command="deblur bench pairs plain --model expert --model dual-expert",
        created="2026-05-04T03:02:01+00:00",
        environment={"device": "cpu", "seed": 0, "versions": {"numpy": "2"}, "tile": None},
        datasets=[
            DatasetInfo("pairs", "pairs", "pairs", images),
            DatasetInfo("plain", "plain", "holiday", images),
        ],
        metrics=METRICS,
        models=[_summary(name, "pairs", pairs) for name in MODELS]
        + [_summary(name, "plain", plain) for name in PLAIN_MODELS],
        images=pairs + plain,
    )


def _paired_scores(number: int, row: int) -> dict[str, float | None]:
    return {"psnr": 24.0 + number + row * (number - 0.5), "lpips": 0.3 - 0.05 * row, "detail": 2.0 + row}


def _summary(name: str, dataset: str, images: list[ImageScore]) -> ModelSummary:
    rows = [row.scores for row in images if row.model == name]
    scores: dict[str, float | None] = {
        metric: sum(row[metric] or 0.0 for row in rows) / len(rows) for metric in rows[0]
    }
    if name == "blurry":
        return ModelSummary(name, dataset, {}, scores, {})
    number = MODELS.index(name)
    return ModelSummary(
        name, dataset, {"expert": "ab" * 32}, scores, {}, 0.25 * number, 900.0, None, 26_100_000 * number, 2.5e11
    )


def write_pictures(report: BenchmarkReport, folder: Path, size: tuple[int, int] = SIZE) -> None:
    """Pictures of every row, and the truth where the data set is "pairs"."""
    for row in report.images:
        names = [row.model, SHARP] if row.dataset == "pairs" else [row.model]
        for name in names:
            file = folder / picture_path(row.dataset, name, row.image)
            file.parent.mkdir(parents=True, exist_ok=True)
            make_picture(f"{row.image}{name}", size).save(file)


def make_picture(name: str, size: tuple[int, int] = SIZE) -> Image.Image:
    """Smooth colours that depend on the name."""
    generator = np.random.default_rng(list(name.encode()))
    coarse = Image.fromarray(generator.integers(0, 255, (6, 9, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def page_json(page: str, name: str) -> Any:
    """The value of one embedded JSON block."""
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found.group(1))


class Loads(HTMLParser):
    """Collects what a browser would execute or load from elsewhere."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts = 0
        self.handlers: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for key, value in attrs:
            if key.startswith("on"):
                self.handlers.append(f"{tag} {key}")
            if key in {"src", "href", "srcset", "data", "action", "poster"}:
                self.addresses.append(value or "")


def rename(report: BenchmarkReport, old: str, new: str) -> BenchmarkReport:
    """The report with another name for one model."""
    return replace(
        report,
        models=[replace(row, name=new) if row.name == old else row for row in report.models],
        images=[replace(row, model=new) if row.model == old else row for row in report.images],
    )


def read_figures(page: str) -> str:
    """The markup of the plots and their captions."""
    return "".join(re.findall(r"<figure class=.plot.*?</figure>", page, re.DOTALL))

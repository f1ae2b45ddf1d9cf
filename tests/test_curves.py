"""The page of a training's log."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from deblur_cli.errors import InputError
from deblur_cli.training.curves import write_log_page


def write_log(folder: Path, **changes: Any) -> Path:
    """Three looks at a training, with these values in the last."""
    folder.mkdir()
    records = [
        {"step": 50 * look, "elapsed": 60.0 * look, "budget": 300.0, "loss": 0.5 / look, "photos_per_second": 40.0}
        | {"figures": {"PSNR & co": {"a<b": 25.0 + look}}}
        for look in (1, 2, 3)
    ]
    records[-1] |= changes
    lines = [json.dumps({key: value for key, value in record.items() if value is not None}) for record in records]
    (folder / "log.jsonl").write_text("\n".join(lines))
    return folder


def test_every_quantity_has_a_plot_with_round_numbers_and_its_last_value(tmp_path: Path) -> None:
    page = write_log_page(write_log(tmp_path / "run")).read_text()
    assert re.findall("<h2>(.*)</h2>", page) == ["Loss", "PSNR &amp; co", "Patches per second"]
    assert "150 steps in 3.0 of 5.0 minutes" in page
    assert ">loss 0.167</text>" in page
    assert [f">{minute}</text>" in page for minute in range(4)] == [True] * 4


def test_names_never_become_html(tmp_path: Path) -> None:
    page = write_log_page(write_log(tmp_path / "<b>")).read_text()
    assert "<h1>Training log: &lt;b&gt;</h1>" in page
    assert ">a&lt;b 28</text>" in page


def test_a_value_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    page = write_log_page(write_log(tmp_path / "run", loss=float("nan"))).read_text()
    assert ">loss 0.25</text>" in page
    assert not re.search(r"\b(inf|nan)\b", page)


@pytest.mark.parametrize("field", ["step", "elapsed", "budget", "loss", "figures", "photos_per_second"])
def test_a_damaged_log_is_one_line(tmp_path: Path, field: str) -> None:
    with pytest.raises(InputError, match="the training log is empty or damaged"):
        write_log_page(write_log(tmp_path / "run", **{field: None}))
    assert not (tmp_path / "run/log.html").exists()

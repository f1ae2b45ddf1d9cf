"""The promise about memory, on photos as large as cameras make them. Slow. Times: `deblur bench --speed`."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow


def write_photo(path: Path, width: int, height: int) -> None:
    """A JPEG of that size with the statistics of a photo: a bundled example, tiled and mirrored."""
    source = Image.open(Path(__file__).parents[1] / "examples/blurry/coffee.jpg")
    pixels = np.asarray(source)
    pattern = np.concatenate((pixels, pixels[:, ::-1]), 1)
    pattern = np.concatenate((pattern, pattern[::-1]), 0)
    rows, columns = -(-height // pattern.shape[0]), -(-width // pattern.shape[1])
    Image.fromarray(np.tile(pattern, (rows, columns, 1))[:height, :width]).save(path, quality=92)


def run(photo: Path, out: Path, model: str) -> float:
    """The peak memory of `deblur run`, in GB."""
    options = ["--model", model, "--device", "cpu", "--quiet", "--overwrite"]
    command = [sys.executable, "-m", "deblur_cli", "run", str(photo), "-o", str(out), *options]
    own = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}  # the tests' own, and slow
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=own) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * 1024 / 1e9


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("model", ["quick", "quick+flow", "standard"])
def test_a_45_megapixel_photo_needs_at_most_3_gb(model: str, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    write_photo(photo, 8256, 5504)
    assert run(photo, tmp_path / "sharp.jpg", model) <= 3.0

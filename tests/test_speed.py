"""The promises about speed and memory, on photos as large as cameras make them. Slow: `pytest -m slow -s`."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.nafnet_reference import NAFNet32

pytestmark = pytest.mark.slow


def write_photo(path: Path, width: int, height: int) -> None:
    """A JPEG of that size with the statistics of a photo: a bundled example, tiled and mirrored."""
    source = Image.open(Path(__file__).parents[1] / "examples/blurry/coffee.jpg")
    pixels = np.asarray(source)
    pattern = np.concatenate((pixels, pixels[:, ::-1]), 1)
    pattern = np.concatenate((pattern, pattern[::-1]), 0)
    rows, columns = -(-height // pattern.shape[0]), -(-width // pattern.shape[1])
    Image.fromarray(np.tile(pattern, (rows, columns, 1))[:height, :width]).save(path, quality=92)


def run(photo: Path, out: Path, model: str = "quick") -> tuple[dict[str, object], float, float]:
    """The report of `deblur run`, the seconds of the whole process, and its peak memory in GB."""
    options = ["--model", model, "--device", "cpu", "--json", "--overwrite"]
    command = [sys.executable, "-m", "deblur_cli", "run", str(photo), "-o", str(out), *options]
    own = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}  # the tests' own, and slow
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=own) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return json.loads(printed), time.perf_counter() - started, usage.ru_maxrss * 1024 / 1e9


@torch.inference_mode()
def time_nafnet(side: int, tiles: int) -> float:
    """Seconds for that many tiles in float32, without overlap, decoding or encoding; after one warm-up."""
    network, tile = NAFNet32().eval(), torch.rand(1, 3, side, side)
    assert sum(p.numel() for p in network.parameters()) == 17_111_907
    network(tile)
    started = time.perf_counter()
    for _ in range(tiles):
        network(tile)
    return time.perf_counter() - started


@pytest.mark.timeout(1800)
def test_a_24_megapixel_jpeg_takes_an_eighth_of_nafnet_32(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    write_photo(photo, 6000, 4000)
    _, seconds, _ = run(photo, tmp_path / "sharp.jpg")
    tiles = -(-6000 * 4000 // 512**2)
    nafnet = time_nafnet(512, tiles)
    print(f"\ndeblur run, whole process: {seconds:.1f} s, {seconds / 24:.3f} s per megapixel")
    print(f"NAFNet-width32, float32, network only: {nafnet:.1f} s, {nafnet / 24:.3f} s per megapixel")
    print(f"{nafnet / seconds:.1f} times faster")
    assert nafnet > 8 * seconds


@pytest.mark.timeout(600)
def test_a_24_megapixel_jpeg_with_the_flow_takes_at_most_two_and_a_half_times_the_expert_alone(tmp_path: Path) -> None:
    photo, models = tmp_path / "photo.jpg", ("quick", "quick+flow:steps=4")
    write_photo(photo, 6000, 4000)
    rounds = [[run(photo, tmp_path / "sharp.jpg", model)[1] for model in models] for _ in range(2)]
    expert, dual = (min(seconds) for seconds in zip(*rounds, strict=True))
    print(f"\nwhole processes: expert {expert:.1f} s, with 4 steps of the flow {dual:.1f} s, {dual / expert:.2f} times")
    assert dual <= 2.5 * expert


@pytest.mark.timeout(600)
def test_all_but_the_network_takes_at_most_15_percent(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    write_photo(photo, 6000, 4000)
    report, _, _ = run(photo, tmp_path / "sharp.jpg")
    summary = report["summary"]
    assert isinstance(summary, dict)
    overhead = 1 - summary["network_seconds"] / summary["seconds"]
    print(f"\nnetwork {summary['network_seconds']:.2f} s of {summary['seconds']:.2f} s, overhead {overhead:.1%}")
    assert overhead <= 0.15


@pytest.mark.timeout(3600)
def test_a_24_megapixel_jpeg_with_each_choice_is_told(tmp_path: Path) -> None:
    """What `seconds_24mp` of the manifest was measured with; promises nothing."""
    photo = tmp_path / "photo.jpg"
    write_photo(photo, 6000, 4000)
    for model in ("quick", "standard"):
        _, seconds, peak = run(photo, tmp_path / "sharp.jpg", model)
        print(f"\n{model}: 24 megapixels in {seconds:.1f} s, peak memory {peak:.2f} GB")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("model", ["quick", "quick+flow", "standard"])
def test_a_45_megapixel_photo_needs_at_most_3_gb(model: str, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    write_photo(photo, 8256, 5504)
    _, seconds, peak = run(photo, tmp_path / "sharp.jpg", model)
    print(f"\n{model}: 45.4 megapixels in {seconds:.1f} s, peak memory {peak:.2f} GB")
    assert peak <= 3.0

"""Two checkouts of this project, one set of photos: do they write the same bytes and give the same scores?

    python .ci/same_results.py BEFORE AFTER [--model NAME]...

For a change that must not change anything. Each checkout runs in a process of its own on photos made here, in every
format that can be read or written, and on two small data sets. Exit status 1 names what differs. Seconds, dates and
the version are left out of reports; results are compared to the last byte.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, features

READ = ("one.jpg", "two.png", "three.tif", "four.webp", "five.avif", "six.heic")
WRITTEN = ("jpg", "png", "tiff", "webp", "avif")
FLEETING = {"seconds", "date", "started", "created", "version", "deblur", "command", "environment", "peak"}


def draw(height: int, width: int, seed: int) -> Image.Image:
    """A picture with edges, ramps and texture."""
    numbers = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    planes = [np.sin(rows / 9 + seed) * np.cos(columns / (7 + plane)) * 90 + 128 for plane in range(3)]
    texture = np.stack(planes, -1) + numbers.normal(0, 12, (height, width, 3))
    texture[height // 3 : height // 2, width // 4 : width // 2] = (230, 40, 30)
    return Image.fromarray(texture.clip(0, 255).astype(np.uint8))


def blur(picture: Image.Image) -> Image.Image:
    """Seven pixels along the rows."""
    line = [0] * 49
    line[21:28] = [1] * 7
    return picture.filter(ImageFilter.Kernel((5, 5), [0] * 10 + [1] * 5 + [0] * 10))


def make_photos(folder: Path) -> None:
    """One photo in each format, with metadata, one turned by its EXIF, one of 16 bits."""
    folder.mkdir()
    for seed, name in enumerate(READ):
        picture = blur(draw(131, 190, seed))
        exif = Image.Exif()
        exif[0x010E], exif[0x0112] = "a described photo", 1 + seed % 8
        if name.endswith(".heic"):
            try:
                import pillow_heif
            except ImportError:
                continue
            pillow_heif.register_heif_opener()
        elif name.endswith(".avif") and not features.check("avif"):
            continue
        picture.save(folder / name, exif=exif)
    deep = np.asarray(blur(draw(97, 160, 9)).convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray(deep).save(folder / "deeper.tif")
    (folder / "broken.jpg").write_bytes((folder / "one.jpg").read_bytes()[:900])


def make_sets(folder: Path) -> None:
    """Pairs, and photos without truth."""
    for seed in range(3):
        sharp = draw(150, 170, 20 + seed)
        for kind, picture in (("pairs/sharp", sharp), ("pairs/blur", blur(sharp)), ("alone", blur(sharp))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            picture.save(folder / kind / f"{seed}.png")


def call(checkout: Path, arguments: list[str], folder: Path) -> str:
    """What a command says on standard output, and how it ends."""
    surroundings = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, "-m", "deblur_cli", *arguments]
    done = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False)
    return f"{done.stdout}\nexit {done.returncode}\n{done.stderr if done.returncode not in (0, 3) else ''}"


def without_times(value: Any) -> Any:
    """A report without what no two runs have in common."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if not FLEETING & set(key.split("_"))}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def collect(checkout: Path, photos: Path, sets: Path, models: list[str]) -> dict[str, bytes]:
    """Everything that a checkout makes of the photos, by name."""
    found: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        (work / "photos").symlink_to(photos)
        for sort in WRITTEN:
            arguments = ["run", "photos/one.jpg", "photos/deep.png", "-o", f"as_{sort}", "--model", "quick"]
            found[f"run --format {sort}"] = call(checkout, [*arguments, "--format", sort, "-q"], work).encode()
        for model in models:
            folder = model.replace(":", "_")
            told = call(checkout, ["run", "photos", "-o", folder, "--model", model, "--quiet"], work)
            told += call(checkout, ["run", "photos", "-o", folder, "--model", model, "--dry-run"], work)
            found[f"run --model {model}"] = told.encode()
        for path in sorted(work.rglob("*")):
            if path.is_file() and not path.is_relative_to(work / "photos"):
                found[path.relative_to(work).as_posix()] = path.read_bytes()
        rows = [word for model in models for word in ("--model", model)]
        for name in ("pairs", "alone"):
            said = call(checkout, ["bench", str(sets / name), *rows, "--json", "--quiet"], work)
            report, _, status = said.rpartition("\nexit ")
            table = json.dumps(without_times(json.loads(report)), sort_keys=True)
            found[f"bench {name}"] = f"{table} exit {status}".encode()
    return found


def main() -> int:
    """Compare, and name what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--model", action="append", dest="models", help="default: quick, standard, quick+flow")
    options = parser.parse_args()
    models = options.models or ["quick", "standard", "quick+flow"]
    with tempfile.TemporaryDirectory() as place:
        make_photos(Path(place, "photos"))
        make_sets(Path(place, "sets"))
        before, after = (
            collect(checkout.resolve(), Path(place, "photos"), Path(place, "sets"), models)
            for checkout in (options.before, options.after)
        )
    differing = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    for name in differing:
        sys.stdout.write(f"differs: {name}\n")
    sys.stdout.write(f"{len(before)} files, reports and messages, {len(differing)} differ\n")
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())

"""How right is `deblur inspect`? Held-out photos, blurred in known ways, as a camera would save them.

    python docs/measure/blur_measure.py PHOTOS --each 3

For each manner of motion and camera: the share of photos whose verdict is motion, whose length is within 25 %, and the
median error of the direction where the path has one. Then what is said of sharp photos, of photos out of focus, and
of portraits (`bokeh.py`). Length is that of the even straight motion with the same spread along the main direction; how
often it is within 25 % of the diagonal of the box around the path, too, is told in brackets.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from blurred_photos import Blur, draw_disc, draw_motion, expose, find_photos, is_crisp, photograph, read_luma
from bokeh import find_portraits, make_portrait
from camera import Floats, dice_for

from deblur_cli.restoration.blur_measure import BlurMeasure, measure_blur

# name -> noise of 255 and JPEG quality
CAMERAS: dict[str, tuple[float, int | None]] = {"clean": (0.5, None), "JPEG 85": (1.5, 85), "noise 6, JPEG 90": (6, 90)}
MANNERS = ("hand", "shake", "line")


def measure(luma: Floats, blur: Blur, camera: str, seed: int) -> BlurMeasure:
    """Blur a photo, take it with a camera, and measure that."""
    sigma, quality = CAMERAS[camera]
    dice = np.random.default_rng(seed)
    shown = photograph(expose(luma, blur, dice.uniform(0, 1), seed), sigma, quality, seed)
    pixels = (shown * 255).round().astype(np.uint8)
    return measure_blur(np.repeat(pixels[..., None], 3, 2))


def tell(line: str) -> None:
    """One line, at once."""
    print(line, flush=True)  # noqa: T201


def choose(photos: list[Path], each: int, *names: object) -> Iterator[tuple[Path, int]]:
    """Some of the photos and a seed for each, by these names."""
    dice = dice_for(*names)
    for index in dice.permutation(len(photos))[:each]:
        yield photos[index], int(dice.integers(2**31))


def measure_motion(photos: list[Path], each: int, lengths: list[float]) -> None:
    """Verdict, length and direction of known motions."""
    right_of: dict[str, list[bool]] = {}
    for manner in MANNERS:
        for camera in CAMERAS:
            rows = []
            for length in lengths:
                for path, seed in choose(photos, each, manner, camera, length):
                    blur = draw_motion(length, seed, manner)
                    found = measure(read_luma(path), blur, camera, seed)
                    angle, spread, across = blur.axis
                    error, wide = found.length / spread - 1, found.length / length - 1
                    turn = abs((found.direction - np.degrees(angle) + 90) % 180 - 90)
                    right = found.is_moved and abs(error) <= 0.25
                    rows.append((found.is_moved, right, error, turn, across, found.is_moved and abs(wide) <= 0.25))
                    for name in (manner, camera, f"{length:g} px", "all"):
                        right_of.setdefault(name, []).append(rows[-1][1])
            moved = np.mean([row[0] for row in rows])
            right, boxed = (np.mean([row[index] for row in rows]) for index in (1, 5))
            bias = np.median([row[2] for row in rows if row[0]] or [np.nan])
            turn = np.median([row[3] for row in rows if row[0] and row[4] < 0.4] or [np.nan])
            figures = f"motion {moved:.0%}, length within 25 % {right:.0%} ({boxed:.0%}), median error {bias:+.0%}"
            tell(f"{manner:6} {camera:17} {len(rows)} photos: {figures}, direction off by {turn:.0f} degrees")
    tell("length within 25 %: " + ", ".join(f"{name} {np.mean(some):.0%}" for name, some in right_of.items()))


def measure_others(photos: list[Path], each: int) -> None:
    """What is said of photos without motion."""
    for camera in CAMERAS:
        verdicts = Counter(
            measure(read_luma(path), Blur("sharp"), camera, seed).verdict
            for path, seed in choose(photos, 4 * each, "sharp", camera)
        )
        tell(f"sharp   {camera:17} {dict(verdicts)}")
        verdicts = Counter(
            measure(read_luma(path), draw_disc(5 + seed % 30), camera, seed).verdict
            for path, seed in choose(photos, 4 * each, "disc", camera)
        )
        tell(f"disc    {camera:17} {dict(verdicts)}")


def measure_portraits(folder: Path, count: int) -> None:
    """What is said of a sharp subject before a background out of focus."""
    pictures = [make_portrait(*pair, number)[0] for number, pair in enumerate(find_portraits(folder, count))]
    tell(f"portraits {dict(Counter(measure_blur(picture).verdict for picture in pictures))}")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--each", type=int, default=4, help="photos for each manner, camera and length")
    parser.add_argument("--lengths", nargs="+", type=float, default=[8, 12, 18, 27, 40, 60])
    options = parser.parse_args()
    photos = [path for path in find_photos(options.photos, held_out=True) if is_crisp(read_luma(path))]
    tell(f"{len(photos)} held-out photos")
    measure_others(photos, options.each)
    measure_portraits(options.photos, 3 * options.each)
    measure_motion(photos, options.each, options.lengths)


if __name__ == "__main__":
    main()

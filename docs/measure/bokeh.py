"""Portraits whose background is out of focus: does `deblur run` leave it alone?

    python docs/measure/bokeh.py PHOTOS -o portraits --count 12
    deblur run portraits/photo -o portraits/result
    python docs/measure/bokeh.py PHOTOS -o portraits --score portraits/result

The first call makes pictures: a sharp piece of one photo, in an oval, before another photo that a disc of 8 to 24
pixels has blurred in linear light; with noise of 1 of 255 and JPEG of quality 95. The last one tells the PSNR of each
result to its own photo, for the background (all pixels that the subject does not touch) and for the subject.
"""

import argparse
from pathlib import Path

import numpy as np
from blurred_photos import draw_disc, find_photos
from camera import Floats, decode_srgb, dice_for, encode_srgb, read_photo, through_jpeg, to_pixels
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, signal

_SIZE = (384, 640)


def cut(picture: Floats, dice: np.random.Generator) -> Floats:
    """A random place of the size of a portrait; (H, W, 3), sRGB-encoded."""
    height, width = _SIZE
    top, left = (int(dice.integers(whole - part + 1)) for whole, part in zip(picture.shape[:2], _SIZE, strict=True))
    return picture[top : top + height, left : left + width]


def draw_subject(dice: np.random.Generator) -> Floats:
    """(H, W), 1 in an oval with a wavy border of about a third of the picture, soft over a pixel."""
    height, width = _SIZE
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y = (y - height * dice.uniform(0.45, 0.6)) / (height * dice.uniform(0.3, 0.4))
    x = (x - width * dice.uniform(0.35, 0.65)) / (width * dice.uniform(0.16, 0.24))
    angle = np.arctan2(y, x)
    waves = sum(dice.uniform(0, 0.06) * np.sin(n * angle + dice.uniform(0, 6)) for n in (2, 3, 5, 8))
    return ndimage.gaussian_filter(((x**2 + y**2) < (1 + waves) ** 2).astype(np.float32), 0.7)


def make_portrait(before: Path, behind: Path, number: int) -> tuple[NDArray[np.uint8], Floats]:
    """The picture and its subject's mask."""
    dice = dice_for("portrait", number)
    subject, scene = (decode_srgb(cut(read_photo(path), dice)) for path in (before, behind))
    kernel = draw_disc(float(np.exp(dice.uniform(np.log(8), np.log(24))))).kernel
    assert kernel is not None
    reach = kernel.shape[0] // 2
    padded = np.pad(scene, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    scene = signal.fftconvolve(padded, kernel[..., None], mode="valid", axes=(0, 1)).clip(0, 1)
    mask = draw_subject(dice)
    shown = encode_srgb((scene + mask[..., None] * (subject - scene)).astype(np.float32))
    shown = shown + np.float32(1 / 255) * dice.standard_normal(shown.shape).astype(np.float32)
    return through_jpeg(to_pixels(shown), 95), mask


def find_portraits(folder: Path, count: int) -> list[tuple[Path, Path]]:
    """Pairs of held-out photos that are large enough; the same for everybody."""
    large = []
    for path in find_photos(folder, held_out=True):
        with Image.open(path) as photo:
            if photo.height >= _SIZE[0] and photo.width >= _SIZE[1]:
                large.append(path)
    order = dice_for("portraits").permutation(len(large))
    return [(large[order[2 * i]], large[order[2 * i + 1]]) for i in range(min(count, len(large) // 2))]


def psnr(left: NDArray[np.uint8], right: NDArray[np.uint8], where: NDArray[np.bool_]) -> float:
    """In decibels, over the pixels that are true."""
    error = (left[where].astype(np.float64) - right[where]) ** 2
    return float(10 * np.log10(255**2 / max(error.mean(), 1e-9)))


def main() -> None:
    """Read the command line, make the portraits or score them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("-o", "--out", required=True, type=Path)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--score", type=Path, help="folder of the results")
    options = parser.parse_args()
    scores = []
    for number, (before, behind) in enumerate(find_portraits(options.photos, options.count)):
        picture, mask = make_portrait(before, behind, number)
        place = options.out / "photo" / f"{number:02}.png"
        if options.score is None:
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(place)
            continue
        result = options.score / place.name
        if result.exists():
            restored = np.asarray(Image.open(result).convert("RGB"))
            scores.append([psnr(picture, restored, mask < 0.002), psnr(picture, restored, mask > 0.998)])
            print(f"{number:02} background {scores[-1][0]:.1f} dB, subject {scores[-1][1]:.1f} dB")  # noqa: T201
    if scores:
        mean, worst = np.mean(scores, 0), np.min(scores, 0)
        print(f"background {mean[0]:.1f}, worst {worst[0]:.1f}; subject {mean[1]:.1f}, worst {worst[1]:.1f}")  # noqa: T201


if __name__ == "__main__":
    main()

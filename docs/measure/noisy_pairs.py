"""Noise or JPEG on pictures whose clean originals are known.

    python docs/measure/noisy_pairs.py PAIRS -o OUT --sigma 15
    python docs/measure/noisy_pairs.py PAIRS -o OUT --jpeg 50
    python docs/measure/noisy_pairs.py PHOTOS -o OUT --sigma 10

PAIRS holds blur/ and sharp/: noise and JPEG come onto the blurred pictures. A folder of sharp photos makes pairs of the
noisy and the clean photo.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from camera import (
    Floats,
    add_camera_noise,
    decode_srgb,
    dice_for,
    encode_srgb,
    read_photo,
    through_jpeg,
    to_pixels,
    write_pair,
)

_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"}


def find_pictures(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Name, blurred or clean picture, sharp picture; sorted."""
    blurred = folder / "blur" if (folder / "blur").is_dir() else folder
    clean = folder / "sharp" if (folder / "sharp").is_dir() else folder
    for path in sorted(blurred.iterdir()):
        if path.suffix.lower() in _PICTURES:
            yield path.stem, path, clean / path.name


def cut_middle(picture: Floats, side: int) -> Floats:
    """The middle of a picture, at most `side` high and wide."""
    top, left = (max(0, (length - side) // 2) for length in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def main() -> None:
    """Read the command line and make the pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("-o", "--out", required=True, type=Path)
    parser.add_argument("--sigma", type=float, default=0.0, help="of the noise at mid grey, of 255")
    parser.add_argument("--jpeg", type=int, help="quality, after the noise")
    parser.add_argument("--side", type=int, default=100_000, help="of the crop from the middle of every picture")
    parser.add_argument("--every", type=int, default=1, help="take one picture of so many")
    options = parser.parse_args()
    for name, given, sharp in list(find_pictures(options.pairs))[:: options.every]:
        light = decode_srgb(cut_middle(read_photo(given), options.side))
        if options.sigma:
            light = add_camera_noise(light, options.sigma, dice_for(name, options.sigma))
        pixels = to_pixels(encode_srgb(light))
        pixels = through_jpeg(pixels, options.jpeg) if options.jpeg else pixels
        write_pair(options.out, name, pixels, to_pixels(cut_middle(read_photo(sharp), options.side)))


if __name__ == "__main__":
    main()

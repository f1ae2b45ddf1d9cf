"""Make the picture of the README again: an example as it was taken, and beside it as the default model returns it.

Run from a checkout: deblur run examples/blurry --output sharp && python examples/make_before_after.py sharp
"""

import sys
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
CROP = (60, 60, 440, 440)  # left, upper, right, lower; shown at twice the size of its pixels


def main(restored: Path) -> None:
    """Write docs/before-after.jpg."""
    pictures = [Image.open(folder / "astronaut.jpg").crop(CROP) for folder in (HERE / "blurry", restored)]
    side = 2 * (CROP[2] - CROP[0])
    sheet = Image.new("RGB", (2 * side + 8, side), "white")
    for index, picture in enumerate(pictures):
        sheet.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (index * (side + 8), 0))
    sheet.save(HERE.parent / "docs" / "before-after.jpg", quality=88)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Photos are looked at and not touched: how blurred each is, and what is to be done about it. Prints nothing."""

from dataclasses import dataclass
from pathlib import Path

from deblur_cli.image_io import read_photo
from deblur_cli.restoration.blur_measure import BlurMeasure, measure_blur

LEAVE = "leave it"

_LIGHT = 6.0  # pixels: a careful pass does
_CLEAN = 3.0  # of 255: noise above this is not what the clean frames were that `best` learned from
_WHOLE = 0.8  # share of the windows: the camera moved, not a subject
_SHAKE = (25.0, 60.0)  # pixels: longer than what the default takes away, shorter than what nothing does


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """One photo: its size in pixels, how blurred it is, and the choice that it asks for."""

    photo: Path
    width: int
    height: int
    blur: BlurMeasure
    choice: str


def inspect_photo(path: Path) -> Inspection:
    """Look at one photo.

    Raises:
        PhotoError: as `read_photo`.
    """
    pixels = read_photo(path).pixels
    blur = measure_blur(pixels)
    return Inspection(path, pixels.shape[1], pixels.shape[0], blur, choose(blur))


def describe_blur(blur: BlurMeasure) -> str:
    """How blurred a photo is, in a few words."""
    motion = f"by about {blur.length:.0f} pixels at {blur.direction:.0f}°"
    words = {
        "motion": f"moved {motion}",
        "partly": f"partly moved, {motion}",
        "sharp": "sharp",
        "defocus": "out of focus",
        "empty": "too little detail to tell",
    }
    return words[blur.verdict] + ("" if blur.verdict == "empty" else f", sharpness {blur.sharpness:.2f}")


def choose(blur: BlurMeasure) -> str:
    """The model for a photo that is blurred like this, or `LEAVE`; a rule of thumb, after the table of the README."""
    if not blur.is_moved:
        return LEAVE
    if blur.length < _LIGHT:
        return "quick"
    if blur.verdict == "partly":
        return "best" if blur.noise < _CLEAN else "standard"
    is_shake = blur.shares[1] >= _WHOLE and _SHAKE[0] <= blur.length <= _SHAKE[1]
    return "shake" if is_shake else "standard"

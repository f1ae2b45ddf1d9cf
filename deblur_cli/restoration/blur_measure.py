"""How blurred a photo is, by what, and where: kind, direction, length, sharpness and noise. Knows no files but its own.

The photo is looked at through windows of 256 pixels. Each is read by itself, which makes the map; those that moved
are then read together, which makes direction and length; length is read at half and at a quarter of the size, too.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from deblur_cli.restoration.blur_reader import describe_windows, read_blur
from deblur_cli.restoration.blur_spectrum import ANGLES, RINGS, SIDE, polar_spectra, ring_frequencies
from deblur_cli.restoration.watch import Pixels

Verdict = Literal["sharp", "motion", "partly", "defocus", "empty"]

LEAST_SIDE = 32  # pixels of a photo that can be judged at all
_COEFFICIENTS = Path(__file__).with_name("blur_reader.safetensors")
_SHORT = 5.0  # pixels: a shorter motion cannot be told from a photo that is a little soft
_LONG = 80.0  # pixels: the direction of a longer one is read at the smallest size
_SCALES = (2, 4)  # at which motion is read besides the full size
_FAINT = 2.0 / 255  # standard deviation of detail below which a window is empty
_BLOCK = 16  # pixels
_SOFT, _CRISP = 0.045, 0.08  # energy of detail of 2 pixels over that of 4 to 16: below out of focus, above in it
_SOME_FOCUS = 0.05  # share of a photo in focus from which on there is a subject
_MOST_PIXELS = 8_000_000  # that soft places are read at
_LEAST_GRAIN = 1.0  # of 255: JPEG hides noise in the smoothest places, where it is measured, and not beside edges
_DIM = 2.0 / 255  # detail of 4 to 16 pixels that is fainter says nothing
_AT_ONCE = 64  # windows
_MOST = 0.5  # share of the windows with detail from which on a photo is blurred
_SOME = 0.2  # share from which on a part of it is
_SUBJECT = 0.25  # share of sharp windows that makes a photo sharp: the rest is out of focus on purpose


@dataclass(frozen=True, slots=True, eq=False)
class BlurMap:
    """What was read at each window of a photo.

    Attributes:
        size: height and width of the photo, or of the reduced one that was read.
        tops, lefts: (rows,) and (columns,), first pixels of the windows.
        side: their height and width at most.
        kinds: (rows, columns, 3), how likely sharp, moved and out of focus; sums to 1.
        detail: (rows, columns), whether there is enough detail to say.
    """

    size: tuple[int, int]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    side: int
    kinds: Tensor
    detail: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class BlurMeasure:
    """How blurred a photo is.

    Attributes:
        verdict: "motion" where most of its detail has moved, "partly" where some has and some is sharp, "defocus"
            where none is sharp and a lens did it, "empty" where there is nothing to tell by.
        length: of the motion in pixels of the photo; 0 without one. It is that of the even straight motion whose light
            spreads as far along the main direction, √12 times its standard deviation: of a straight motion its length.
        direction: of the motion in degrees, 0 to 180: 0 to the side, 90 up and down, 45 to the upper right.
        clear: how clearly it has one direction, 0 to 1.
        sharpness: share of the photo's resolution that holds detail, 0 to 1, at its sharpest places; 0.25 loses
            nothing when it is reduced to a quarter.
        noise: standard deviation of brightness in the smoothest places, of 255.
        shares: of the windows with detail that are sharp, moved and out of focus; they sum to 1, or are all 0.
        places: the same window by window.
        soft: what is not in focus, read by itself.
        focus: (rows, columns) of blocks of 16 pixels, 0 to 1, where there is detail down to the pixel.
    """

    verdict: Verdict
    length: float
    direction: float
    clear: float
    sharpness: float
    noise: float
    shares: tuple[float, float, float]
    places: BlurMap
    soft: BlurMap
    focus: Tensor

    @property
    def is_moved(self) -> bool:
        """Whether there is motion to be taken away."""
        return self.verdict in ("motion", "partly")


@dataclass(frozen=True, slots=True)
class _Motion:
    """Of windows that are read together.

    Attributes:
        doubt: as `Reading.doubts`.
        is_sharp: together they look sharp after all.
    """

    length: float
    direction: float
    clear: float
    doubt: float
    is_sharp: bool


_STILL = _Motion(0.0, 0.0, 0.0, 0.0, is_sharp=True)


def measure_blur(pixels: Pixels) -> BlurMeasure:
    """How blurred a photo is.

    Args:
        pixels: (H, W, 3), uint8 or uint16, sRGB-encoded or in the photo's own profile.
    Returns:
        The measure; verdict "empty" for photos with a side below `LEAST_SIDE`, too.
    """
    luma = to_luma(pixels)
    noise = estimate_noise(luma)
    places, power = _read_map(luma)
    detail, kinds = places.detail.flatten(), places.kinds.flatten(0, 1)
    if not bool(detail.any()):
        return BlurMeasure("empty", 0.0, 0.0, 0.0, 0.0, noise, (0.0, 0.0, 0.0), places, places, torch.zeros(1, 1))
    focus = find_focus(luma, noise)
    soft, _ = _read_map(_fade_sharp(_reduce(luma), focus))
    sharp, moved, unfocused = kinds[detail].mean(0).tolist()
    verdict = _judge((sharp, moved, unfocused), soft, float(focus.mean()))
    motion = _STILL
    if verdict in ("motion", "partly"):
        motion = _read_motion(luma, power[detail], kinds[detail, 1])
        if motion.length < _SHORT or motion.is_sharp:  # no more than what lenses and sensors take
            verdict, motion = "sharp", _STILL
    sharpness = _find_resolution(power[detail])
    shares = (sharp, moved, unfocused)
    figures = (motion.length, motion.direction, motion.clear, sharpness, noise)
    return BlurMeasure(verdict, *figures, shares, places, soft, focus)


def to_luma(pixels: Pixels) -> Tensor:
    """(H, W), float32, [0, 1], of (H, W, 3) uint8 or uint16."""
    top = float(np.iinfo(pixels.dtype).max)
    weights = torch.tensor([0.299, 0.587, 0.114]) / top
    luma = torch.empty(pixels.shape[:2])
    for row in range(0, len(pixels), 256):
        strip = np.ascontiguousarray(pixels[row : row + 256]).astype(np.float32)
        luma[row : row + 256] = torch.from_numpy(strip) @ weights
    return luma


def estimate_noise(luma: Tensor) -> float:
    """Standard deviation in the smoothest places, of 255.

    By second differences along diagonals of blocks of 16 pixels, a tenth of which are taken as smooth; a demosaic and
    JPEG hide a part of a sensor's noise from it.
    Source: Immerkaer 1996, "Fast Noise Variance Estimation": the mask.
    """
    height, width = luma.shape
    if min(height, width) < 18:
        return 0.0
    step = max(1, math.isqrt(height * width // 4_000_000))  # blocks of a large photo: every so many rows of them
    variances = []
    for top in range(0, height - 17, 16 * step):
        strip = luma[top : top + 18]
        across = strip[:, :-2] - 2 * strip[:, 1:-1] + strip[:, 2:]
        both = (across[:-2] - 2 * across[1:-1] + across[2:]).square() / 36
        inside = strip[1:-1, 1:-1]
        count = both.shape[1] // 16 * 16
        blocks = both[:, :count].reshape(16, -1, 16).mean((0, 2))
        level = inside[:, :count].reshape(16, -1, 16).mean((0, 2))
        variances.append(blocks[(level > 0.03) & (level < 0.97)])  # where nothing is clipped
    found = torch.cat(variances)
    return 255 * float(found.quantile(0.1).sqrt()) * 1.05 if len(found) else 0.0


def find_blurry(measure: BlurMeasure, height: int, width: int) -> Tensor:
    """How much of each pixel is to be restored because it moved.

    Returns:
        (height, width), float32, 0 to 1, soft; windows without detail take after those around them. All 0 where
        there is no motion to be taken away.
    """
    if not measure.is_moved:
        return torch.zeros(height, width)
    return _spread_map(measure.places, measure.places.kinds[..., 1], height, width)


def find_wanted(measure: BlurMeasure, height: int, width: int) -> Tensor:
    """How much of each pixel is to be restored, so that what a lens made soft on purpose stays soft.

    Where there is detail down to the pixel, the networks do no harm. What has none is kept if it was read as out of
    focus beside something that is in focus; what moved, or cannot be told, is restored.

    Returns:
        (height, width), float32, 0 to 1, soft.
    """
    if measure.verdict not in ("sharp", "partly") or float(measure.focus.mean()) < _SOME_FOCUS:
        return torch.ones(height, width)
    unfocused = _spread_map(measure.soft, measure.soft.kinds[..., 2], height, width)
    return torch.maximum(_enlarge(measure.focus, height, width), 1 - unfocused)


def find_focus(luma: Tensor, noise: float) -> Tensor:
    """(rows, columns) of blocks of 16 pixels, 0 to 1: where there is detail down to the pixel.

    By the energy of Haar's wavelets: those of 2 pixels against those of 4 to 16.
    """
    height, width = luma.shape
    plane = functional.pad(luma[None, None], (0, -width % _BLOCK, 0, -height % _BLOCK), mode="replicate")
    energies: list[Tensor] = []
    for step in range(5):
        energies.append(functional.avg_pool2d(plane.square(), _BLOCK >> step))
        plane = functional.avg_pool2d(plane, 2)
    fine, wide = energies[0] - energies[1], energies[1] - energies[4]
    grain = 0.75 * (max(noise, _LEAST_GRAIN) / 255) ** 2
    share = (fine - 1.5 * grain).clamp_min(0) / (wide.clamp_min(0) + _DIM**2)
    focus = ((share - _SOFT) / (_CRISP - _SOFT)).clamp(0, 1)
    closed = -functional.max_pool2d(-functional.max_pool2d(focus, 3, stride=1, padding=1), 3, stride=1, padding=1)
    return closed[0, 0]  # without the holes of smooth places in a subject


def _fade_sharp(luma: Tensor, focus: Tensor) -> Tensor:
    """(H, W): what is left of a photo without its sharp places, around its local mean; for reading the rest."""
    height, width = luma.shape
    keep = (1 - functional.max_pool2d(focus[None, None], 5, stride=1, padding=2))[0, 0]
    keep = _enlarge(keep, height, width)
    blocks = functional.adaptive_avg_pool2d(torch.stack((luma * keep, keep))[None], (focus.shape[0], focus.shape[1]))
    wide = functional.avg_pool2d(blocks, 5, stride=1, padding=2, count_include_pad=False)[0]
    return (luma - _enlarge(wide[0] / wide[1].clamp_min(1e-3), height, width)) * keep


def _reduce(luma: Tensor) -> Tensor:
    """The photo halved until it is no larger than what soft places are read at."""
    while luma.numel() > _MOST_PIXELS:
        luma = functional.avg_pool2d(luma[None, None], 2)[0, 0]
    return luma


def _enlarge(grid: Tensor, height: int, width: int) -> Tensor:
    return functional.interpolate(grid[None, None], size=(height, width), mode="bilinear", align_corners=False)[0, 0]


def _spread_map(places: BlurMap, values: Tensor, height: int, width: int) -> Tensor:
    """(height, width), 0 to 1, soft: a value of each window; those without detail take after those around them."""
    known = places.detail.float()
    mean = functional.avg_pool2d
    for _ in range(8):  # in ever wider circles
        near = mean(functional.pad((values * known)[None, None], (1, 1, 1, 1)), 3, stride=1)[0, 0]
        counted = mean(functional.pad(known[None, None], (1, 1, 1, 1)), 3, stride=1)[0, 0]
        values = torch.where(known > 0, values, near / counted.clamp_min(1e-6))
        known = torch.where(known > 0, known, (counted > 0).float())
    values = ((values * known - 0.25) / 0.5).clamp(0, 1)
    rows, columns = (
        _weigh(starts, side, places.side, length)
        for starts, side, length in zip((places.tops, places.lefts), places.size, (height, width), strict=True)
    )
    return rows.T @ values @ columns


def _weigh(starts: tuple[int, ...], whole: int, side: int, length: int) -> Tensor:
    """(windows, length): how much each window of a row says of each pixel, by the distance to its middle; sums to 1.

    Args:
        whole: pixels of the row that the windows lie on, which may be a reduced photo.
    """
    middle = torch.tensor([start + min(side, whole) / 2 for start in starts]) * (length / whole)
    place = torch.arange(length) + 0.5
    step = ((starts[1] - starts[0]) if len(starts) > 1 else side) * (length / whole)
    closeness = (1 - (place - middle[:, None]).abs() / step).clamp_min(0)
    closeness[0, place < middle[0]] = 1
    closeness[-1, place > middle[-1]] = 1
    return closeness / closeness.sum(0).clamp_min(1e-6)


def _read_map(luma: Tensor) -> tuple[BlurMap, Tensor]:
    """What each window is read as by itself, and its power, (n, RINGS, ANGLES)."""
    height, width = luma.shape
    tops, lefts = (_starts(length, luma.numel()) for length in luma.shape)
    power = torch.cat([polar_spectra(some) for some in _windows(luma, tops, lefts)])
    detail = has_detail(power) & (min(height, width) >= LEAST_SIDE)
    shape = (len(tops), len(lefts))
    return BlurMap((height, width), tops, lefts, SIDE, _read_each(power).view(*shape, 3), detail.view(shape)), power


def _starts(length: int, pixels: int) -> tuple[int, ...]:
    """Windows lie the closer the smaller the photo is."""
    stride = SIDE if pixels > 5_000_000 else SIDE // 2 if pixels > 700_000 else SIDE // 4
    if length <= SIDE:
        return (0,)
    count = math.ceil((length - SIDE) / stride)
    return tuple(round(index * (length - SIDE) / count) for index in range(count + 1))


def _windows(luma: Tensor, tops: tuple[int, ...], lefts: tuple[int, ...]) -> Iterator[Tensor]:
    """Some windows at a time, (n, h, w), row by row."""
    places = [(top, left) for top in tops for left in lefts]
    for first in range(0, len(places), _AT_ONCE):
        yield torch.stack([luma[t : t + SIDE, x : x + SIDE] for t, x in places[first : first + _AT_ONCE]])


def has_detail(power: Tensor) -> Tensor:
    """(n,): whether there is more in a window than a slope and noise, which is as strong in every ring."""
    rings = power.mean(2)  # (n, RINGS)
    floor = rings[:, :3].mean(1, keepdim=True)
    area = ring_frequencies().square() * (2 ** (1 / 6) - 2 ** (-1 / 6)) * math.pi  # of a ring, Nyquist being 0.5
    signal = ((rings - floor).clamp_min(0) * area)[:, :-4].sum(1)
    return signal.sqrt() > _FAINT


def _read_each(power: Tensor) -> Tensor:
    """(n, 3): how likely each window is sharp, moved and out of focus."""
    logits = [
        read_blur(torch.stack([describe_windows(one[None]) for one in some]), _coefficients()).kinds
        for some in torch.split(power, _AT_ONCE)
    ]
    return torch.cat(logits).softmax(1)


def _read_motion(luma: Tensor, power: Tensor, moved: Tensor) -> _Motion:
    """What has moved, all windows of it together, at three sizes; the surer a length is, the more it counts.

    A window of a smaller photo holds more of a long motion.
    """
    motions = [_read_together(power, moved)]
    for scale in _SCALES:
        luma = functional.avg_pool2d(luma[None, None], 2)[0, 0]
        if min(luma.shape) < SIDE:
            break
        tops, lefts = (_starts(side, luma.numel()) for side in luma.shape)
        power = torch.cat([polar_spectra(some) for some in _windows(luma, tops, lefts)])
        power = power[has_detail(power)]
        if not len(power):
            break
        coarse = _read_together(power, _read_each(power)[:, 1])
        motions.append(replace(coarse, length=coarse.length * scale))
    weights = [math.exp(-2 * motion.doubt) for motion in motions]
    logs = [math.log(motion.length) for motion in motions]
    length = math.exp(sum(map(math.prod, zip(weights, logs, strict=True))) / sum(weights))
    return replace(motions[0 if length <= _LONG else -1], length=length)


def _read_together(power: Tensor, moved: Tensor) -> _Motion:
    """The motion of those windows that have likely moved, or of the half that has most likely.

    Args:
        moved: (n,), how likely each window has moved.
    """
    chosen = moved >= moved.quantile(0.5).clamp(max=0.5)
    reading = read_blur(describe_windows(power[chosen])[None], _coefficients())
    shares = reading.directions[0].softmax(0)
    angles = torch.arange(ANGLES) * math.pi / ANGLES
    x, y = float((shares * (2 * angles).cos()).sum()), float((shares * (2 * angles).sin()).sum())
    direction = math.degrees(math.atan2(y, x) / 2) % 180
    is_sharp = bool(reading.kinds[0].argmax() == 0)
    length, doubt = float(reading.spreads[0].exp()), float(reading.doubts[0])
    return _Motion(length, direction, math.hypot(x, y), doubt, is_sharp)


def _judge(shares: tuple[float, float, float], soft: BlurMap, focus: float) -> Verdict:
    """The verdict, of the windows as they are, of their soft places alone, and of the share that is in focus."""
    sharp, moved, unfocused = shares
    readable = soft.kinds[soft.detail]
    if focus >= _SOME_FOCUS and len(readable) and float(readable[:, 2].mean()) >= _MOST:
        return "sharp"  # with a background out of focus, which beside something sharp may look moved
    if moved >= _MOST:
        return "motion"
    if sharp >= _SUBJECT:
        return "partly" if moved >= _SOME else "sharp"
    return "motion" if moved >= unfocused else "defocus"


def _find_resolution(power: Tensor) -> float:
    """Share of the resolution that holds detail, at the sharpest tenth of the windows.

    The contrast of a scene is alike in every octave; where it has fallen to half of what it is in the coarsest one,
    detail ends.
    """
    rings = power.mean(2)
    noise = rings[:, :2].amin(1, keepdim=True)
    frequencies = ring_frequencies()
    contrast = ((rings - noise).clamp_min(0) * frequencies.square()).sqrt()
    coarse = contrast[:, RINGS - 10 :].mean(1, keepdim=True)
    held = (contrast > 0.5 * coarse).float()
    finest = torch.where(held.cumsum(1) >= 1, frequencies, torch.zeros_like(frequencies)).amax(1) * 2
    return min(1.0, float(finest.quantile(0.9)))


@lru_cache(maxsize=1)
def _coefficients() -> Mapping[str, Tensor]:
    return {name: value.float() for name, value in load_file(_COEFFICIENTS).items()}

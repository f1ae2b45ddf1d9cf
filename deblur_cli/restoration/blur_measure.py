"""How blurred a photo is, by what, and where: kind, direction, length, sharpness and noise. Knows no files but its own.

The photo is looked at through windows of 256 pixels. Each is read by itself, which makes the map; those that moved
are then read together, which makes direction and length. What is long beside a window is read again at half the size.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
_LONG = 45.0  # pixels: a longer blur is read at half the size, where a window holds more of it
_FAINT = 2.0 / 255  # standard deviation of detail below which a window is empty
_BLOCK = 16  # pixels
_SOFT, _CRISP = 0.01, 0.04  # energy of detail of 1 to 3 pixels over that of 3 to 13: below out of focus, above in it
_LEAST_GRAIN = 1.0  # of 255: JPEG hides noise in the smoothest places, where it is measured, and not beside edges
_DIM = 2.0 / 255  # detail of 3 to 13 pixels that is fainter says nothing
_AT_ONCE = 64  # windows
_MOST = 0.5  # share of the windows with detail from which on a photo is blurred
_SOME = 0.2  # share from which on a part of it is
_SUBJECT = 0.25  # share of sharp windows that makes a photo sharp: the rest is out of focus on purpose


@dataclass(frozen=True, slots=True, eq=False)
class BlurMap:
    """What was read at each window of a photo.

    Attributes:
        tops, lefts: (rows,) and (columns,), first pixels of the windows.
        side: their height and width at most.
        kinds: (rows, columns, 3), how likely sharp, moved and out of focus; sums to 1.
        detail: (rows, columns), whether there is enough detail to say.
    """

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
        length: of the motion in pixels of the photo, the diagonal of the box around its path; 0 without one.
        direction: of the motion in degrees, 0 to 180: 0 to the side, 90 up and down, 45 to the upper right.
        clear: how clearly it has one direction, 0 to 1.
        sharpness: share of the photo's resolution that holds detail, 0 to 1, at its sharpest places; 0.25 loses
            nothing when it is reduced to a quarter.
        noise: standard deviation of brightness in the smoothest places, of 255.
        shares: of the windows with detail that are sharp, moved and out of focus; they sum to 1, or are all 0.
        places: the same window by window.
    """

    verdict: Verdict
    length: float
    direction: float
    clear: float
    sharpness: float
    noise: float
    shares: tuple[float, float, float]
    places: BlurMap

    @property
    def is_moved(self) -> bool:
        """Whether there is motion to be taken away."""
        return self.verdict in ("motion", "partly")


def measure_blur(pixels: Pixels) -> BlurMeasure:
    """How blurred a photo is.

    Args:
        pixels: (H, W, 3), uint8 or uint16, sRGB-encoded or in the photo's own profile.
    Returns:
        The measure; verdict "empty" for photos with a side below `LEAST_SIDE`, too.
    """
    luma = to_luma(pixels)
    noise = estimate_noise(luma)
    tops, lefts = (_starts(length, luma.numel()) for length in luma.shape)
    power = torch.cat([polar_spectra(some) for some in _windows(luma, tops, lefts)])  # (n, RINGS, ANGLES)
    detail = _has_detail(power) & (min(luma.shape) >= LEAST_SIDE)
    kinds = _read_each(power)
    shape = (len(tops), len(lefts))
    places = BlurMap(tops, lefts, SIDE, kinds.view(*shape, 3), detail.view(shape))
    if not bool(detail.any()):
        return BlurMeasure("empty", 0.0, 0.0, 0.0, 0.0, noise, (0.0, 0.0, 0.0), places)
    sharp, moved, unfocused = kinds[detail].mean(0).tolist()
    verdict = _judge(sharp, moved, unfocused)
    length, direction, clear = 0.0, 0.0, 0.0
    if verdict in ("motion", "partly"):
        length, direction, clear = _read_motion(luma, power[detail], kinds[detail, 1])
    sharpness = _find_resolution(power[detail])
    return BlurMeasure(verdict, length, direction, clear, sharpness, noise, (sharp, moved, unfocused), places)


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
        (height, width), float32, 0 to 1, soft; windows without detail take after those around them.
    """
    places = measure.places
    moved, known = places.kinds[..., 1], places.detail.float()
    wide = functional.avg_pool2d
    for _ in range(8):  # what has no detail asks its neighbours, in ever wider circles
        near = wide(functional.pad((moved * known)[None, None], (1, 1, 1, 1)), 3, stride=1)[0, 0]
        counted = wide(functional.pad(known[None, None], (1, 1, 1, 1)), 3, stride=1)[0, 0]
        moved = torch.where(known > 0, moved, near / counted.clamp_min(1e-6))
        known = torch.where(known > 0, known, (counted > 0).float())
    moved = ((moved * known - 0.25) / 0.5).clamp(0, 1)
    rows, columns = (
        _weigh(starts, places.side, length) for starts, length in ((places.tops, height), (places.lefts, width))
    )
    return rows.T @ moved @ columns


def find_wanted(pixels: Pixels) -> Tensor | None:
    """How much of each pixel is to be restored, so that the soft background of a sharp photo stays soft.

    Of a photo that is sharp, what has no detail down to the pixel is soft on purpose, unless it moved. Whatever moved
    as a whole is wanted as a whole.

    Args:
        pixels: as for `measure_blur`.
    Returns:
        (H, W), float32, 0 to 1, soft; None where all of it is wanted.
    """
    measure = measure_blur(pixels)
    if measure.verdict != "sharp":
        return None
    return torch.maximum(_find_focus(to_luma(pixels), measure.noise), find_blurry(measure, *pixels.shape[:2]))


def _find_focus(luma: Tensor, noise: float) -> Tensor:
    """(H, W), 0 to 1: where there is detail down to the pixel, in blocks of 16 pixels and around them."""
    plane = functional.pad(luma[None, None], (6, 6, 6, 6), mode="reflect")
    near = functional.avg_pool2d(plane, 3, stride=1)
    far = functional.avg_pool2d(plane, 13, stride=1)[0, 0]
    fine, wide = luma - near[0, 0, 5:-5, 5:-5], near[0, 0, 5:-5, 5:-5] - far
    fine, wide = (
        functional.avg_pool2d(band.square()[None, None], _BLOCK, ceil_mode=True, count_include_pad=False)
        for band in (fine, wide)
    )
    grain = (max(noise, _LEAST_GRAIN) / 255) ** 2
    share = (fine - 1.5 * grain).clamp_min(0) / (wide + _DIM**2)
    focus = ((share - _SOFT) / (_CRISP - _SOFT)).clamp(0, 1)
    focus = functional.avg_pool2d(functional.max_pool2d(focus, 3, stride=1, padding=1), 3, 1, 1, count_include_pad=False)
    size = (focus.shape[2] * _BLOCK, focus.shape[3] * _BLOCK)
    whole = functional.interpolate(focus, size=size, mode="bilinear", align_corners=False)[0, 0]
    return whole[: luma.shape[0], : luma.shape[1]]


def _weigh(starts: tuple[int, ...], side: int, length: int) -> Tensor:
    """(windows, length): how much each window of a row says of each pixel, by the distance to its middle; sums to 1."""
    middle = torch.tensor([start + min(side, length) / 2 for start in starts])
    place = torch.arange(length) + 0.5
    step = (starts[1] - starts[0]) if len(starts) > 1 else side
    closeness = (1 - (place - middle[:, None]).abs() / step).clamp_min(0)
    closeness[0, place < middle[0]] = 1
    closeness[-1, place > middle[-1]] = 1
    return closeness / closeness.sum(0).clamp_min(1e-6)


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


def _has_detail(power: Tensor) -> Tensor:
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
        for some in power.split(_AT_ONCE)
    ]
    return torch.cat(logits).softmax(1)


def _read_motion(luma: Tensor, power: Tensor, moved: Tensor) -> tuple[float, float, float]:
    """Length, direction in degrees and its clearness of what has moved, all windows of it together."""
    chosen = moved >= torch.minimum(moved.quantile(0.5), torch.tensor(0.5))
    length, direction, clear = _read_together(power[chosen])
    scale = 1
    while length > _LONG * scale and min(luma.shape) >= 2 * SIDE:
        luma, scale = functional.avg_pool2d(luma[None, None], 2)[0, 0], 2 * scale
        tops, lefts = (_starts(side, luma.numel()) for side in luma.shape)
        power = torch.cat([polar_spectra(some) for some in _windows(luma, tops, lefts)])
        power = power[_has_detail(power)]
        if not len(power):
            break
        moved = _read_each(power)[:, 1]
        coarse, direction, clear = _read_together(power[moved >= torch.minimum(moved.quantile(0.5), torch.tensor(0.5))])
        length = coarse * scale
    return length, direction, clear


def _read_together(power: Tensor) -> tuple[float, float, float]:
    reading = read_blur(describe_windows(power)[None], _coefficients())
    shares = reading.directions[0].softmax(0)
    angles = torch.arange(ANGLES) * math.pi / ANGLES
    x, y = float((shares * (2 * angles).cos()).sum()), float((shares * (2 * angles).sin()).sum())
    direction = math.degrees(math.atan2(y, x) / 2) % 180
    return float(reading.lengths[0].exp()), direction, math.hypot(x, y)


def _judge(sharp: float, moved: float, unfocused: float) -> Verdict:
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

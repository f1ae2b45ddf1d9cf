"""How blurred a photo is, by what, and where: kind, direction, length, sharpness and noise. Knows no files.

The photo is looked at through windows of 256 pixels. Each is read by itself, which makes the map; those that moved
are then read together, which makes direction and length; length is read at half and at a quarter of the size, too.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli.restoration.blur_reader import describe_windows, read_blur
from deblur_cli.restoration.blur_spectrum import ANGLES, RINGS, SIDE, polar_spectra, ring_frequencies
from deblur_cli.restoration.blur_windows import (
    BlurMap,
    cut_windows,
    has_detail,
    load_coefficients,
    read_each,
    read_map,
    start_places,
)
from deblur_cli.restoration.focus import SOME_FOCUS, fade_sharp, find_focus
from deblur_cli.restoration.watch import Pixels

Verdict = Literal["sharp", "motion", "partly", "defocus", "empty"]

_SHORT = 5.0  # pixels: a shorter motion cannot be told from a photo that is a little soft
_LONG = 80.0  # pixels: the direction of a longer one is read at the smallest size
_SCALES = (2, 4)  # at which motion is read besides the full size
_MOST_PIXELS = 8_000_000  # that soft places are read at
_MOST = 0.5  # share of the windows with detail from which on a photo is blurred
_SOME = 0.2  # share from which on a part of it is
_SUBJECT = 0.25  # share of sharp windows that makes a photo sharp: the rest is out of focus on purpose


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
        unfocused: how likely a lens has done it to what is not in focus, read together, rather than motion, 0 to 1.
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
    unfocused: float
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
        The measure; verdict "empty" for photos with a side below `blur_windows.LEAST_SIDE`, too.
    """
    luma = to_luma(pixels)
    noise = estimate_noise(luma)
    places, power = read_map(luma)
    detail, kinds = places.detail.flatten(), places.kinds.flatten(0, 1)
    if not bool(detail.any()):
        return BlurMeasure("empty", 0.0, 0.0, 0.0, 0.0, noise, (0.0, 0.0, 0.0), places, 0.0, torch.zeros(1, 1))
    focus = find_focus(luma, noise)
    soft, soft_power = read_map(fade_sharp(_reduce(luma), focus))
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
    unfocused = _read_unfocused(soft_power[soft.detail.flatten()])
    return BlurMeasure(verdict, *figures, shares, places, unfocused, focus)


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


def _reduce(luma: Tensor) -> Tensor:
    """The photo halved until it is no larger than what soft places are read at."""
    while luma.numel() > _MOST_PIXELS:
        luma = functional.avg_pool2d(luma[None, None], 2)[0, 0]
    return luma


def _read_unfocused(power: Tensor) -> float:
    """How likely windows have been out of focus rather than moved, read together; 0 without any.

    Together, because a window with edges of one direction looks the same either way.
    """
    if not len(power):
        return 0.0
    kinds = read_blur(describe_windows(power)[None], load_coefficients()).kinds[0]
    return float((kinds[2] - kinds[1]).sigmoid())


def _read_motion(luma: Tensor, power: Tensor, moved: Tensor) -> _Motion:
    """What has moved, all windows of it together, at three sizes; the surer a length is, the more it counts.

    A window of a smaller photo holds more of a long motion.
    """
    motions = [_read_together(power, moved)]
    for scale in _SCALES:
        luma = functional.avg_pool2d(luma[None, None], 2)[0, 0]
        if min(luma.shape) < SIDE:
            break
        tops, lefts = (start_places(side, luma.numel()) for side in luma.shape)
        power = torch.cat([polar_spectra(some) for some in cut_windows(luma, tops, lefts)])
        power = power[has_detail(power)]
        if not len(power):
            break
        coarse = _read_together(power, read_each(power)[:, 1])
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
    reading = read_blur(describe_windows(power[chosen])[None], load_coefficients())
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
    if focus >= SOME_FOCUS and len(readable) and float(readable[:, 2].mean()) >= _MOST:
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

"""Photos deconvolved window by window: each has blur kernels of its own, found blindly or from an estimate.

Knows tensors only; nothing here is learned. Deconvolution undoes what a convolution can explain, over any length, and
rings where it explains wrongly: which of the results is right, and where, is for others to tell. A hint is the misfit
of a kernel: what is left of the photo when its deconvolution is blurred again.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli.networks.deconvolution import convolve, deconvolve, taper
from deblur_cli.networks.kernel_estimation import KernelSearch, find_kernels

_FLAT = 16  # pixels at the border of a window that count only where there is no other
_AT_ONCE = 16  # windows: enough for all cores, few enough for the memory
_MOST = 0.15  # RMS change of a window: right ones of held-out photos were below 0.13, fences come back with 0.3


@dataclass(frozen=True, slots=True)
class Attempt:
    """A search for kernels, and the deconvolutions with what it finds.

    Attributes:
        ways: of deconvolving: the exponent from encoded values to light, and the strength of the penalty.
    """

    search: KernelSearch = field(default_factory=KernelSearch)
    ways: tuple[tuple[float, float], ...] = ((1.0, 0.03), (1.0, 0.1))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Attempt":
        """The attempt as JSON keeps it, lists for tuples; raises TypeError for an unknown key."""
        plain = dict(values)
        search, ways = KernelSearch.from_json(plain.pop("search")), plain.pop("ways")
        return cls(search, tuple((gamma, strength) for gamma, strength in ways), **plain)


@dataclass(frozen=True, slots=True)
class DeconvolutionConfig:
    """How a photo is deconvolved.

    Attributes:
        window, stride: in pixels, of the windows that have kernels of their own; half their difference is what a
            window sees beyond its own pixels on each side.
        attempts: all of them are made in each window.
    """

    window: int = 256
    stride: int = 192
    attempts: tuple[Attempt, ...] = field(default=(Attempt(),), metadata={"of": Attempt})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "DeconvolutionConfig":
        """The config as JSON keeps it; raises TypeError for an unknown key."""
        plain = dict(values)
        return cls(**plain | {"attempts": tuple(Attempt.from_json(attempt) for attempt in plain["attempts"])})

    @property
    def versions(self) -> int:
        """How many deconvolutions there are of each photo."""
        return sum(len(attempt.ways) for attempt in self.attempts)


@dataclass(frozen=True, slots=True)
class Deconvolutions:
    """What is found out about photos, float32.

    Attributes:
        versions: (B, config.versions, 3, H, W), [0, 1].
        misfits: (B, attempts, H, W), about [-0.1, 0.1]: luma that the first way of each attempt does not explain.
    """

    versions: Tensor
    misfits: Tensor

    def __getitem__(self, place: tuple[Any, ...]) -> "Deconvolutions":
        """A part of their height and width."""
        return Deconvolutions(self.versions[place], self.misfits[place])


class Deconvolver:
    """Deconvolves as a config says."""

    def __init__(self, config: DeconvolutionConfig) -> None:
        self.config = config

    @torch.no_grad()
    def deconvolve(self, blurry: Tensor, estimate: Tensor) -> Deconvolutions:
        """All versions of photos.

        Args:
            blurry: (B, 3, H, W), [0, 1]; H and W are multiples of the stride, on which the windows lie.
            estimate: the same photos, sharper, from which some searches begin.
        """
        side, stride = self.config.window, self.config.stride
        border = (side - stride) // 2
        both = torch.cat((blurry, estimate), 1).float()
        padded = functional.pad(both, (border, border, border, border), mode="replicate")
        channels = 3 * self.config.versions + len(self.config.attempts)
        merged = padded.new_zeros(len(blurry), channels, *padded.shape[-2:])
        total = padded.new_zeros(padded.shape[-2:])
        ramp = _ramp(side, stride, blurry.device)
        places = list(itertools.product(*(_lay_windows(blurry, axis, side, stride) for axis in (-2, -1))))
        for some in (places[i : i + _AT_ONCE] for i in range(0, len(places), _AT_ONCE)):
            windows = torch.cat([padded[..., row.seen, column.seen] for row, column in some])
            done = self.deconvolve_windows(*windows.chunk(2, 1))
            pieces = torch.split(torch.cat((done.versions.flatten(1, 2), done.misfits), 1), len(blurry))
            for (row, column), piece in zip(some, pieces, strict=True):
                weights = ramp[: row.length, None] * ramp[: column.length]
                merged[..., row.place, column.place] += piece[..., row.late :, column.late :] * weights
                total[row.place, column.place] += weights
        inner = (..., slice(border, -border), slice(border, -border))
        mean = merged[inner].div_(total[inner].clamp_min(1e-12))
        versions = mean[:, : 3 * self.config.versions].view(len(blurry), -1, 3, *blurry.shape[-2:])
        versions += (blurry * (total[inner] == 0))[:, None]  # where no window lies there is only its repeated border
        return Deconvolutions(versions, mean[:, 3 * self.config.versions :])

    @torch.no_grad()
    def deconvolve_windows(self, windows: Tensor, estimate: Tensor) -> Deconvolutions:
        """Twice (B, 3, h, w), kernels of their own for each; the borders of what comes are not to be used."""
        luma, sharper = (image.mean(1, keepdim=True) for image in (windows, estimate))
        pictures: list[Tensor] = []
        misfits: list[Tensor] = []
        for attempt in self.config.attempts:
            kernel = find_kernels(luma, attempt.search, sharper)
            for index, (gamma, strength) in enumerate(attempt.ways):
                light = taper(_to_light(windows, gamma), attempt.search.reach + 4)
                sharp = deconvolve(light, kernel, strength)
                pictures.append(self._refuse_failures(_to_encoded(sharp, gamma), windows))
                if index == 0:
                    misfits.append((light.mean(1, keepdim=True) - convolve(sharp.mean(1, keepdim=True), kernel))[:, 0])
        return Deconvolutions(torch.stack(pictures, 1), torch.stack(misfits, 1))

    def _refuse_failures(self, pictures: Tensor, windows: Tensor) -> Tensor:
        """(B, 3, h, w): windows that come back as something else altogether stay as they are."""
        border = (self.config.window - self.config.stride) // 2
        change = (pictures - windows)[..., border:-border, border:-border].square().flatten(1).mean(1).sqrt()
        return torch.where((change > _MOST)[:, None, None, None], windows, pictures)


def _to_light(image: Tensor, gamma: float) -> Tensor:
    return image if gamma == 1 else image.clamp(0, 1) ** gamma


def _to_encoded(light: Tensor, gamma: float) -> Tensor:
    return light.clamp(0, 1) if gamma == 1 else light.clamp(0, 1) ** (1 / gamma)


@dataclass(frozen=True, slots=True)
class _Window:
    """Where a window lies along one axis of a padded photo.

    Attributes:
        start: of the place where it counts, on the grid.
        late: pixels by which what it sees begins earlier than that.
        side: of what it sees.
    """

    start: int
    late: int
    side: int

    @property
    def seen(self) -> slice:
        return slice(self.start - self.late, self.start - self.late + self.side)

    @property
    def place(self) -> slice:
        return slice(self.start, self.start + self.length)

    @property
    def length(self) -> int:
        return self.side - self.late


def _lay_windows(blurry: Tensor, axis: int, side: int, stride: int) -> list[_Window]:
    """Windows along an axis, one every `stride`; the last moves back until it sees the photo instead of its padding."""
    length = blurry.shape[axis]
    furthest = max(0, length - _count_repeated(blurry, axis, stride - 1) - stride)
    return [_Window(start, max(0, start - furthest), side) for start in range(0, length, stride)]


def _count_repeated(blurry: Tensor, axis: int, most: int) -> int:
    """How many of the last rows or columns repeat the one before, up to `most`: so a photo is brought to the grid."""
    last = blurry.narrow(axis, blurry.shape[axis] - most - 1, most + 1)
    others = [other for other in range(blurry.ndim) if other != axis % blurry.ndim]
    same = last.diff(dim=axis).abs().amax(others) == 0  # (most,)
    return int(same.flip(0).cumprod(0).sum())


def _ramp(side: int, stride: int, device: torch.device) -> Tensor:
    """(side,): 1 inside, a straight fall where neighbours overlap; nearly nothing at the very border."""
    fall = max(1, side - stride - 2 * _FLAT)
    position = torch.arange(side, device=device) + 0.5
    return ((torch.minimum(position, side - position) - _FLAT) / fall).clamp(1e-3, 1)

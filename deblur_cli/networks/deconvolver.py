"""Photos deconvolved, window by window: each has blur kernels of its own, and is deconvolved in several ways.

Knows tensors only; nothing here is learned. Deconvolution undoes what a convolution can explain, over any length, and
rings where it explains wrongly: which of the results is right, and where, is for others to tell. Kernels are fitted
between a network's estimate and the photo, or searched blindly. A blind kernel says nothing about its place, and it is
rough: what it gives is moved to where the estimate has it, and the kernel fitted again between the mean of both and the
photo. A window whose blind kernel is not like the estimate's is the estimate's.
With each kernel the photo may be deconvolved, or the estimate corrected by what the kernel leaves unexplained of the
photo.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli.networks.deconvolution import convolve, deconvolve, deconvolve_tv, fade, taper
from deblur_cli.networks.kernel_estimation import KernelFit, KernelSearch, compare_kernels, find_kernels, match_kernels
from deblur_cli.networks.registration import register

_FLAT = 16  # pixels at the border of a window that count only where there is no other
_ROOM = 4  # pixels by which a kernel that is fitted again may reach further, for it is not centred
_FIRST = 0.001  # strength of the penalty on total variation for what such a kernel is fitted to
_AGAIN = KernelFit(slack=0.05)  # that is nearly free of blur, so noise has less to say than in the estimate
_AT_ONCE = 16  # windows: enough for all cores, few enough for the memory
_LEAST = 0.004  # RMS change of a window by the estimate, beneath which there is no blur to search
_MOST = 0.15  # RMS change of a window; a fence, where kernels of many peaks are found, comes back with 0.5
_RAMP = 0.02  # on each side of where half of an answer counts
_STILL = 0.01  # of an answer that counts is none
_NOTHING = 1e-6  # RMS that is left unexplained

_Way = Callable[[Tensor, Tensor, Tensor], Tensor]  # photos, estimates and kernels -> pictures


@dataclass(frozen=True, slots=True)
class DeconvolutionConfig:
    """How a photo is deconvolved.

    Attributes:
        window, stride: in pixels, of the windows that have kernels of their own; half their difference is what a
            window sees beyond its own pixels on each side.
        short, long: how kernels are searched, once for short and once for long blur.
        of_short, of_long: the deconvolutions with each: exponent from encoded values to the light in which the kernel
            is searched and the photo deconvolved, strength of the penalty on total variation.
        corrections: of the estimate with each: exponent as above, strength of a quadratic penalty.
        agreement: between a blind kernel and the one that leads from the estimate to the photo, from which on it is
            believed; see `compare_kernels`.
        rivalry: how much worse light may explain a window than the light that does it best, and be searched as well.
        fit: how the kernel that leads from the estimate to the photo is fitted.
        of_estimate: the corrections of the estimate with it, as above.
    """

    window: int = 256
    stride: int = 192
    short: KernelSearch = field(default_factory=KernelSearch)
    long: KernelSearch = field(default_factory=KernelSearch)
    of_short: tuple[tuple[float, float], ...] = ((1.0, 0.0005), (2.2, 0.0005))
    of_long: tuple[tuple[float, float], ...] = ((1.0, 0.0005), (2.2, 0.0005))
    corrections: tuple[tuple[float, float], ...] = ()
    agreement: float = 0.65
    rivalry: float = 1.12
    fit: KernelFit = field(default_factory=KernelFit)
    of_estimate: tuple[tuple[float, float], ...] = ()

    @property
    def border(self) -> int:
        """Pixels on each side of a window beyond its own."""
        return (self.window - self.stride) // 2

    @property
    def gammas(self) -> tuple[float, ...]:
        """Exponents from encoded values to light, each once."""
        wanted = (*self.of_short, *self.of_long, *self.corrections, *self.of_estimate)
        return tuple(dict.fromkeys(gamma for gamma, _ in wanted))

    @property
    def names(self) -> tuple[str, ...]:
        """What each deconvolution of a photo is, in their order."""
        kinds = {
            "short": self.of_short,
            "short corrected": self.corrections,
            "long": self.of_long,
            "long corrected": self.corrections,
            "corrected": self.of_estimate,
        }
        return tuple(f"{kind}, {gamma}, {strength}" for kind, some in kinds.items() for gamma, strength in some)

    @property
    def versions(self) -> int:
        """How many there are."""
        return len(self.names)


class BlindKernels:
    """Of some windows of photos, each searched when it is first wanted: it depends on the photo alone, so whoever
    deconvolves a photo again with a better estimate hands the same object on."""

    def __init__(self) -> None:
        self._parts: defaultdict[tuple[int, int], BlindKernels] = defaultdict(BlindKernels)
        self._known: dict[tuple[int, float, int], Tensor] = {}  # of a window in a light and within a reach

    def part(self, photo: int, window: int) -> "BlindKernels":
        """Of the windows of a photo from this one on."""
        return self._parts[photo, window]

    def find(self, light: Tensor, windows: Tensor, gamma: float, search: KernelSearch) -> Tensor:
        """(n, K, K) of n windows by their numbers, whose luminance is (n, 1, h, w) in the light of `gamma`."""
        keys = [(window, gamma, search.reach) for window in windows.tolist()]
        if new := [place for place, key in enumerate(keys) if key not in self._known]:
            self._known.update(zip([keys[place] for place in new], find_kernels(light[new], search), strict=True))
        size = 2 * search.reach + 1
        return torch.stack([self._known[key] for key in keys]) if keys else light.new_zeros(0, size, size)


class Deconvolver:
    """Deconvolves as a config says."""

    def __init__(self, config: DeconvolutionConfig) -> None:
        self.config = config

    @torch.no_grad()
    def deconvolve(
        self, blurry: Tensor, estimate: Tensor, changed: Tensor | None = None, *, blind: BlindKernels | None = None
    ) -> Tensor:
        """All versions of photos.

        Args:
            blurry: (B, 3, H, W), [0, 1]; a window begins every stride, the last ones where they end with the photo.
            estimate: of the same shape, what a network made of them.
            changed: (B, 1, H, W), 0 where the estimate is the same as before. A window that stayed the same in its
                middle is not deconvolved again: its estimate stands for all versions. None where all is new.
            blind: of an earlier call with the same photos; what is found besides is added.
        Returns:
            (B, versions, 3, H, W), float32, [0, 1].
        """
        blind = blind or BlindKernels()
        photos = self._stack_photos(changed, blurry.float(), estimate.float())
        return torch.stack([self._deconvolve_photo(one, partial(blind.part, at)) for at, one in enumerate(photos)])

    @torch.no_grad()
    def share(
        self, blurry: Tensor, before: Tensor, after: Tensor, changed: Tensor | None = None, *, progress: float
    ) -> Tensor:
        """(B, 1, H, W), [0, 1]: how much of what came of `before` counts, window by window; see `share_windows`."""

        def work(_: int, windows: Tensor) -> Tensor:
            changed, blurry, before, after = windows
            share = self.share_windows(blurry, before, after, changed, progress=progress)
            return share.expand(-1, 1, *windows.shape[-2:])

        photos = self._stack_photos(changed, blurry, before, after)
        return torch.stack([self._work_in_windows(one, work) for one in photos])

    def _stack_photos(self, changed: Tensor | None, *pictures: Tensor) -> Tensor:
        """(B, 1 + pictures, 3, H, W): all that is known of each photo."""
        first = torch.ones_like(pictures[0]) if changed is None else changed.expand_as(pictures[0])
        return torch.stack((first, *pictures), 1)

    def _deconvolve_photo(self, pictures: Tensor, find_blind: Callable[[int], BlindKernels]) -> Tensor:
        """(versions, 3, H, W) of (3, 3, H, W): where it changed, the photo, its estimate."""

        def work(first: int, windows: Tensor) -> Tensor:
            changed, blurry, estimate = windows
            return self.deconvolve_windows(blurry, estimate, changed, blind=find_blind(first))

        return self._work_in_windows(pictures, work)

    def _work_in_windows(self, pictures: Tensor, work: Callable[[int, Tensor], Tensor]) -> Tensor:
        """(..., H, W) of pictures (n, 3, H, W).

        Args:
            work: the number of the first of some windows, and the windows, (n, B, 3, h, w), -> (B, ..., h, w).
        """
        side, border, (height, width) = self.config.window, self.config.border, pictures.shape[-2:]
        missing = [max(0, side - length - 2 * border) for length in (width, height)]
        around = (border, border + missing[0], border, border + missing[1])
        padded = functional.pad(pictures, around, mode="replicate")
        merged, total = padded.new_zeros(()), padded.new_zeros(padded.shape[-2:])
        weights = _window_weights(side, self.config.stride, pictures.device)
        rows, columns = (self._begin(length) for length in (height, width))
        places = [(..., slice(top, top + side), slice(left, left + side)) for top in rows for left in columns]
        for first in range(0, len(places), _AT_ONCE):
            some = places[first : first + _AT_ONCE]
            pieces = work(first, torch.stack([padded[place] for place in some], 1)) * weights
            if first == 0:
                merged = padded.new_zeros(*pieces.shape[1:-2], *padded.shape[-2:])
            for place, piece in zip(some, pieces, strict=True):
                merged[place] += piece
                total[place] += weights
        inner = (..., slice(border, border + height), slice(border, border + width))
        return merged[inner] / total[inner]

    def _begin(self, length: int) -> list[int]:
        """Where windows begin along an axis of a photo with its borders: behind it there is no kernel to find."""
        last = max(0, length + 2 * self.config.border - self.config.window)
        return [min(start, last) for start in range(0, length, self.config.stride)]

    @torch.no_grad()
    def deconvolve_windows(
        self, blurry: Tensor, estimate: Tensor, changed: Tensor | None = None, *, blind: BlindKernels | None = None
    ) -> Tensor:
        """(B, 3, h, w) each, with kernels of their own -> (B, versions, 3, h, w); their borders are not to be used.

        Args:
            changed: (B, 1 or 3, h, w) or (B, 1, 1, 1), and `blind`: see `deconvolve`.
        """
        blind, chosen = blind or BlindKernels(), self._find_changed(blurry, changed)
        versions = estimate[:, None].repeat(1, self.config.versions, 1, 1, 1)
        chosen = chosen[self._change(estimate[chosen], blurry[chosen]) > _LEAST]
        if len(chosen):
            versions[chosen] = self._deconvolve_windows(blurry[chosen], estimate[chosen], chosen, blind)
        return versions

    @torch.no_grad()
    def share_windows(
        self, blurry: Tensor, before: Tensor, after: Tensor, changed: Tensor | None = None, *, progress: float
    ) -> Tensor:
        """(B, 1, 1, 1), [0, 1]: how much of what came of `before` counts, by how much better it explains the photo.

        Args:
            blurry, before, after: (B, 3, h, w) each.
            changed: see `deconvolve_windows`; nothing counts in a window that stayed the same.
            progress: share of what `before` leaves unexplained that `after` may leave so that half of it counts.
        """
        share, chosen = blurry.new_zeros(len(blurry)), self._find_changed(blurry, changed)
        if len(chosen):
            lights = [self._to_lights(blurry[chosen], sharp[chosen]) for sharp in (before, after)]
            left = [_find_least_left(self._explain_all(pair)) for pair in lights]
            ratio = left[1] / left[0].clamp_min(_NOTHING)
            share[chosen] = ((progress - ratio) / (2 * _RAMP) + 0.5).clamp(0, 1)
        return share[:, None, None, None]

    def _find_changed(self, blurry: Tensor, changed: Tensor | None) -> Tensor:
        """The numbers of the windows that are another than before in their middle, where neighbours have no say."""
        if changed is None:
            return torch.arange(len(blurry), device=blurry.device)
        middle = (slice(None), 0, blurry.shape[-2] // 2, blurry.shape[-1] // 2)
        return (changed.expand_as(blurry)[middle] > _STILL).nonzero()[:, 0]

    def _deconvolve_windows(self, blurry: Tensor, estimate: Tensor, windows: Tensor, blind: BlindKernels) -> Tensor:
        """(n, versions, 3, h, w) of n windows by their numbers, which are blurred."""
        config = self.config
        lights = self._to_lights(blurry, estimate)
        own = self._explain_all(lights)
        least = _find_least_left(own)
        likely = {gamma: (by.error <= config.rivalry * least).nonzero()[:, 0] for gamma, by in own.items()}
        pictures: list[Tensor] = []
        for search, wanted in ((config.short, config.of_short), (config.long, config.of_long)):
            found = {}
            for gamma in dict.fromkeys(gamma for gamma, _ in (*wanted, *config.corrections)):
                chosen, (light, sharp) = likely[gamma], lights[gamma]
                kernel = blind.find(light[chosen], windows[chosen], gamma, search)
                kept, kernel = self._judge(kernel, light[chosen], sharp[chosen])
                found[gamma] = chosen[kept], kernel
            for made, some in ((_deconvolve, wanted), (_correct, config.corrections)):
                for gamma, strength in some:
                    way = partial(made, gamma=gamma, strength=strength)
                    pictures.append(self._make(way, blurry, estimate, found[gamma]))
        for gamma, strength in config.of_estimate:
            way = partial(_correct, gamma=gamma, strength=strength)
            pictures.append(self._make(way, blurry, estimate, (likely[gamma], own[gamma].kernel[likely[gamma]])))
        return torch.stack(pictures, 1)

    def _to_lights(self, blurry: Tensor, sharp: Tensor) -> dict[float, tuple[Tensor, Tensor]]:
        """(B, 1, h, w) each: luminance in each light."""
        return {gamma: (_to_luminance(blurry, gamma), _to_luminance(sharp, gamma)) for gamma in self.config.gammas}

    def _explain_all(self, lights: Mapping[float, tuple[Tensor, Tensor]]) -> "dict[float, _Explanation]":
        return {gamma: _explain(*pair, gamma, self.config.fit) for gamma, pair in lights.items()}

    def _judge(self, kernel: Tensor, light: Tensor, sharp: Tensor) -> tuple[Tensor, Tensor]:
        """Which blind kernels the estimate bears out, (n,), and those that lead from where both agree to the photo,
        (n, K, K).

        Args:
            kernel: (B, k, k).
            light, sharp: (B, 1, h, w), luminance of photo and estimate.
        """
        kept, reach = torch.arange(len(light), device=light.device), kernel.shape[-1] // 2
        if not len(kept):
            return kept, kernel
        alike = compare_kernels(kernel, match_kernels(sharp, light, replace(self.config.fit, reach=reach)))
        kept = kept[alike > self.config.agreement]
        if not len(kept):
            return kept, kernel
        light, sharp, kernel = light[kept], sharp[kept], kernel[kept]
        first = deconvolve_tv(taper(light, reach + _ROOM), kernel, _FIRST)
        mean = (register(first, sharp, reach).clamp(0, 1) + sharp) / 2
        return kept, match_kernels(mean, light, replace(_AGAIN, reach=reach + _ROOM))

    def _make(self, way: _Way, blurry: Tensor, estimate: Tensor, found: tuple[Tensor, Tensor]) -> Tensor:
        """(B, 3, h, w): the estimate, and what is made with the kernels of the windows that have one."""
        chosen, kernel = found
        if not len(chosen):
            return estimate
        before = estimate[chosen]
        made = self._refuse_failures(way(blurry[chosen], before, kernel), before)
        return estimate.index_copy(0, chosen, made)

    def _refuse_failures(self, pictures: Tensor, before: Tensor) -> Tensor:
        """(B, 3, h, w): windows that come back as something else altogether stay as they are."""
        return torch.where((self._change(pictures, before) > _MOST)[:, None, None, None], before, pictures)

    def _change(self, pictures: Tensor, before: Tensor) -> Tensor:
        """(B,), RMS inside their borders."""
        inner = slice(self.config.border, -self.config.border)
        return (pictures - before)[..., inner, inner].square().flatten(1).mean(1).sqrt()


@dataclass(frozen=True, slots=True)
class _Explanation:
    """How sharp windows become photos.

    Attributes:
        kernel: (B, K, K), that leads from one to the other.
        error: (B,), RMS of what is then left of the photos, in encoded values.
    """

    kernel: Tensor
    error: Tensor


def _explain(light: Tensor, sharp: Tensor, gamma: float, fit: KernelFit) -> _Explanation:
    """Luminance, (B, 1, h, w) each."""
    kernel = match_kernels(sharp, light, fit)
    left = _to_encoded(convolve(sharp, kernel), gamma) - _to_encoded(light, gamma)
    left = left * _fade_out(light, kernel)
    return _Explanation(kernel, left.square().flatten(1).mean(1).sqrt())


def _find_least_left(by_light: Mapping[float, _Explanation]) -> Tensor:
    """(B,): the error in the light that explains a window best."""
    return torch.stack([by.error for by in by_light.values()]).amin(0)


def _deconvolve(blurry: Tensor, estimate: Tensor, kernel: Tensor, gamma: float, strength: float) -> Tensor:
    """(B, 3, h, w): photos without what `kernel` did to them."""
    light = taper(_to_light(blurry, gamma), kernel.shape[-1] // 2 + _ROOM)
    return _to_encoded(deconvolve_tv(light, kernel, strength), gamma)


def _correct(blurry: Tensor, estimate: Tensor, kernel: Tensor, gamma: float, strength: float) -> Tensor:
    """(B, 3, h, w): estimates with the regularised inverse of what `kernel` leaves unexplained of their photos."""
    sharp = _to_light(estimate, gamma)
    rest = (_to_light(blurry, gamma) - convolve(sharp, kernel)) * _fade_out(blurry, kernel)
    return _to_encoded(sharp + deconvolve(rest, kernel, strength), gamma)


def _fade_out(picture: Tensor, kernel: Tensor) -> Tensor:
    """(h, w): 1 where a kernel sees no border."""
    reach = kernel.shape[-1] // 2 + _ROOM
    height, width = picture.shape[-2:]
    return fade(height, reach, picture.device)[:, None] * fade(width, reach, picture.device)


def _to_light(image: Tensor, gamma: float) -> Tensor:
    return image if gamma == 1 else image.clamp(0, 1) ** gamma


def _to_luminance(image: Tensor, gamma: float) -> Tensor:
    """(B, 1, h, w): the mean of its colours in light, where what moved adds up."""
    return _to_light(image, gamma).mean(1, keepdim=True)


def _to_encoded(light: Tensor, gamma: float) -> Tensor:
    return light.clamp(0, 1) if gamma == 1 else light.clamp(0, 1) ** (1 / gamma)


def _window_weights(side: int, stride: int, device: torch.device) -> Tensor:
    """(side, side): 1 inside, a straight fall where neighbours overlap; nearly nothing at the very border."""
    ramp = max(1, side - stride - 2 * _FLAT)
    position = torch.arange(side, device=device) + 0.5
    weights = ((torch.minimum(position, side - position) - _FLAT) / ramp).clamp(1e-3, 1)
    return weights[:, None] * weights

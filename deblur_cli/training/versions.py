"""The training pairs of a blend: patches with all versions of them, and with the misfits of their kernels."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from deblur_cli.networks.deconvolver import Deconvolver
from deblur_cli.networks.deconvolving_expert import stack_versions
from deblur_cli.training.datasets import Source
from deblur_cli.training.estimates import Expert

_GAIN = 4.0  # for misfits as 8-bit pictures


class VersionSource:
    """A source of pairs whose patches are the middles of windows: every version of the blurry one, and sharp."""

    def __init__(self, source: Source, expert: Expert, deconvolver: Deconvolver) -> None:
        self._source, self._expert, self._deconvolver = source, expert, deconvolver

    def draw(self, count: int, size: int) -> tuple[Tensor, ...]:
        """Times (count, 3, size, size), [0, 1]: all versions, misfits as pictures (see `to_pictures`), and sharp."""
        cut = self._deconvolver.config
        border = (cut.window - cut.stride) // 2
        blurry, sharp = self._source.draw(count, size + 2 * border)
        estimate = self._expert.estimate(blurry)
        deconvolved = self._deconvolver.deconvolve_windows(blurry, estimate)
        versions, misfits = stack_versions(blurry, estimate, deconvolved)
        inner = (..., slice(border, -border), slice(border, -border))
        return (*versions[inner].unbind(1), *to_pictures(misfits[inner]).unbind(1), sharp[inner])


def to_pictures(misfits: Tensor) -> Tensor:
    """(B, N, H, W) -> (B, ceil(N / 3), 3, H, W), [0, 1]: three misfits a picture, grey where a kernel fits."""
    filled = functional.pad(misfits, (0, 0, 0, 0, 0, -misfits.shape[1] % 3))
    return (filled * _GAIN + 0.5).clamp(0, 1).view(len(misfits), -1, 3, *misfits.shape[-2:])


def from_pictures(pictures: Tensor, count: int) -> Tensor:
    """`to_pictures` undone: (B, ceil(count / 3), 3, H, W) -> (B, count, H, W), cut at ±1/8."""
    return (pictures.flatten(1, 2)[:, :count] - 0.5) / _GAIN


def with_versions(
    sources: Sequence[tuple[float, Source]], expert: Expert, deconvolver: Deconvolver
) -> list[tuple[float, Source]]:
    """The same shares, with all versions."""
    return [(share, VersionSource(source, expert, deconvolver)) for share, source in sources]

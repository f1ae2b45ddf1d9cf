"""The training pairs of a blend: patches with all versions of them."""

from collections.abc import Sequence

from torch import Tensor

from deblur_cli.networks.blended_expert import stack_versions
from deblur_cli.networks.deconvolver import Deconvolver
from deblur_cli.training.estimates import Estimator
from deblur_cli.training.sources import Source


class VersionSource:
    """A source of pairs whose patches are the middles of windows: every version of the blurry one, and sharp."""

    def __init__(self, source: Source, expert: Estimator, deconvolver: Deconvolver) -> None:
        self._source, self._expert, self._deconvolver = source, expert, deconvolver

    def draw(self, count: int, size: int) -> tuple[Tensor, ...]:
        """As many times (count, 3, size, size), [0, 1], as there are versions, and one more."""
        border = self._deconvolver.config.border
        blurry, sharp = self._source.draw(count, size + 2 * border)
        deconvolved = self._deconvolver.deconvolve_windows(blurry)
        versions = stack_versions(blurry, self._expert.estimate(blurry), deconvolved)
        inner = (..., slice(border, -border), slice(border, -border))
        return (*versions[inner].unbind(1), sharp[inner])


def with_versions(
    sources: Sequence[tuple[float, Source]], expert: Estimator, deconvolver: Deconvolver
) -> list[tuple[float, Source]]:
    """The same shares, with all versions."""
    return [(share, VersionSource(source, expert, deconvolver)) for share, source in sources]

"""The training pairs of an expert that deconvolves: patches with their deconvolutions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deblur_cli.networks.deconvolving_unet import DeconvolvingUNet
from deblur_cli.training.datasets import Source


class DeconvolvedSource:
    """A source of pairs whose patches are the middles of windows that were deconvolved: blurry, candidates, sharp."""

    def __init__(self, source: Source, network: DeconvolvingUNet) -> None:
        self._source, self._network = source, network

    def draw(self, count: int, size: int) -> tuple[Tensor, ...]:
        """As many times (count, 3, size, size), [0, 1], as the network sees pictures, and one more."""
        cut = self._network.config.deconvolution
        border = (cut.window - cut.stride) // 2
        blurry, sharp = self._source.draw(count, size + 2 * border)
        candidates = torch.split(self._network.deconvolve_windows(blurry), 3, 1)
        inner = (..., slice(border, -border), slice(border, -border))
        return tuple(image[inner] for image in (blurry, *candidates, sharp))


def with_candidates(sources: Sequence[tuple[float, Source]], network: DeconvolvingUNet) -> list[tuple[float, Source]]:
    """The same shares, with deconvolutions."""
    return [(share, DeconvolvedSource(source, network)) for share, source in sources]

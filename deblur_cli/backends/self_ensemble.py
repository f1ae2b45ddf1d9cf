"""An expert that is asked twice, and answers with the mean."""

import torch
from torch import Tensor, nn

from deblur_cli.restoration.contract import Backend, Cut


class SelfEnsemble:
    """The mean of an expert's answers to a photo and to its mirror image; see `Backend`.

    Source: Timofte, Rothe and Van Gool 2016, "Seven ways to improve example-based single image super resolution" (its
    "enhanced prediction"), with one of the eight images alone: turned by a quarter, what shook comes out elsewhere by
    part of a pixel (docs/experiments.md).
    """

    def __init__(self, expert: Backend) -> None:
        self.name, self.device, self.dtype = expert.name, expert.device, expert.dtype
        self._expert = expert

    @property
    def tiling(self) -> Cut:
        """See `Backend`."""
        return self._expert.tiling

    @property
    def module(self) -> nn.Module:
        """See `Backend`."""
        return self._expert.module

    @torch.inference_mode()
    def restore(self, blurry: Tensor) -> Tensor:
        """See `Backend.restore`."""
        mirrored = self._expert.restore(blurry.flip(-1)).flip(-1)
        return (self._expert.restore(blurry) + mirrored) / 2

"""A blend with deconvolutions, round after round: its answer is a better estimate, and leads to better kernels.

Knows tensors only. A kernel can be led astray by what it helped to make, so a further round counts only where it
explains the photo much better than the round before, and follows only where that one did so as well: what one kernel
moved comes back bit by bit, what moved in several ways stays as the first round has it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from deblur_cli.networks.deconvolver import BlindKernels, Deconvolver
from deblur_cli.networks.version_blend import ESTIMATE

_Mix = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Rounds:
    """What a round is made of.

    Attributes:
        mix: versions, (B, versions, 3, H, W), -> what the blend makes of them, (B, 3, H, W).
        deconvolve: photos and estimates, (B, 3, H, W) each, and perhaps where these changed, as `share` has it, ->
            their deconvolutions, (B, N, 3, H, W).
        share: photos, estimates, what came of them, and where the estimates changed, -> how much of what came of them
            counts, (B, 1, H, W) or (B, 1, 1, 1).
    """

    mix: _Mix
    deconvolve: Callable[..., Tensor]
    share: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

    @classmethod
    def of_photos(cls, mix: _Mix, deconvolver: Deconvolver, progress: float, blind: BlindKernels) -> "Rounds":
        """Of photos of any size, see `Deconvolver.deconvolve`."""
        share = partial(deconvolver.share, progress=progress)
        return cls(mix, partial(deconvolver.deconvolve, blind=blind), share)

    @classmethod
    def of_windows(cls, mix: _Mix, deconvolver: Deconvolver, progress: float, blind: BlindKernels) -> "Rounds":
        """Of windows with one kernel each, see `Deconvolver.deconvolve_windows`."""
        share = partial(deconvolver.share_windows, progress=progress)
        return cls(mix, partial(deconvolver.deconvolve_windows, blind=blind), share)

    @torch.no_grad()
    def run(self, versions: Tensor, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The versions of each round and its answer; fewer than `count` where a round explains nothing much better.

        Args:
            versions: of the first round, whose answer counts everywhere.
        """
        answer = self.mix(versions)
        yield versions, answer
        photo, before = versions[:, 0], versions[:, ESTIMATE]
        changed = torch.ones_like(answer[:, :1])
        if count > 1:
            changed = self.share(photo, before, answer, changed)
        for _ in range(count - 1):
            if not changed.any():
                return
            before = answer
            deconvolved = self.deconvolve(photo, before, changed)
            kept = versions[:, ESTIMATE + 1 : versions.shape[1] - deconvolved.shape[1]]
            versions = torch.cat((photo[:, None], before[:, None], kept, deconvolved), 1)
            after = self.mix(versions)
            changed = self.share(photo, before, after, changed)
            answer = torch.lerp(before, after, changed)
            yield versions, answer

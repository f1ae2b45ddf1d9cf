"""What a fidelity expert is, and what it needs of the photo that it is shown; each network states its own."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

FEATHER = 32  # width of the ramp on which neighbouring tiles are mixed


@dataclass(frozen=True, slots=True)
class Needs:
    """All sizes in pixels.

    Attributes:
        multiple_of: height and width must be multiples of this.
        context: what it must see around the pixels that count, so that a part of a photo comes out as in the whole.
        window: side of the pictures that it may be shown; None where any size will do.
        smallest_window: side of the picture that it is shown of a photo no larger than that.
        shared: what neighbouring windows of a network with such a side have in common at least.
        work: thousands of multiplications per pixel, which say how long it takes beside other networks.
        memory: bytes per pixel that it takes while it runs in float32 without gradients; of a network with such a
            side, whose windows threads of a CPU then take one by one.
        dtypes: number formats that are good enough for its weights.
    """

    multiple_of: int
    context: int
    window: int | None = None
    smallest_window: int = 0
    shared: int = 0
    work: float = 180.0
    memory: int = 0
    dtypes: tuple[str, ...] = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class Compiling:
    """What an engine that compiles networks must know of one; a network that states nothing runs in torch alone.

    Attributes:
        any_size: it is compiled once for all sizes of pictures; else once for each, and its memory laid out for it.
        pays: it was measured to be quicker than torch, with the same picture (docs/experiments.md).
    """

    any_size: bool = False
    pays: bool = True


def find_compiling(network: nn.Module) -> Compiling | None:
    """What a network states about being compiled; whoever loads one that states nothing knows whether it can be."""
    found = getattr(network, "compiling", None)
    return found if isinstance(found, Compiling) else None


class Expert(nn.Module):
    """A network that predicts what is missing in a blurred photo.

    Photos are (B, 3, H, W), sRGB-encoded, [0, 1] in and about [0, 1] out (not clipped); H and W are multiples of
    `config.needs.multiple_of`.

    Attributes:
        config: its shape, which states its `Needs` as `needs`.
        checkpointing: compute activations again on the way back, so that training takes less memory, if it can that.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config, self.checkpointing = config, False

    def forward(self, blurry: Tensor) -> Tensor:
        """The sharp estimate."""
        return blurry + self.predict_residual(blurry)

    def predict_residual(self, blurry: Tensor) -> Tensor:
        """(B, 3, H, W): what is missing in `blurry`, which may have any number format."""
        raise NotImplementedError

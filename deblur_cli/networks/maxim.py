"""MAXIM: a multi-stage U-Net of multi-axis gMLPs, from a blurred photo to a sharp one.

Knows tensors only. Each stage is a whole U-Net that ends in a picture of full size, so a network of the first stage, of
two or of all three is complete. The grid mixing depends on the size of the picture it is given: a network sees
windows of one size only, and another size is another network.

Source: Tu et al. 2022, "MAXIM: Multi-Axis MLP for Image Processing" (arXiv 2201.02973), variant S-3.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from deblur_cli.networks.maxim_blocks import (
    AttendedConvolutions,
    AttendedMlp,
    CrossGating,
    MultiAxisMixing,
    ResizedDense,
    apply_convolution,
    join,
)
from deblur_cli.networks.needs import Compiling, Expert, Needs

_LEVELS = 3  # of the U-Net above its bottom
_DEPTH = 2  # pairs of mixing and attention in every block
_SHARED = 32  # pixels that neighbouring windows have in common at least
_WORK = (615.0, 1370.0, 2130.0)  # thousands of multiplications per pixel, by stages
_MEMORY = 3500  # bytes per pixel, measured on one window of 384x384 in float32
_COARSE_FROM = 2  # the level from which on cells and blocks have half of the side


_Run = Callable[..., Any]  # how a block is called


@dataclass(frozen=True, slots=True)
class MaximConfig:
    """Shape of a `Maxim`; stored beside its weights.

    Attributes:
        stages: 1 to 3 of the published three.
        width: channels at full size; they double twice on the way down.
        side: of cells and blocks at the two finest levels, half of it below.
        window: side in pixels of the windows that it sees photos in.
    """

    stages: int = 1
    width: int = 32
    side: int = 16
    window: int = 384

    def __post_init__(self) -> None:
        if not 1 <= self.stages <= 3:
            raise ValueError(f"stages must be 1 to 3, not {self.stages}")
        if self.side < 2 or self.side % 2:
            raise ValueError(f"side must be even, not {self.side}")
        if self.window < self.multiple_of or self.window % self.multiple_of:
            raise ValueError(f"window must be a multiple of {self.multiple_of}, not {self.window}")

    @property
    def multiple_of(self) -> int:
        """Height and width must be multiples of this."""
        return 4 * self.side

    @property
    def needs(self) -> Needs:
        """Windows of one size: the grid's cells grow with the picture. It was trained on crops of 256 pixels."""
        return Needs(
            self.multiple_of,
            context=0,
            window=self.window,
            smallest_window=min(self.window, 16 * self.side),
            shared=min(_SHARED, self.window // 4),
            work=_WORK[self.stages - 1],
            memory=_MEMORY,
        )

    def width_at(self, level: int) -> int:
        """Channels at a level; the bottom has those of the level above it."""
        return self.width << min(level, _LEVELS - 1)

    def side_at(self, level: int) -> int:
        """Side of cells and blocks at a level."""
        return self.side if level < _COARSE_FROM else self.side // 2


class Maxim(Expert):
    """See `Expert`; the estimate is the picture of the last stage."""

    compiling = Compiling(pays=False)

    def __init__(self, config: MaximConfig) -> None:
        super().__init__(config)
        self.stages = nn.ModuleList(
            _Stage(config, is_first=index == 0, is_last=index == config.stages - 1) for index in range(config.stages)
        )

    def reshaped(self, config: MaximConfig) -> "Maxim":
        """The first stages of this network as one of their own, in windows of another size; shares its weights.

        Raises:
            ValueError: the other shape has more stages or other widths.
        """
        if config.stages > self.config.stages or (config.width, config.side) != (self.config.width, self.config.side):
            raise ValueError(f"{self.config} holds no {config}")
        other = Maxim(config)
        for mine, whole in zip(other.stages, self.stages[: config.stages], strict=True):
            for name, part in mine.named_children():
                assert isinstance(part, nn.ModuleList)
                setattr(mine, name, getattr(whole, name)[: len(part)])
        return other

    def predict_residual(self, blurry: Tensor) -> Tensor:
        """See `Expert`."""
        return self.predict_residuals(blurry)[-1]

    def predict_residuals(self, blurry: Tensor) -> list[Tensor]:
        """The same of every stage, the first stage's first."""
        image = blurry.permute(0, 2, 3, 1)
        images = [image, image[:, 1::2, 1::2], image[:, 2::4, 2::4]]
        residuals: list[Tensor] = []
        before: _Passed | None = None
        for stage in self.stages:
            residual, before = stage(images, before, self.checkpointing and self.training)
            residuals.append(residual.permute(0, 3, 1, 2))
        return residuals


@dataclass(frozen=True, slots=True)
class _Passed:
    """What a stage hands to the next, finest level first: features of its encoder, its decoder and its pictures."""

    encoded: Sequence[Tensor]
    decoded: Sequence[Tensor]
    attended: Sequence[Tensor]

    def at(self, level: int) -> Tensor:
        """Encoder and decoder features of a level together."""
        return self.encoded[level] + self.decoded[level]


class _Stage(nn.Module):
    """One U-Net: features in, skips that see each other, features out, pictures at three sizes."""

    def __init__(self, config: MaximConfig, *, is_first: bool, is_last: bool) -> None:
        super().__init__()
        widths = [config.width_at(level) for level in range(_LEVELS)]
        sides = [config.side_at(level) for level in range(_LEVELS)]
        self.inputs = nn.ModuleList(nn.Conv2d(3, width, 3, padding=1) for width in widths)
        self.fuse = nn.ModuleList() if is_first else _cross_gatings(widths, sides)
        self.encoders = nn.ModuleList(
            _Block((widths[max(level - 1, 0)] + widths[level]), widths[level], sides[level]) for level in range(_LEVELS)
        )
        self.encoder_gates = nn.ModuleList() if is_first else _cross_gatings(widths, sides)
        self.downs = nn.ModuleList(nn.Conv2d(width, width, 4, stride=2, padding=1) for width in widths)
        self.bottom = nn.ModuleList(_Bottom(config.width_at(_LEVELS), config.side_at(_LEVELS)) for _ in range(2))
        self.skip_resizes = _resizes(widths, range(_LEVELS))
        self.skip_gates = nn.ModuleList(
            CrossGating(_LEVELS * widths[level], widths[level], sides[level], config.width_at(level + 1))
            for level in range(_LEVELS)
        )
        self.decoder_resizes = _resizes(widths, range(_LEVELS - 1, -1, -1))
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(config.width_at(level + 1), widths[level], 2, stride=2) for level in range(_LEVELS)
        )
        self.decoders = nn.ModuleList(
            _Block((_LEVELS + 1) * widths[level], widths[level], sides[level]) for level in range(_LEVELS)
        )
        self.pictures = nn.ModuleList(nn.Conv2d(width, 3, 3, padding=1) for width in widths[: 1 if is_last else None])
        self.attend = nn.ModuleList() if is_last else nn.ModuleList(_PictureAttention(width) for width in widths)

    def forward(self, images: list[Tensor], before: _Passed | None, checkpointing: bool) -> tuple[Tensor, _Passed]:
        """The residual (B, H, W, 3), and what the next stage wants of this one."""
        run: _Run = partial(checkpoint, use_reentrant=False) if checkpointing else _run_once
        encoded, features = self._encode(images, before, run)
        for block in self.bottom:
            features = run(block, features)
        skips = self._gate_skips(encoded, features, run)
        decoded = self._decode(skips, features, run)
        residuals = [apply_convolution(picture, decoded[level]) for level, picture in enumerate(self.pictures)]
        attended = [
            attend(decoded[level], images[level] + residuals[level]) for level, attend in enumerate(self.attend)
        ]
        return residuals[0], _Passed(encoded, decoded, attended)

    def _encode(self, images: list[Tensor], before: _Passed | None, run: _Run) -> tuple[list[Tensor], Tensor]:
        """Features per level, finest first, and what goes to the bottom."""
        inputs = [_look(layer, image) for layer, image in zip(self.inputs, images, strict=True)]
        if before is not None:
            inputs = [
                run(fuse, [own], other)[0] for fuse, own, other in zip(self.fuse, inputs, before.attended, strict=True)
            ]
        features, encoded = inputs[0], []
        for level, block in enumerate(self.encoders):
            features = run(block, features, inputs[level])
            if before is not None:
                features = run(self.encoder_gates[level], [features], before.at(level))[0]
            encoded.append(features)
            features = apply_convolution(self.downs[level], features)
        return encoded, features

    def _gate_skips(self, encoded: list[Tensor], lowest: Tensor, run: _Run) -> list[Tensor]:
        """Finest level first; each looks at all levels of the encoder and at what the level below let through."""
        skips: list[Tensor] = []
        for level in reversed(range(_LEVELS)):
            seen = _bring(self.skip_resizes[level], encoded)
            skip, lowest = run(self.skip_gates[level], seen, lowest)
            skips.insert(0, skip)
        return skips

    def _decode(self, skips: list[Tensor], features: Tensor, run: _Run) -> list[Tensor]:
        """Features per level, finest first."""
        decoded: list[Tensor] = []
        for level in reversed(range(_LEVELS)):
            seen = _bring(self.decoder_resizes[level], skips[::-1])
            features = apply_convolution(self.ups[level], features)
            features = run(self.decoders[level], features, *seen)
            decoded.insert(0, features)
        return decoded


class _Block(nn.Module):
    """A dense layer, then mixing and attention in turn, plus what came out of the dense layer."""

    def __init__(self, inputs: int, width: int, side: int) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, width)
        self.mixings = nn.ModuleList(MultiAxisMixing(width, side) for _ in range(_DEPTH))
        self.attentions = nn.ModuleList(self._attention(width) for _ in range(_DEPTH))

    def _attention(self, width: int) -> nn.Module:
        return AttendedConvolutions(width)

    def forward(self, *parts: Tensor) -> Tensor:
        entered = join(self.enter, parts)
        features = entered
        for mixing, attention in zip(self.mixings, self.attentions, strict=True):
            features = attention(mixing(features))
        return features + entered


class _Bottom(_Block):
    """The same with dense layers for convolutions."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__(width, width, side)

    def _attention(self, width: int) -> nn.Module:
        return AttendedMlp(width)


class _PictureAttention(nn.Module):
    """Features for the next stage, weighed by the picture of this one (a supervised attention module)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.look = nn.Conv2d(3, width, 3, padding=1)

    def forward(self, features: Tensor, picture: Tensor) -> Tensor:
        return features + apply_convolution(self.conv, features) * _look(self.look, picture).sigmoid()


def _look(layer: nn.Module, picture: Tensor) -> Tensor:
    """Features of a picture in the network's number format, from its own: 8 bits of it cost 3 dB of agreement."""
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    weight, bias = layer.weight.to(picture.dtype), layer.bias.to(picture.dtype)
    planes = functional.conv2d(picture.permute(0, 3, 1, 2), weight, bias, padding=1)
    return planes.permute(0, 2, 3, 1).to(layer.weight.dtype)


def _cross_gatings(widths: list[int], sides: list[int]) -> nn.ModuleList:
    return nn.ModuleList(CrossGating(width, width, side) for width, side in zip(widths, sides, strict=True))


def _resizes(widths: list[int], sources: Sequence[int]) -> nn.ModuleList:
    """Target level -> one layer per source level, in the order of `sources`."""
    return nn.ModuleList(
        nn.ModuleList(ResizedDense(widths[source], widths[level], level - source) for source in sources)
        for level in range(len(widths))
    )


def _bring(resizes: nn.Module, levels: Sequence[Tensor]) -> list[Tensor]:
    """Features of all levels as one of them wants them."""
    assert isinstance(resizes, nn.ModuleList)
    return [resize(features) for resize, features in zip(resizes, levels, strict=True)]


def _run_once(block: nn.Module, *features: Any) -> Any:
    return block(*features)

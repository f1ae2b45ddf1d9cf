"""The r-space codec over a whole photo, tile by tile: as if it had seen the photo in one piece."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deblur_cli.backends.careful import Careful
from deblur_cli.backends.passes import Passes
from deblur_cli.checkpoint import limited_by, load_strict, read_metadata
from deblur_cli.errors import WeightsError
from deblur_cli.networks.residual_codec import STRIDE, ResidualCodec, ResidualCodecConfig
from deblur_cli.restoration.contract import Pixels
from deblur_cli.system.typed_tables import read_table

_SMALLEST = 8  # latents: a tile that cannot be smaller than its context still moves forward by so many


@dataclass(frozen=True, slots=True)
class CodecSource:
    """A photo to cut from, (H, W, 3): uint8 or uint16, or floats that stay as they are."""

    pixels: Pixels

    def cut(self, rows: slice, columns: slice) -> Tensor:
        """(3, h, w), float32, [0, 1], on the CPU; beyond the photo its border is repeated."""
        height, width = self.pixels.shape[:2]
        if min(rows.start, columns.start) >= 0 and rows.stop <= height and columns.stop <= width:
            window = self.pixels[rows, columns]
        else:
            window = self.pixels[_clamp(rows, height)[:, None], _clamp(columns, width)]
        top = float(np.iinfo(window.dtype).max) if window.dtype.kind == "u" else 1.0
        return torch.from_numpy(window.astype(np.float32)).div_(top).permute(2, 0, 1)


@dataclass(frozen=True, slots=True)
class Canvas:
    """The latents of a photo that counts as extended at the right and at the bottom."""

    height: int
    width: int


@dataclass(frozen=True, slots=True)
class _Span:
    """One tile along one axis, in latents: what is kept of it, and what the network must see for that."""

    kept: slice
    seen: slice

    @property
    def pixels(self) -> slice:
        """What is seen, in pixels."""
        return slice(self.seen.start * STRIDE, self.seen.stop * STRIDE)

    def inside(self, scale: int = 1) -> slice:
        """What is kept, counted from the first that is seen."""
        start = self.kept.start - self.seen.start
        return slice(start * scale, (start + self.kept.stop - self.kept.start) * scale)


def find_context(config: ResidualCodecConfig) -> int:
    """Latents beyond a tile's own that an encoder or a decoder sees, on each side.

    A 3x3 convolution sees one more: at an eighth of the photo's sides there is one besides two a block, at a quarter
    too, where it counts half. The guide of the decoder sees no further.
    """
    reaches = [
        2 * coarse + 1 + -(-(2 * fine + 1) // 2) for fine, coarse in (config.encoder_blocks, config.decoder_blocks)
    ]
    return max(reaches)


def load_codec(path: Path) -> ResidualCodec:
    """A trained codec.

    Raises:
        WeightsError: the file is missing, damaged or holds no codec.
    """
    try:
        with limited_by(path):
            codec = ResidualCodec(read_table(ResidualCodecConfig, read_metadata(path).get("config", {})))
    except (TypeError, ValueError, AttributeError) as fault:
        raise WeightsError(f"{path}: holds no r-space codec ({fault}); `deblur train codec` makes one") from fault
    load_strict(codec, path)
    return codec


class TiledCodec(Careful[ResidualCodec]):
    """Encodes and decodes photos of any size in bounded memory."""

    def __init__(self, codec: ResidualCodec, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(codec, device, dtype)
        self.channels = codec.config.channels
        self.context = find_context(codec.config)
        self.device = device

    def encode(self, source: CodecSource, canvas: Canvas, tile: int, passes: Passes) -> Tensor:
        """(1, C, h, w), float32, on the device: latents of the canvas, in tiles of at most `tile` pixels."""
        latents = torch.empty(1, self.channels, canvas.height, canvas.width, device=self.device)
        for rows, columns in passes.over(self._cut(canvas, tile)):
            piece = self._encode_tile(self._cut_pixels(source, rows, columns))
            latents[..., rows.kept, columns.kept] = piece[..., rows.inside(), columns.inside()]
        return latents

    def decode(self, difference: Tensor, source: CodecSource, tile: int, passes: Passes) -> Tensor:
        """(3, H, W), float32, on the CPU: what to add to a photo, from the difference of latents (1, C, h, w)."""
        residual = torch.empty(3, *source.pixels.shape[:2])
        for rows, columns in passes.over(self._cut(Canvas(*difference.shape[2:]), tile)):
            latents = difference[..., rows.seen, columns.seen]
            piece = self._decode_tile(latents, self._cut_pixels(source, rows, columns))
            below = residual[:, _to_pixels(rows.kept), _to_pixels(columns.kept)]
            kept = piece[0, :, rows.inside(STRIDE), columns.inside(STRIDE)]
            below.copy_(kept[:, : below.shape[1], : below.shape[2]])
        return residual

    def _encode_tile(self, pixels: Tensor) -> Tensor:
        return self.run(lambda codec, dtype: codec.encode(pixels.to(dtype)))

    def _decode_tile(self, latents: Tensor, pixels: Tensor) -> Tensor:
        return self.run(lambda codec, dtype: codec.decode(latents.to(dtype), pixels.to(dtype)))

    def _cut(self, canvas: Canvas, tile: int) -> list[tuple[_Span, _Span]]:
        most = max(_SMALLEST, tile // STRIDE - 2 * self.context)
        columns = list(_cut_axis(canvas.width, most, self.context))
        return [(row, column) for row in _cut_axis(canvas.height, most, self.context) for column in columns]

    def _cut_pixels(self, source: CodecSource, rows: _Span, columns: _Span) -> Tensor:
        pixels = source.cut(rows.pixels, columns.pixels)[None].to(self.device)
        return pixels.contiguous(memory_format=torch.channels_last)


def _cut_axis(length: int, most: int, context: int) -> Iterator[_Span]:
    """Tiles of about equal size that keep at most `most` latents each; context ends where the canvas does."""
    count = -(-length // most)
    for index in range(count):
        start, stop = index * length // count, (index + 1) * length // count
        yield _Span(slice(start, stop), slice(max(0, start - context), min(length, stop + context)))


def _clamp(span: slice, length: int) -> Pixels:
    return np.arange(span.start, span.stop).clip(0, length - 1)


def _to_pixels(span: slice) -> slice:
    return slice(span.start * STRIDE, span.stop * STRIDE)

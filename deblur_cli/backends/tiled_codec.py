"""The r-space codec over a whole photo, tile by tile: as if it had seen the photo in one piece."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deblur_cli.backends.engines import Float32Fallback
from deblur_cli.backends.pixel_progress import PixelProgress
from deblur_cli.checkpoint import limited_by, load_strict, read_metadata
from deblur_cli.errors import WeightsError
from deblur_cli.networks.residual_codec import STRIDE, ResidualCodec, ResidualCodecConfig
from deblur_cli.restoration.contract import Pixels
from deblur_cli.restoration.tiling import Blocks, Tile, lay_pieces
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


class TiledCodec:
    """Encodes and decodes photos of any size in bounded memory."""

    def __init__(self, codec: ResidualCodec, device: torch.device, dtype: torch.dtype, engine: str = "torch") -> None:
        self.channels, self.context, self.device = codec.config.channels, codec.config.context, device
        self._network = Float32Fallback(codec, device, dtype, engine)

    @property
    def module(self) -> nn.Module:
        """The codec that runs."""
        return self._network.module

    def encode(self, source: CodecSource, canvas: tuple[int, int], tile: int, progress: PixelProgress) -> Tensor:
        """(1, C, h, w), float32, on the device: latents of a photo, in tiles of at most `tile` pixels.

        Args:
            canvas: h and w; the photo counts as extended at the right and at the bottom.
        """
        latents = torch.empty(1, self.channels, *canvas, device=self.device)
        for block in progress.over(self._lay(canvas, tile)):
            lay_pieces(latents[0], [block], self._network.run("encode", self._cut_pixels(source, block)))
        return latents

    def decode(self, difference: Tensor, source: CodecSource, tile: int, progress: PixelProgress) -> Tensor:
        """(3, H, W), float32, on the CPU: what to add to a photo, from the difference of latents (1, C, h, w)."""
        height, width = difference.shape[2:]
        residual = torch.empty(3, *source.pixels.shape[:2])
        for block in progress.over(self._lay((height, width), tile)):
            latents = difference[..., block.rows.place, block.columns.place]
            piece = self._network.run("decode", latents, self._cut_pixels(source, block))
            lay_pieces(residual, [block.scaled(STRIDE)], piece)
        return residual

    def _lay(self, canvas: tuple[int, int], tile: int) -> list[Tile]:
        return Blocks(max(_SMALLEST, tile // STRIDE - 2 * self.context), self.context).lay(*canvas)

    def _cut_pixels(self, source: CodecSource, block: Tile) -> Tensor:
        """(1, 3, 8h, 8w): what lies below a block of latents."""
        below = block.scaled(STRIDE)
        pixels = source.cut(below.rows.place, below.columns.place)[None].to(self.device)
        return pixels.contiguous(memory_format=torch.channels_last)


def _clamp(span: slice, length: int) -> Pixels:
    return np.arange(span.start, span.stop).clip(0, length - 1)

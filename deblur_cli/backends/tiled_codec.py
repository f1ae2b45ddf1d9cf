"""The r-space codec over a whole photo, tile by tile: as if it had seen the photo in one piece."""

from pathlib import Path

import torch
from torch import Tensor, nn

from deblur_cli.backends.engines import Float32Fallback
from deblur_cli.backends.pixel_progress import PixelProgress
from deblur_cli.checkpoint import limited_by, load_strict, read_metadata
from deblur_cli.errors import WeightsError
from deblur_cli.networks.residual_codec import STRIDE, ResidualCodec, ResidualCodecConfig
from deblur_cli.restoration.tiling import Blocks, PixelSource, Tile, lay_pieces
from deblur_cli.system.typed_tables import read_table

_SMALLEST = 8  # latents: a tile that cannot be smaller than its context still moves forward by so many


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

    def encode(self, source: PixelSource, canvas: tuple[int, int], tile: int, progress: PixelProgress) -> Tensor:
        """(1, C, h, w), float32, on the device: latents of a photo, in tiles of at most `tile` pixels.

        Args:
            canvas: h and w; the photo counts as extended at the right and at the bottom.
        """
        latents = torch.empty(1, self.channels, *canvas, device=self.device)
        for block in progress.over(self._lay(canvas, tile)):
            lay_pieces(latents[0], [block], self._network.run("encode", self._cut_pixels(source, block)))
        return latents

    def decode(self, difference: Tensor, source: PixelSource, tile: int, progress: PixelProgress) -> Tensor:
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

    def _cut_pixels(self, source: PixelSource, block: Tile) -> Tensor:
        """(1, 3, 8h, 8w): what lies below a block of latents."""
        below = block.scaled(STRIDE)
        pixels = source.cut(below.rows.place, below.columns.place)[None].to(self.device)
        return pixels.contiguous(memory_format=torch.channels_last)

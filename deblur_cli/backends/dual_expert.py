"""DeblurFlow: a fidelity expert's estimate, and the detail that a flow from that estimate adds, in r-space.

The expert works tile by tile. The flow sees the whole photo: noise and windows lie on the photo's own grid, so tiles
and batches decide how much is in memory and never what is computed.
Source: Kim and Shin 2026 (arXiv 2605.08854), dual-expert sampling; only its abstract is public.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from deblur_cli.backends.engines import Float32Fallback
from deblur_cli.backends.pixel_progress import PixelProgress
from deblur_cli.backends.tiled_codec import TiledCodec
from deblur_cli.errors import PhotoError
from deblur_cli.networks.flow_transformer import FlowTransformer
from deblur_cli.networks.residual_codec import STRIDE, ResidualCodec
from deblur_cli.restoration import guard
from deblur_cli.restoration.contract import Backend, Enhancing, Order, Pixels, Sparing
from deblur_cli.restoration.pipeline import ShareCount
from deblur_cli.restoration.tiling import EvenWindows, PixelSource, Tiling, blend_pieces, stack_pieces
from deblur_cli.sampling.rectified_flow import Field, renoise, sample_euler, start
from deblur_cli.weights.entries import FlowSettings

_GRID = 2  # latents: what the sides of every canvas are multiples of
_SHARED = 4  # latents that neighbouring windows share at least: 32 pixels to fade from one into the other
_GREY = 0.5  # of the flat picture from which the codec decodes a whole one
_PASS = 36.0  # thousands of multiplications per pixel that take about as long as a pass of codec and flow
_USUAL = 180.0  # those of an expert of which nobody knows


@dataclass(frozen=True, slots=True)
class Parts:
    """The networks of a dual expert, and what runs them; without an expert the flow starts from the photo as taken."""

    expert: Backend | None
    codec: ResidualCodec
    flow: FlowTransformer
    codec_engine: str = "torch"
    flow_engine: str = "torch"


class DualExpertBackend:
    """Adds to an expert's estimate what a flow finds is missing; see `Backend` and `Enhancing`.

    In bfloat16 the networks alone are: all canvases and sums are float32, and what a network makes that is not finite
    it makes again in float32. What is still not finite is the guard's.
    """

    def __init__(
        self, name: str, parts: Parts, settings: FlowSettings, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.name, self.settings, self.device, self.dtype = name, settings, device, dtype
        self._expert = parts.expert
        self._codec = TiledCodec(parts.codec, device, dtype, parts.codec_engine)
        self._flow = Float32Fallback(parts.flow, device, dtype, parts.flow_engine)
        self._flow_config = parts.flow.config
        self._sees_blurry = parts.flow.is_widened
        self._expert_work = 0.0 if parts.expert is None else getattr(parts.expert, "work", _USUAL)
        self._expert_share = parts.expert.share if isinstance(parts.expert, Enhancing) else 0.0
        self.tiling = parts.expert.tiling if parts.expert else _choose_tiling(self._codec, device)

    @property
    def module(self) -> nn.Module:
        """All networks that run."""
        networks = {"codec": self._codec.module, "flow": self._flow.module}
        return nn.ModuleDict(({"expert": self._expert.module} if self._expert else {}) | networks)

    @property
    def share(self) -> float:
        """See `Enhancing`."""
        first = (1 - self._expert_share) * self._expert_work
        return 1 - first / (self._expert_work + self._flow_work) if first else 1.0

    def restore(self, blurry: Tensor) -> Tensor:
        """See `Backend.restore`: the expert's estimate, or the tile itself."""
        return blurry if self._expert is None else self._expert.restore(blurry)

    def spares(self, blurry: Pixels) -> bool:
        """See `Sparing`: what the expert says."""
        return isinstance(self._expert, Sparing) and self._expert.spares(blurry)

    def enhance(self, blurry: Pixels, estimate: Tensor | None, order: Order) -> Tensor:
        """See `Enhancing.enhance`: the expert's own second stage if it has one, then the flow.

        Raises:
            PhotoError: the flow's answer is not finite, and there is no guard to leave it out.
        """
        count, second = ShareCount(order.watch.on_pixels), self._expert_share * self._expert_work
        of_expert = second / (second + self._flow_work) if second else 0.0
        if isinstance(self._expert, Sparing):
            watch = replace(order.watch, on_pixels=partial(count.add, of_expert))
            estimate = self._expert.enhance(blurry, estimate, replace(order, watch=watch))
        assert estimate is not None  # nobody else does without
        watch = replace(order.watch, on_pixels=partial(count.add, 1 - of_expert))
        self._add_detail(blurry, estimate, replace(order, watch=watch))
        return estimate

    @torch.inference_mode()
    def _add_detail(self, blurry: Pixels, estimate: Tensor, order: Order) -> None:
        """The flow's part, added in place."""
        height, width = blurry.shape[:2]
        work = _Work(blurry, estimate, order, PixelProgress(order.watch, height * width, self._passes))
        if self.settings.strength > 0:
            residual = self._find_residual(work) if self.settings.generic_noise is None else self._paint_anew(work)
            estimate.permute(2, 0, 1).add_(residual, alpha=self.settings.strength)
        work.progress.finish()

    @property
    def _flow_work(self) -> float:
        return 0.0 if self.settings.strength == 0 else self._passes * _PASS

    @property
    def _passes(self) -> int:
        """Over the photo: two of the encoder or one, the steps, and one of the decoder."""
        return self.settings.steps + 2 + int(self._sees_blurry or self.settings.generic_noise is not None)

    def _find_residual(self, work: "_Work") -> Tensor:
        """(3, H, W): the decoded difference between both ends of the path, guarded."""
        canvas, tile = self._lay_canvas(work), work.order.tile
        source = PixelSource(work.estimate.numpy())
        z_s = self._codec.encode(source, canvas, tile, work.progress)
        z_y = self._codec.encode(PixelSource(work.blurry), canvas, tile, work.progress) if self._sees_blurry else None
        x_0 = start(z_s, self._draw_noise(z_s, work.order.seed), self.settings.start_noise)
        x_1 = sample_euler(self._build_field(work, z_y), x_0, self.settings.steps)
        residual = self._codec.decode(x_1 - z_s, source, tile, work.progress)
        return self._guard(residual, work)

    def _paint_anew(self, work: "_Work") -> Tensor:
        """(3, H, W): what leads to the photo that an unadapted base makes of the estimate; nothing guards it."""
        assert self.settings.generic_noise is not None
        canvas, tile, sigma = self._lay_canvas(work), work.order.tile, self.settings.generic_noise
        z_s = self._codec.encode(PixelSource(work.estimate.numpy()), canvas, tile, work.progress)
        x_t = renoise(z_s, self._draw_noise(z_s, work.order.seed), sigma)
        x_1 = sample_euler(self._build_field(work, None), x_t, self.settings.steps, begin=1 - sigma)
        grey = PixelSource(np.broadcast_to(np.float32(_GREY), work.blurry.shape))
        z_g = self._codec.encode(grey, canvas, tile, work.progress)
        painted = self._codec.decode(x_1 - z_g, grey, tile, work.progress).add_(_GREY)
        return _check_finite(painted.sub_(work.estimate.permute(2, 0, 1)))

    def _lay_canvas(self, work: "_Work") -> tuple[int, int]:
        """Height and width in latents: as large as the photo on the grid, and at least one window."""
        window, side = self._flow_config.window, _GRID * STRIDE
        height, width = (max(window, -(-length // side) * _GRID) for length in work.blurry.shape[:2])
        return height, width

    def _draw_noise(self, latents: Tensor, seed: int) -> Tensor:
        """Of the whole canvas at once, on the CPU, so that a seed means the same on every device."""
        return torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(latents.device)

    def _build_field(self, work: "_Work", blurry: Tensor | None) -> Field:
        """The flow's velocity over a whole canvas, window by window; (1, C, h, w) at a time -> the same shape."""

        def field(x_t: Tensor, t: float) -> Tensor:
            velocity = torch.zeros_like(x_t)
            side = self._flow_config.window
            windows = EvenWindows(side, _SHARED, self._flow_config.multiple_of).lay(*x_t.shape[2:])
            at_once = max(1, work.order.tile**2 // (side * STRIDE) ** 2)
            for some in work.progress.over([windows[i : i + at_once] for i in range(0, len(windows), at_once)]):
                condition = None if blurry is None else stack_pieces(blurry[0], some)
                blend_pieces(velocity[0], some, self._predict(stack_pieces(x_t[0], some), t, condition))
            return velocity

        return field

    def _predict(self, x_t: Tensor, t: float, blurry: Tensor | None) -> Tensor:
        times = torch.full(x_t.shape[:1], t, device=x_t.device)
        return self._flow.run("forward", x_t, times, blurry)

    def _guard(self, residual: Tensor, work: "_Work") -> Tensor:
        """The residual without its low frequencies, and without the blocks at fault."""
        faulty = guard.find_gaps(residual)
        if not self.settings.guard:
            _check_finite(residual)
        guard.fall_back(residual, faulty)
        if self.settings.keep_low:
            guard.remove_low(residual)
        if self.settings.guard:
            faulty |= guard.find_mosaics(PixelSource(work.blurry).cut, self._look_at(residual, work), residual)
        if bool(faulty.any()):
            guard.fall_back(residual, faulty)
            work.order.watch.on_event(f"the flow invented colours or lost its way: {guard.describe(faulty)}")
        return residual

    def _look_at(self, residual: Tensor, work: "_Work") -> guard.Look:
        """Cuts from the photo as it would be written."""
        before, change = PixelSource(work.estimate.numpy()), PixelSource(residual.permute(1, 2, 0).numpy())
        return lambda rows, columns: before.cut(rows, columns) + self.settings.strength * change.cut(rows, columns)


@dataclass(frozen=True, slots=True)
class _Work:
    """One photo: as taken (H, W, 3), its estimate (H, W, 3), how it is wanted and how far it is."""

    blurry: Pixels
    estimate: Tensor
    order: Order
    progress: PixelProgress


def _choose_tiling(codec: TiledCodec, device: torch.device) -> Tiling:
    """Without an expert tiles change nothing; their size then only says how much memory may be used."""
    return Tiling(2048 if device.type == "cuda" else 1536, codec.context * STRIDE, 0, _GRID * STRIDE)


def _check_finite(residual: Tensor) -> Tensor:
    if not bool(residual.sum().isfinite()):
        raise PhotoError("the flow's answer is not finite")
    return residual

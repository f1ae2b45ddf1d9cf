"""DeblurDiff's networks in plain torch and in the layout of the published checkpoint, written without diffusers.

Module names are those of CompVis' latent diffusion (`input_blocks.1.0.in_layers.0` ...), so a state dict has the
published names; the arithmetic follows the papers: Rombach et al. 2022, Zhang et al. 2023 (ControlNet) and
arXiv 2502.03810.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    """Channels in and out, widths and heads per level, prompt width, groups."""

    channels: tuple[int, int]
    widths: tuple[int, ...]
    heads: tuple[int, ...]
    context: int
    groups: int = 32


class Named(nn.Module):
    """Children by name, whatever the name."""

    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


class ResBlock(nn.Module):
    def __init__(self, before: int, after: int, time: int, groups: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(groups, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, after))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, after), nn.SiLU(), nn.Identity(), nn.Conv2d(after, after, 3, padding=1)
        )
        self.skip_connection = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        inner = self.in_layers(x) + self.emb_layers(time)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(inner)


class Attention(nn.Module):
    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Identity())

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (
            y.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for y in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
        return self.to_out((scores.softmax(dim=3) @ v).transpose(1, 2).flatten(2))


class Gate(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 8 * width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=2)
        return value * F.gelu(gate)


class TransformerBlock(nn.Module):
    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.attn1, self.attn2 = Attention(width, width, heads), Attention(width, context, heads)
        self.ff = Named(net=nn.Sequential(Gate(width), nn.Identity(), nn.Linear(4 * width, width)))
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attn1(y, y)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff.net(self.norm3(x))


class SpatialTransformer(nn.Module):
    def __init__(self, width: int, context: int, heads: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.proj_in, self.proj_out = nn.Linear(width, width), nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, context, heads)])

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        y = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        y = self.proj_out(self.transformer_blocks[0](y, context))
        return x + y.transpose(1, 2).unflatten(2, x.shape[2:])


class Down(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Up(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


def run(layers: nn.Module, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
    for layer in layers.children():
        extra = {ResBlock: (time,), SpatialTransformer: (context,)}.get(type(layer), ())
        x = layer(x, *extra)
    return x


class Encoder(nn.Module):
    """What UNet and ControlNet share: time embedding, way down, middle."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape, first = shape, shape.widths[0]
        self.time_width = time = 4 * first
        self.time_embed = nn.Sequential(nn.Linear(first, time), nn.SiLU(), nn.Linear(time, time))
        blocks: list[list[nn.Module]] = [[nn.Conv2d(shape.channels[0], first, 3, padding=1)]]
        self.skips, before, last = [first], first, len(shape.widths) - 1
        for level, width in enumerate(shape.widths):
            for _ in range(2):
                blocks.append([ResBlock(before, width, time, shape.groups), *self.attention(level)])
                self.skips.append(width)
                before = width
            if level != last:
                blocks.append([Down(width)])
                self.skips.append(width)
        self.input_blocks = nn.ModuleList(nn.Sequential(*block) for block in blocks)
        middle = [ResBlock(before, before, time, shape.groups) for _ in range(2)]
        attention = SpatialTransformer(before, shape.context, shape.heads[-1], shape.groups)
        self.middle_block = nn.Sequential(middle[0], attention, middle[1])

    def attention(self, level: int) -> list[nn.Module]:
        shape = self.shape
        if level == len(shape.widths) - 1:
            return []
        return [SpatialTransformer(shape.widths[level], shape.context, shape.heads[level], shape.groups)]

    def embed_time(self, timestep: Tensor) -> Tensor:
        half = self.shape.widths[0] // 2
        frequencies = torch.exp(-math.log(10000) * torch.arange(half) / half)
        angles = timestep[:, None].float() * frequencies
        return self.time_embed(torch.cat((angles.cos(), angles.sin()), dim=1))

    def encode(self, x: Tensor, timestep: Tensor, context: Tensor) -> tuple[list[Tensor], Tensor]:
        time = self.embed_time(timestep)
        skips = []
        for block in self.input_blocks:
            x = run(block, x, time, context)
            skips.append(x)
        return skips, run(self.middle_block, x, time, context)


class UNet(Encoder):
    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        before, skips = shape.widths[-1], list(self.skips)
        blocks: list[list[nn.Module]] = []
        for level, width in reversed(list(enumerate(shape.widths))):
            for index in range(3):
                block = [
                    ResBlock(before + skips.pop(), width, self.time_width, shape.groups),
                    *self.attention(level),
                ]
                before = width
                blocks.append([*block, Up(width)] if level and index == 2 else block)
        self.output_blocks = nn.ModuleList(nn.Sequential(*block) for block in blocks)
        self.out = nn.Sequential(
            nn.GroupNorm(shape.groups, before), nn.SiLU(), nn.Conv2d(before, shape.channels[1], 3, padding=1)
        )

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor, control: list[Tensor] | None = None) -> Tensor:
        skips, x = self.encode(x, timestep, context)
        if control is not None:
            x = x + control[-1]
            skips = [skip + residual for skip, residual in zip(skips, control[:-1], strict=True)]
        time = self.embed_time(timestep)
        for block in self.output_blocks:
            x = run(block, torch.cat((x, skips.pop()), dim=1), time, context)
        return self.out(x)


class ControlNet(Encoder):
    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.zero_convs = nn.ModuleList(nn.Sequential(nn.Conv2d(width, width, 1)) for width in self.skips)
        last = shape.widths[-1]
        self.middle_block_out = nn.Sequential(nn.Conv2d(last, last, 1))

    def forward(self, x: Tensor, hint: Tensor, timestep: Tensor, context: Tensor) -> list[Tensor]:
        skips, middle = self.encode(torch.cat((x, hint), dim=1), timestep, context)
        return [conv(skip) for conv, skip in zip(self.zero_convs, skips, strict=True)] + [self.middle_block_out(middle)]


class VaeBlock(nn.Module):
    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, before, eps=1e-6), nn.Conv2d(before, after, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, after, eps=1e-6), nn.Conv2d(after, after, 3, padding=1)
        if before != after:
            self.nin_shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return y + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class VaeAttention(nn.Module):
    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k, v = (layer(y).flatten(2) for layer in (self.q, self.k, self.v))  # (B, C, N)
        scores = (q.transpose(1, 2) @ k / math.sqrt(q.shape[1])).softmax(dim=2)  # (B, N, N)
        return x + self.proj_out((v @ scores.transpose(1, 2)).unflatten(2, x.shape[2:]))


class VaeDown(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


def vae_middle(width: int, groups: int) -> Named:
    first, second = (VaeBlock(width, width, groups) for _ in range(2))
    return Named(block_1=first, attn_1=VaeAttention(width, groups), block_2=second)


def vae_level(before: int, after: int, count: int, groups: int) -> nn.ModuleList:
    return nn.ModuleList(VaeBlock(after if index else before, after, groups) for index in range(count))


class VaeEncoder(nn.Module):
    def __init__(self, widths: tuple[int, ...], groups: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        for level, (before, width) in enumerate(zip((widths[0], *widths[:-1]), widths, strict=True)):
            scale = {"downsample": VaeDown(width)} if level + 1 < len(widths) else {}
            self.down.append(Named(block=vae_level(before, width, 2, groups), **scale))
        self.mid = vae_middle(widths[-1], groups)
        self.norm_out = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = nn.Sequential(*level.block)(x)
            x = level.downsample(x) if hasattr(level, "downsample") else x
        x = self.mid.block_2(self.mid.attn_1(self.mid.block_1(x)))
        return self.conv_out(F.silu(self.norm_out(x)))


class VaeDecoder(nn.Module):
    def __init__(self, widths: tuple[int, ...], groups: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(4, widths[-1], 3, padding=1)
        self.mid = vae_middle(widths[-1], groups)
        self.up = nn.ModuleList()
        for level, (width, before) in enumerate(zip(widths, (*widths[1:], widths[-1]), strict=True)):
            scale = {"upsample": Up(width)} if level else {}
            self.up.append(Named(block=vae_level(before, width, 3, groups), **scale))
        self.norm_out = nn.GroupNorm(groups, widths[0], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        x = self.mid.block_2(self.mid.attn_1(self.mid.block_1(x)))
        for level in reversed(self.up):
            x = nn.Sequential(*level.block)(x)
            x = level.upsample(x) if hasattr(level, "upsample") else x
        return self.conv_out(F.silu(self.norm_out(x)))


class Vae(nn.Module):
    def __init__(self, widths: tuple[int, ...], groups: int) -> None:
        super().__init__()
        self.encoder, self.decoder = VaeEncoder(widths, groups), VaeDecoder(widths, groups)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(8, 8, 1), nn.Conv2d(4, 4, 1)

    def encode(self, pixels: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(pixels))[:, :4]

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(latents))


class TextLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, width // 64, batch_first=True)
        self.mlp = Named(c_fc=nn.Linear(width, 4 * width), c_proj=nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        x = x + self.attn(y, y, y, attn_mask=later, need_weights=False)[0]
        return x + self.mlp.c_proj(F.gelu(self.mlp.c_fc(self.ln_2(x))))


class TextEncoder(nn.Module):
    def __init__(self, width: int, words: int, length: int, layers: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(words, width)
        self.positional_embedding = nn.Parameter(0.1 * torch.randn(length, width))
        self.transformer = Named(resblocks=nn.ModuleList(TextLayer(width) for _ in range(layers)))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, width))
        self.logit_scale = nn.Parameter(torch.ones([]))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token_embedding(tokens) + self.positional_embedding
        for layer in self.transformer.resblocks[:-1]:
            x = layer(x)
        return self.ln_final(x)


class Published(nn.Module):
    """All of it under the published prefixes."""

    def __init__(
        self,
        unet: Shape,
        lkpn: Shape,
        vae_widths: tuple[int, ...],
        *,
        words: int = 49408,
        length: int = 77,
        layers: int = 24,
    ) -> None:
        super().__init__()
        self.unet = UNet(unet)
        self.kpn = Named(unet=UNet(lkpn))
        self.controlnet = ControlNet(Shape((12, 0), unet.widths, unet.heads, unet.context, unet.groups))
        self.vae = Vae(vae_widths, unet.groups)
        self.clip = Named(model=TextEncoder(unet.context, words, length, layers))

    def sharpen(self, blurry: Tensor, x_t: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        kernels = self.kpn.unet(torch.cat((blurry, x_t), dim=1), timestep, context).unflatten(1, (4, 25))
        around = F.unfold(blurry, 5, padding=2).unflatten(1, (4, 25)).unflatten(3, blurry.shape[2:])
        return (kernels * around).sum(dim=2) + blurry


def published() -> Published:
    """The real widths."""
    unet = Shape((4, 4), (320, 640, 1280, 1280), (5, 10, 20, 20), 1024)
    lkpn = Shape((8, 100), (128, 256, 512, 512), (2, 4, 8, 8), 1024)
    return Published(unet, lkpn, (128, 256, 512, 512))

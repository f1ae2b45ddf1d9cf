"""DeblurDiff's networks in one module: LKPN, ControlNet, the UNet and the VAE of Stable Diffusion 2.1, a fixed prompt.

Knows tensors of one window; no files, no photos, no schedule.
Source: arXiv 2502.03810 (kkkls/DeblurDiff, MIT); the classes are diffusers' (Apache-2.0).
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel
from torch import Tensor, nn

from deblur_cli.networks.lkpn import LKPN, LKPNConfig, build_unet

LATENT_CHANNELS = 4
LATENT_SCALE = 0.18215  # of Stable Diffusion's latents to unit variance
STRIDE = 8  # pixels per latent


@dataclass(frozen=True, slots=True)
class DeblurDiffConfig:
    """Shape of a `DeblurDiff`; the defaults are the published ones.

    Attributes:
        widths, heads: of the UNet and the ControlNet, per level, finest first; see `LKPNConfig`.
        lkpn_widths, lkpn_heads: of the LKPN.
        vae_widths: of the VAE, four levels.
        prompt_width, prompt_length: of the prompt's embedding.
        groups: of every group normalisation.
    """

    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    heads: tuple[int, ...] = (5, 10, 20, 20)
    lkpn_widths: tuple[int, ...] = (128, 256, 512, 512)
    lkpn_heads: tuple[int, ...] = (2, 4, 8, 8)
    vae_widths: tuple[int, ...] = (128, 256, 512, 512)
    prompt_width: int = 1024
    prompt_length: int = 77
    groups: int = 32

    @property
    def lkpn(self) -> LKPNConfig:
        """The part of it that is the LKPN's."""
        return LKPNConfig(self.lkpn_widths, self.lkpn_heads, self.prompt_width, self.groups, LATENT_CHANNELS)


class Prompt(nn.Module):
    """The embedding of the one prompt that there is, the empty one; no text encoder is needed."""

    embedding: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("embedding", torch.zeros(1, length, width))


class DeblurDiff(nn.Module):
    """Everything that runs on one window of a photo, or on several of one size side by side.

    Every part may be in a number format of its own; what goes in and comes out is float32.
    """

    def __init__(self, config: DeblurDiffConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = build_unet(
            channels=(LATENT_CHANNELS, LATENT_CHANNELS),
            widths=config.widths,
            heads=config.heads,
            prompt_width=config.prompt_width,
            groups=config.groups,
        )
        self.lkpn = LKPN(config.lkpn)
        self.controlnet = _build_controlnet(config)
        self.vae = _build_vae(config)
        self.prompt = Prompt(config.prompt_length, config.prompt_width)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """What is stored in a file of its own, by role."""
        return {
            "unet": self.unet,
            "lkpn": self.lkpn.unet,
            "controlnet": self.controlnet,
            "vae": self.vae,
            "prompt": self.prompt,
        }

    @property
    def trained(self) -> nn.ModuleDict:
        """The two parts that DeblurDiff adds to Stable Diffusion, to be trained and stored in one file."""
        return nn.ModuleDict({"lkpn": self.lkpn.unet, "controlnet": self.controlnet})

    def freeze(self) -> None:
        """Leave only `trained` to be trained."""
        for part in (self.unet, self.vae, self.prompt):
            part.requires_grad_(requires_grad=False)

    def enable_gradient_checkpointing(self) -> None:
        """Compute activations again on the way back, in all parts that a gradient passes."""
        for part in (self.unet, self.lkpn.unet, self.controlnet, self.vae):
            part.enable_gradient_checkpointing()

    def set_dtype(self, dtype: torch.dtype) -> None:
        """Change the number format of all but the VAE, whose rounding the picture would show, and the prompt."""
        for part in (self.unet, self.lkpn, self.controlnet):
            nn.Module.to(part, dtype)  # diffusers' own `to` warns of layers to be kept in float32, and names none

    @torch.no_grad()
    def start_controlnet(self) -> None:
        """Where training begins: the ControlNet has the UNet's way down, looks at `x_t` only and says nothing yet.

        Source: Zhang et al. 2023, "Adding Conditional Control ..." (arXiv 2302.05543), section 3.1.
        """
        learned = self.unet.state_dict()
        for name, tensor in self.controlnet.state_dict().items():
            if name == "conv_in.weight":
                tensor.zero_()[:, :LATENT_CHANNELS] = learned[name]
            elif name in learned:
                tensor.copy_(learned[name])
            elif name.startswith(("controlnet_down_blocks.", "controlnet_mid_block.")):
                tensor.zero_()

    def forward(self, blurry: Tensor, x_t: Tensor, timestep: Tensor | int) -> tuple[Tensor, Tensor]:
        """The noise in `x_t`, and the sharpened latents that helped to find it.

        Args:
            blurry: latents of the blurred windows, (B, 4, h, w), scaled; h and w are multiples of 8.
            x_t: latents of the diffusion at `timestep`, same shape.
            timestep: 0 to 999, one for all or (B,).
        Returns:
            Twice (B, 4, h, w), float32.
        """
        prompt = self.prompt.embedding.expand(len(x_t), -1, -1)  # (B, L, prompt_width)
        sharpened: Tensor = self.lkpn(blurry, x_t, timestep, prompt)
        *down, middle = (r.to(self.unet.dtype) for r in self._control(blurry, x_t, sharpened, timestep, prompt))
        noise: Tensor = self.unet(
            x_t.to(self.unet.dtype),
            timestep,
            prompt.to(self.unet.dtype),
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]
        return noise.float(), sharpened

    def predict_noise(self, blurry: Tensor, x_t: Tensor, timestep: Tensor | int) -> Tensor:
        """(B, 4, h, w): the noise in `x_t`; arguments as for `forward`."""
        noise: Tensor = self(blurry, x_t, timestep)[0]
        return noise

    def encode(self, pixels: Tensor) -> Tensor:
        """Scaled latents, the mode of their distribution.

        Args:
            pixels: (B, 3, H, W), float32. The condition was trained as [0, 1], the sharp photo as [-1, 1].
        Returns:
            (B, 4, H / 8, W / 8), float32.
        """
        latents: Tensor = self.vae.encode(pixels.to(self.vae.dtype)).latent_dist.mode()
        return latents.float() * LATENT_SCALE

    def decode(self, latents: Tensor) -> Tensor:
        """(B, 3, 8h, 8w), float32, about [-1, 1], from scaled latents (B, 4, h, w)."""
        pixels: Tensor = self.vae.decode((latents / LATENT_SCALE).to(self.vae.dtype), return_dict=False)[0]
        return pixels.float()

    def _control(
        self, blurry: Tensor, x_t: Tensor, sharpened: Tensor, timestep: Tensor | int, prompt: Tensor
    ) -> list[Tensor]:
        """Thirteen residuals: twelve for the UNet's skips, the last for its middle."""
        hinted = torch.cat((x_t, blurry, sharpened), dim=1).to(self.controlnet.dtype)  # (B, 12, h, w)
        # diffusers wants a picture as well. The published network has no layers for one, and those that diffusers adds
        # end in zeros, so any picture adds nothing: one latent wide and broadcast, it also costs nothing.
        picture = hinted.new_zeros(1, 3, STRIDE, STRIDE)
        down, middle = self.controlnet(hinted, timestep, prompt.to(hinted.dtype), picture, return_dict=False)
        return [*down, middle]


def _build_controlnet(config: DeblurDiffConfig) -> Any:
    network: Any = ControlNetModel(  # type: ignore[no-untyped-call]
        in_channels=3 * LATENT_CHANNELS,
        block_out_channels=config.widths,
        attention_head_dim=config.heads,
        cross_attention_dim=config.prompt_width,
        norm_num_groups=config.groups,
        use_linear_projection=True,
    )
    # It is for a picture; there is none, so training must not add one.
    network.controlnet_cond_embedding.requires_grad_(requires_grad=False)
    return network


def _build_vae(config: DeblurDiffConfig) -> Any:
    levels = len(config.vae_widths)
    return AutoencoderKL(  # type: ignore[no-untyped-call]
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.vae_widths,
        layers_per_block=2,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=config.groups,
        scaling_factor=LATENT_SCALE,
    )

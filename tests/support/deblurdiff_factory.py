"""DeblurDiff made small: as its authors publish it, with widths that their layers allow, and as tiny as it can be."""

import torch
from torch import Tensor, nn

from deblur_cli.networks.deblurdiff import DeblurDiff, DeblurDiffConfig
from support.compvis_reference import Published, Shape

SMALL = DeblurDiffConfig(
    widths=(32, 64, 64, 96),
    heads=(1, 2, 2, 3),
    lkpn_widths=(32, 32, 64, 64),
    lkpn_heads=(2, 1, 4, 2),
    vae_widths=(32, 32, 64, 64),
    prompt_width=128,
    prompt_length=9,
)
TINY = DeblurDiffConfig(
    widths=(8, 8, 8, 8),
    heads=(1, 1, 1, 1),
    lkpn_widths=(8, 8, 8, 8),
    lkpn_heads=(1, 1, 1, 1),
    vae_widths=(4, 4, 4, 4),
    prompt_width=8,
    prompt_length=5,
    groups=4,
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def build_reference() -> Published:
    """The networks of `SMALL`, no weight of them at its initial value, zero or one."""
    torch.manual_seed(0)
    unet = Shape((4, 4), SMALL.widths, SMALL.heads, SMALL.prompt_width)
    lkpn = Shape((8, 100), SMALL.lkpn_widths, SMALL.lkpn_heads, SMALL.prompt_width)
    reference = Published(unet, lkpn, SMALL.vae_widths, words=20, length=SMALL.prompt_length, layers=3).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return reference


def build_network() -> DeblurDiff:
    """Tiny and random; nothing of it is silent, as zero layers would be."""
    torch.manual_seed(0)
    network = DeblurDiff(TINY).eval()
    for part in network.parts.values():
        for name, parameter in part.named_parameters():
            if not parameter.any() and "cond_embedding" not in name:
                nn.init.normal_(parameter, std=0.1)
    nn.init.normal_(network.prompt.embedding)
    return network

"""NAFNets with random weights at which every part of them counts, and files such as their authors publish."""

from collections import OrderedDict
from pathlib import Path

import torch

from deblur_cli.networks.nafnet import NAFNet, NAFNetConfig

TINY = NAFNetConfig(width=8, encoder_blocks=(1, 1, 1, 4), middle_blocks=1, decoder_blocks=(1, 1, 1, 1), train_size=64)


def build_lively(config: NAFNetConfig = TINY, *, change: float = 0.04, seed: int = 0) -> NAFNet:
    """A network whose blocks are no identities and which changes noise by about `change`, as a trained one does."""
    network, generator = NAFNet(config).eval(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("beta", "gamma")):
                parameter.normal_(0, 0.3, generator=generator)
            elif parameter.dim() == 4:
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
            else:
                parameter.add_(torch.empty_like(parameter).normal_(0, 0.1, generator=generator))
        residual = network.predict_residual(torch.rand(1, 3, 64, 64, generator=generator))
        for parameter in network.ending.parameters():
            parameter.mul_(change / residual.std())
    return network


def save_published(network: NAFNet, path: Path) -> Path:
    """A `.pth` in the form of the public checkpoints: one table of tensors under `params`."""
    torch.save({"params": OrderedDict(network.state_dict())}, path)
    return path

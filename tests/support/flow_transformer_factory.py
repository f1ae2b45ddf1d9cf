"""Small flow transformers, latents for them, and their training, for the tests."""

import torch
from torch import Tensor, nn

from deblur_cli.networks.flow_transformer import FlowTransformer, LoraSettings
from support.small_bases import small

BOTH = LoraSettings(4, ("attention", "mlp"))


def build(name: str, seed: int = 0, lora: LoraSettings | None = None) -> FlowTransformer:
    """A small random network with a random prompt; widened and adapted if there is a LoRA."""
    torch.manual_seed(seed)
    network = FlowTransformer(small(name))
    joint, pooled = network.prompt.shape[-1], network.pooled
    network.set_prompt(normal(1, 3, joint, seed=7), None if pooled is None else normal(*pooled.shape, seed=8))
    if lora is not None:
        network.widen()
        network.attach_lora(lora)
    return network


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def points(batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """x_t, t and blurry for a small network, not square."""
    return normal(batch, 4, 8, 6), torch.linspace(0, 1, batch), normal(batch, 4, 8, 6, seed=1)


def train(network: FlowTransformer, steps: int, decay: float = 0.0, autocast: bool = False) -> list[float]:
    """Losses of AdamW on one fixed batch, whose target depends on x_t and on blurry."""
    x_t, t, blurry = points(4)
    target = 0.5 * blurry.flip(-1) - x_t
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, 1e-2, weight_decay=decay)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = (network(x_t, t, blurry) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def velocity(network: nn.Module, *given: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(*given)

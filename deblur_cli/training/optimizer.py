"""Muon for convolutions: momentum, made orthogonal, for the kernels; AdamW for everything else.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks" (the quintic Newton-Schulz
iteration and its coefficients); the step is scaled as in Liu et al. 2025, "Muon is Scalable for LLM Training", so that
one learning rate serves both parts. torch's own Muon takes matrices only.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class ConvMuon(torch.optim.Optimizer):
    """Muon on parameters of two or more dimensions, each taken as a matrix (first dimension x the rest)."""

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient; `closure` must be None."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, float]) -> None:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        momentum.lerp_(parameter.grad, 1 - group["momentum"])  # type: ignore[arg-type]
        ahead = parameter.grad.lerp(momentum, group["momentum"])  # type: ignore[union-attr]
        matrix = orthogonalise(ahead.reshape(len(ahead), -1))
        scale = 0.2 * max(matrix.shape) ** 0.5  # the root mean square of an AdamW step
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(matrix.view(ahead.shape), alpha=-group["lr"] * scale)


def orthogonalise(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Nearly U Vᵀ of the singular value decomposition U S Vᵀ of (m, n), computed in bfloat16."""
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    result: Tensor = (matrix.T if tall else matrix).bfloat16()
    result = result / (result.norm() + 1e-7)
    for _ in range(iterations):
        gram = result @ result.T
        result = a * result + (b * gram + c * gram @ gram) @ result
    return (result.T if tall else result).to(matrix.dtype)


def build_optimizers(network: nn.Module, name: str, lr: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """`"adamw"`: AdamW alone. `"muon"`: ConvMuon for the inner kernels, AdamW for biases, stem and head.

    Raises:
        ValueError: another name.
    """
    if name == "adamw":
        return [torch.optim.AdamW(network.parameters(), lr, betas=(0.9, 0.99), weight_decay=weight_decay)]
    if name != "muon":
        raise ValueError(f"optimizer {name!r}: choose adamw or muon")
    inner: list[Tensor] = []
    outer: list[Tensor] = []
    for key, parameter in network.named_parameters():
        is_inner = parameter.ndim >= 2 and not key.startswith(("stem.", "head."))
        (inner if is_inner else outer).append(parameter)
    return [
        ConvMuon(inner, lr, weight_decay=weight_decay),
        torch.optim.AdamW(outer, lr, betas=(0.9, 0.99), weight_decay=0.0),
    ]

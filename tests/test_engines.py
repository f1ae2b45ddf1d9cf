"""Engines run networks, each for itself, and float32 takes over where a faster number format was not enough."""

import pytest
import torch
from torch import Tensor, nn

from deblur_cli.backends.engines import ENGINES, Float32Fallback
from deblur_cli.networks.dense_unet import DenseUNet, DenseUNetConfig

CPU = torch.device("cpu")
TINY = DenseUNetConfig(2, (8, 12), (1, 1), (1,))


class Doubling(nn.Module):
    """Doubles, but says infinity in fewer bits than float32."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), 2.0))

    def forward(self, blurry: Tensor) -> Tensor:
        return blurry * self.weight * (1 if self.weight.dtype == torch.float32 else torch.inf)


def build() -> DenseUNet:
    torch.manual_seed(0)
    network = DenseUNet(TINY)
    nn.init.normal_(network.head.weight, std=0.1)
    return network


def test_the_network_that_is_given_keeps_its_values_and_is_not_there_twice_in_its_own_format() -> None:
    network, expected = build(), build()
    fast, exact = (Float32Fallback(network, CPU, dtype) for dtype in (torch.bfloat16, torch.float32))
    blurry = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        assert (exact.run("predict_residual", blurry) - expected.predict_residual(blurry)).abs().max() <= 1e-6
        rounded = fast.run("predict_residual", blurry)
    assert rounded.dtype == torch.float32
    assert (rounded - expected.predict_residual(blurry)).abs().max() > 1e-4
    assert exact.module is network
    for key, value in network.state_dict().items():
        assert torch.equal(value, expected.state_dict()[key])


def test_only_what_has_another_format_is_copied() -> None:
    network = build()
    network.head.to(torch.bfloat16)
    fast = Float32Fallback(network, CPU, torch.bfloat16)
    assert fast.module.get_parameter("head.weight") is network.head.weight
    assert fast.module.get_parameter("stem.weight").dtype == torch.bfloat16
    assert network.stem.weight.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_finite_is_computed_again_in_float32(dtype: torch.dtype) -> None:
    assert torch.equal(Float32Fallback(Doubling(), CPU, dtype).run("forward", torch.ones(2)), torch.full((2,), 2.0))


def test_what_float32_does_not_help_comes_back_as_it_is() -> None:
    answer = Float32Fallback(Doubling(), CPU, torch.bfloat16).run("forward", torch.tensor([torch.nan, 1]))
    assert answer.isfinite().tolist() == [False, True]


def test_another_engine_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that compiles for every shape when it first meets it."""
    compiled: list[tuple[torch.dtype, str, tuple[int, ...]]] = []

    class Compiling:
        def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
            self.module, self._dtype = network, dtype

        def run(self, method: str, *tensors: Tensor | None) -> Tensor:
            (blurry,) = tensors
            assert blurry is not None
            if (key := (self._dtype, method, tuple(blurry.shape))) not in compiled:
                compiled.append(key)
            return blurry / (0 if self._dtype == torch.bfloat16 and len(blurry) > 1 else 1)

    monkeypatch.setitem(ENGINES, "compiling", Compiling)  # type: ignore[arg-type]
    runner = Float32Fallback(Doubling(), CPU, torch.bfloat16, "compiling")
    for count in (1, 2, 1):
        assert torch.equal(runner.run("forward", torch.ones(count)), torch.ones(count))
    fast, exact = (torch.bfloat16, "forward"), (torch.float32, "forward")
    assert compiled == [(*fast, (1,)), (*fast, (2,)), (*exact, (2,))]

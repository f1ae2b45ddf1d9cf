"""Element-wise adaptive convolution like its definition, at the memory of its result; filters that start at nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from deblur_cli.networks.lkpn import LKPN, LKPNConfig, convolve_adaptively

TINY = LKPNConfig(widths=(8, 8, 8, 8), heads=(1, 1, 1, 1), prompt_width=6, groups=4)


def draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def convolve_unfolded(features: Tensor, kernels: Tensor) -> Tensor:
    """The definition, by k * k copies of the features."""
    taps = kernels.shape[2]
    side = round(taps**0.5)
    around = functional.unfold(features, side, padding=side // 2)
    return (around.view_as(kernels) * kernels).sum(dim=2)


class Allocations(TorchDispatchMode):
    """The sizes of all storages that operations make, in values."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        known = {x.untyped_storage().data_ptr() for x in args if isinstance(x, Tensor)}
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.untyped_storage().data_ptr() not in known:
            self.sizes.append(result.untyped_storage().nbytes() // result.element_size())
        return result


@pytest.mark.parametrize("side", [1, 3, 5, 7])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (1, 9), (2, 3), (13, 6)])
def test_the_adaptive_convolution_is_the_sum_over_unfolded_neighbourhoods(side: int, height: int, width: int) -> None:
    features, kernels = draw(2, 4, height, width), draw(2, 4, side**2, height, width, seed=1)
    expected = convolve_unfolded(features.double(), kernels.double())
    torch.testing.assert_close(convolve_adaptively(features, kernels).double(), expected, rtol=1e-6, atol=2e-6)
    exact = convolve_adaptively(features.double(), kernels.double())
    torch.testing.assert_close(exact, expected, rtol=1e-13, atol=1e-13)


def test_each_weight_belongs_to_the_neighbour_that_its_row_and_column_name() -> None:
    features, kernels = draw(1, 1, 6, 7), torch.zeros(1, 1, 25, 6, 7)
    kernels[:, :, 1 * 5 + 4] = 1  # one row up, two columns to the right
    expected = torch.zeros(1, 1, 6, 7)
    expected[:, :, 1:, :5] = features[:, :, :5, 2:]
    assert torch.equal(convolve_adaptively(features, kernels), expected)


@pytest.mark.parametrize("side", [1, 3, 5])
def test_the_gradients_of_the_adaptive_convolution_are_its_numerical_ones(side: int) -> None:
    features = draw(2, 3, 4, 5, dtype=torch.float64).requires_grad_()
    kernels = draw(2, 3, side**2, 4, 5, dtype=torch.float64, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(convolve_adaptively, (features, kernels))


def test_the_gradients_equal_those_of_the_unfolded_sum_and_only_the_asked_ones_are_computed() -> None:
    features, kernels = draw(2, 4, 16, 12).requires_grad_(), draw(2, 4, 25, 16, 12, seed=1).requires_grad_()
    weight = draw(2, 4, 16, 12, seed=2)
    expected = torch.autograd.grad((convolve_unfolded(features, kernels) * weight).sum(), (features, kernels))
    found = torch.autograd.grad((convolve_adaptively(features, kernels) * weight).sum(), (features, kernels))
    torch.testing.assert_close(found, expected)
    (alone,) = torch.autograd.grad((convolve_adaptively(features.detach(), kernels) * weight).sum(), kernels)
    assert torch.equal(alone, found[1])


def test_neither_pass_holds_copies_of_the_features_for_every_tap() -> None:
    features, kernels = draw(1, 4, 32, 32).requires_grad_(), draw(1, 4, 25, 32, 32, seed=1).requires_grad_()
    kept: list[int] = []
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x),
        Allocations() as forward,
    ):
        result = convolve_adaptively(features, kernels)
    assert sorted(kept) == [features.numel(), kernels.numel()]
    assert max(forward.sizes) == 4 * 36 * 36  # the features with their border
    with Allocations() as backward:
        result.backward(torch.ones_like(result))
    assert [size for size in backward.sizes if size > 4 * 36 * 36] == [kernels.numel()]  # the gradient itself


@pytest.mark.parametrize(
    ("features", "kernels"),
    [((1, 2, 4, 4), (1, 2, 4, 4, 4)), ((1, 2, 4, 4), (1, 2, 8, 4, 4)), ((1, 1, 4, 4), (1, 2, 9, 4, 4))],
)
def test_kernels_that_are_no_odd_squares_or_do_not_fit_are_refused(features: tuple[int], kernels: tuple[int]) -> None:
    with pytest.raises(ValueError, match=r"odd number|do not fit"):
        convolve_adaptively(draw(*features), draw(*kernels))


def test_mixed_number_formats_are_refused() -> None:
    with pytest.raises(ValueError, match="format"):
        convolve_adaptively(draw(1, 1, 4, 4), draw(1, 1, 9, 4, 4).bfloat16())


def test_an_untrained_lkpn_gives_the_blurred_latents_back() -> None:
    network = LKPN(TINY)
    blurry, x_t, prompt = draw(2, 4, 16, 8), draw(2, 4, 16, 8, seed=1), draw(2, 5, 6, seed=2)
    assert torch.equal(network(blurry, x_t, 500, prompt), blurry)


def test_an_lkpn_filters_what_is_blurred_with_kernels_from_blurred_first_and_diffused_second() -> None:
    torch.manual_seed(0)
    network = LKPN(TINY)
    torch.nn.init.normal_(network.unet.conv_out.weight)
    blurry, x_t, prompt = draw(2, 4, 16, 8), draw(2, 4, 16, 8, seed=1), draw(2, 5, 6, seed=2)
    channels = network.unet(torch.cat((blurry, x_t), dim=1), 7, prompt, return_dict=False)[0]
    expected = convolve_unfolded(blurry, channels.unflatten(1, (4, 25))) + blurry
    torch.testing.assert_close(network(blurry, x_t, 7, prompt), expected)
    assert not torch.allclose(network(blurry, x_t, 900, prompt), expected)


def test_an_lkpn_in_bfloat16_answers_in_the_format_of_the_latents() -> None:
    network = LKPN(TINY).bfloat16()
    blurry = draw(1, 4, 8, 8)
    assert network(blurry, blurry, 3, draw(1, 5, 6).bfloat16()).dtype == torch.float32


def test_the_published_lkpn_has_its_size() -> None:
    with torch.device("meta"):
        network = LKPN(LKPNConfig())
    assert sum(parameter.numel() for parameter in network.parameters()) == 144_907_236

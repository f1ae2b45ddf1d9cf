"""MAXIM against the published figures, and its pieces against small references of another kind."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

import deblur_cli
from deblur_cli.benchmark.cost import count_macs
from deblur_cli.checkpoint import load_strict, read_metadata
from deblur_cli.conversion.maxim_arrays import PUBLISHED, convert, find_name_fault, name_layers, published_shapes
from deblur_cli.networks.maxim import Maxim, MaximConfig
from deblur_cli.networks.maxim_blocks import CrossGating, MultiAxisMixing, ResizedDense, enlarge, shrink
from deblur_cli.networks.maxim_strips import mix_tokens, over_strips
from deblur_cli.system.typed_tables import read_table

SHIPPED = Path(deblur_cli.__file__).parent / "bundled" / "maxim.safetensors"
TINY = MaximConfig(stages=3, width=8, side=4, window=32)

# Of the picture that each stage makes of `waves()`: mean and deviation of R, G, B, two pixels, RMS change. They were
# computed by an independent port of the published network with the same float16 weights.
FIGURES = (
    (
        (0.496867, 0.502821, 0.402971),
        (0.221408, 0.238691, 0.116600),
        (0.639565, 0.230897, 0.218236),
        (0.824459, 0.811041, 0.422823),
        0.030459,
    ),
    (
        (0.501253, 0.503243, 0.401583),
        (0.216950, 0.272506, 0.144126),
        (0.684674, 0.184694, 0.204566),
        (0.806628, 0.832328, 0.383763),
        0.048344,
    ),
    (
        (0.501175, 0.502211, 0.399291),
        (0.215385, 0.274682, 0.134990),
        (0.690391, 0.165749, 0.202929),
        (0.803026, 0.825090, 0.399729),
        0.047314,
    ),
)


def waves() -> Tensor:
    """(1, 3, 128, 128): the picture of the figures."""
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    red = 0.5 + 0.3 * torch.sin(0.21 * x + 0.13 * y)
    green = 0.5 + 0.3 * torch.cos(0.17 * x - 0.11 * y)
    blue = 0.4 + 0.2 * torch.sin(0.05 * x) * torch.cos(0.31 * y)
    return torch.stack((red, green, blue))[None]


def lively(network: nn.Module) -> nn.Module:
    """Random weights of a size that leaves no layer without effect."""
    generator = torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    return network.eval()


def random(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def published() -> Maxim:
    network = Maxim(MaximConfig(**read_metadata(SHIPPED)["config"]))
    load_strict(network, SHIPPED)
    return network.eval()


@pytest.fixture(scope="module")
def residuals(published: Maxim) -> list[Tensor]:
    """What every stage changes in `waves()`."""
    with torch.inference_mode():
        return list(published.predict_residuals(waves()))


def test_every_stage_of_the_shipped_weights_gives_the_published_picture(residuals: list[Tensor]) -> None:
    for residual, (mean, deviation, middle, corner, change) in zip(residuals, FIGURES, strict=True):
        picture = waves() + residual
        found = (picture.mean((0, 2, 3)), picture.std((0, 2, 3)), picture[0, :, 40, 77], picture[0, :, 5, 5])
        for values, wanted in zip(found, (mean, deviation, middle, corner), strict=True):
            assert torch.allclose(values, torch.tensor(wanted), atol=1e-4)
        assert abs(float(residual.square().mean().sqrt()) - change) <= 1e-4


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_the_first_stages_are_a_network_of_their_own(published: Maxim, residuals: list[Tensor], stages: int) -> None:
    part = published.reshaped(MaximConfig(stages=stages, window=128)).eval()
    with torch.inference_mode():
        assert torch.equal(part.predict_residual(waves()), residuals[stages - 1])
    assert part.config.window == 128


def test_a_network_holds_no_other_with_more_stages() -> None:
    with pytest.raises(ValueError, match="holds no"):
        Maxim(MaximConfig(stages=1, width=8, side=4)).reshaped(MaximConfig(stages=2, width=8, side=4))


@pytest.mark.parametrize("across", [True, False])
def test_mixing_is_what_a_loop_over_all_tokens_gives(*, across: bool) -> None:
    side, height, width, mix = 2, 6, 4, nn.Linear(4, 4)
    features = random(1, height, width, 3)
    rows, columns = height // side, width // side
    expected = torch.zeros_like(features)
    for i in range(rows):
        for j in range(columns):
            if across:  # the same place in each of the cells of the grid
                places = [(a * rows + i, b * columns + j) for a in range(side) for b in range(side)]
            else:  # the pixels of one block
                places = [(i * side + a, j * side + b) for a in range(side) for b in range(side)]
            for channel in range(3):
                tokens = torch.stack([features[0, y, x, channel] for y, x in places])
                for (y, x), value in zip(places, mix.weight @ tokens + mix.bias, strict=True):
                    expected[0, y, x, channel] = value

    def at_grid(_: Tensor, tokens: Tensor) -> Tensor:
        return mix_tokens(tokens, mix) if across else torch.zeros_like(tokens)

    def at_blocks(tokens: Tensor) -> Tensor:
        return torch.zeros_like(tokens) if across else mix_tokens(tokens, mix)

    for gradients in (True, False):
        with torch.inference_mode(not gradients):
            mixed = over_strips(features, side, nn.Identity(), at_grid, at_blocks)
            assert torch.allclose(mixed, expected, atol=1e-6)


@pytest.mark.parametrize("width", [16, 2048, 8192])
def test_strip_by_strip_is_what_all_at_once_gives(width: int) -> None:
    """Of four strips each: all fit into a cache, three do, or one."""
    mixing, features = lively(MultiAxisMixing(8, 4)), random(1, 16, width, 8)
    at_once = mixing(features).detach()
    with torch.inference_mode():
        assert torch.allclose(mixing(features), at_once, rtol=1e-5, atol=1e-4)
    assert at_once.std() > 0.1


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("shape", [(16, 24), (4, 4)])
def test_shrinking_is_antialiased_with_edges_made_up_for(factor: int, shape: tuple[int, int]) -> None:
    features = random(2, *shape, 5)
    planes = features.permute(0, 3, 1, 2)
    expected = functional.interpolate(planes, scale_factor=1 / factor, mode="bilinear", antialias=True)
    assert torch.allclose(shrink(features, factor), expected.permute(0, 2, 3, 1), atol=1e-6)


def test_halving_uses_the_taps_one_three_three_one() -> None:
    ramp = torch.zeros(1, 8, 2, 1)
    ramp[0, 3] = 8.0
    assert shrink(ramp, 2)[0, :, 0, 0].tolist() == pytest.approx([0.0, 3.0, 1.0, 0.0])


@pytest.mark.parametrize("shrinking", [1, 2, 0, -1, -2])
def test_resizing_and_the_dense_layer_may_change_places(shrinking: int) -> None:
    layer, features = ResizedDense(3, 5, shrinking), random(1, 16, 16, 3)
    dense_first = layer.dense(features)
    factor = 2.0**-shrinking
    expected = functional.interpolate(
        dense_first.permute(0, 3, 1, 2), scale_factor=factor, mode="bilinear", antialias=shrinking > 0
    ).permute(0, 2, 3, 1)
    assert torch.allclose(layer(features), expected, atol=1e-5)


def test_enlarging_by_one_changes_nothing() -> None:
    features = random(1, 4, 4, 2)
    assert torch.equal(enlarge(features, 1), features)


def test_a_published_transposed_kernel_puts_each_pixel_into_its_own_two_by_two() -> None:
    network = Maxim(MaximConfig())
    arrays = {name: random(*shape) for name, shape in published_shapes().items()}
    network.load_state_dict(convert(arrays, 1))
    kernel = arrays["stage_0_decoder_block_0/ConvTranspose_0/kernel"]  # (2, 2, out, in)
    bias, features = arrays["stage_0_decoder_block_0/ConvTranspose_0/bias"], random(1, 64, 3, 4)
    raised = network.stages[0].ups[0](features)
    for down in (0, 1):
        for right in (0, 1):
            expected = torch.einsum("oi,bihw->bohw", kernel[down, right], features) + bias[:, None, None]
            assert torch.allclose(raised[:, :, down::2, right::2], expected, atol=1e-4)


def test_cross_gating_is_its_formula() -> None:
    block = lively(CrossGating(6, 8, 4))
    assert isinstance(block, CrossGating)
    x, y = random(1, 8, 8, 6), random(1, 8, 8, 8)
    parts = [x[..., :2].contiguous(), x[..., 2:].contiguous()]
    result, passed = block(parts, y)
    with torch.inference_mode():
        assert torch.allclose(torch.stack(block(parts, y)), torch.stack((result, passed)), atol=1e-5)
    x, y = block.enter_x(x), block.enter_y(y)
    inner_x = functional.gelu(block.spread_x(block.norm_x(x)), approximate="tanh")
    inner_y = functional.gelu(block.spread_y(block.norm_y(y)), approximate="tanh")
    y_hat = block.gather_y(inner_y * block.gate_x(inner_x)) + y
    x_hat = block.gather_x(inner_x * block.gate_y(inner_y))
    assert torch.allclose(passed, y_hat, atol=1e-5)
    assert torch.allclose(result, x_hat + y_hat + x, atol=1e-5)


def test_every_weight_of_every_stage_learns() -> None:
    network = lively(Maxim(TINY)).train()
    assert isinstance(network, Maxim)
    residuals = network.predict_residuals(random(2, 3, 32, 32))
    torch.stack([residual.square().mean() for residual in residuals]).sum().backward()
    still = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    # The side pictures of the coarser levels are seen by the next stage alone.
    assert not still


def test_activations_computed_again_give_the_same_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        network = lively(Maxim(TINY)).train()
        network.checkpointing = checkpointing
        network(random(1, 3, 32, 32)).square().mean().backward()
        gradients.append([parameter.grad for parameter in network.parameters() if parameter.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("values", [{"stages": 0}, {"stages": 4}, {"side": 5}, {"window": 100}, {"window": 0}], ids=str)
def test_a_shape_that_cannot_be_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        read_table(MaximConfig, values)


def test_the_published_names_are_as_many_as_the_published_tensors() -> None:
    shapes = published_shapes()
    assert len(shapes) == 2750
    assert shapes["stage_0_encoder_block_0/Conv_0/kernel"] == (1, 1, 64, 32)
    assert shapes["stage_2_output_conv_0/kernel"] == (3, 3, 32, 3)
    assert name_layers(PUBLISHED.stages)["stages.1.skip_resizes.0.2.dense"] == "UpSampleRatio_26/Conv_0"


def test_names_that_are_not_the_published_ones_are_told() -> None:
    shapes = published_shapes()
    assert find_name_fault(shapes.keys(), shapes) is None
    name = "stage_1_input_conv_0/bias"
    assert find_name_fault(shapes.keys() - {name}, shapes) == f"{name} is missing"
    assert find_name_fault(shapes.keys() | {"extra"}, shapes) == "extra does not belong there"


def test_the_shipped_file_is_the_published_numbers_in_another_order() -> None:
    state = load_file(SHIPPED)
    assert sum(tensor.numel() for tensor in state.values()) == 22_207_605  # of the published 2,750 tensors
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}


def test_one_pass_over_the_memory_counts_and_computes_what_many_do(published: Maxim) -> None:
    network, picture = published.reshaped(MaximConfig()).eval(), waves()
    with torch.inference_mode():
        fused = network.predict_residual(picture)
        found = count_macs(lambda: network.predict_residual(picture))
    assert torch.allclose(fused, network.predict_residual(picture), atol=1e-5)
    assert found == count_macs(lambda: network.predict_residual(picture))


def test_it_runs_without_gradient_under_autocast_as_a_training_validates(published: Maxim) -> None:
    network, picture = published.reshaped(MaximConfig()).eval(), waves()
    with torch.no_grad():
        exact = network.predict_residual(picture)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network.predict_residual(picture).float()
    assert (exact - rounded).square().mean().sqrt() < 0.01

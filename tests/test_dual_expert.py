"""The dual expert: what the flow adds to an estimate, whatever the tiles, and what keeps it from doing harm."""

import numpy as np
import pytest
import torch
from support.dual_expert_factory import (
    CHANNELS,
    CPU,
    WINDOW,
    Flow,
    build,
    build_codec,
    halving,
    levels_apart,
    lively,
    photo,
    stand_still,
    wander,
)
from support.fake_backend import FakeBackend
from torch import Tensor, nn

from deblur_cli.backends.expert import ExpertBackend
from deblur_cli.errors import BackendError, PhotoError
from deblur_cli.networks.dense_unet import DenseUNet, DenseUNetConfig
from deblur_cli.restoration.contract import Enhancing, Order, Stopped, Watch
from deblur_cli.restoration.pipeline import restore_image
from deblur_cli.restoration.tiling import Tiling


def test_it_is_a_backend_with_a_second_stage() -> None:
    assert isinstance(build(), Enhancing)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_with_strength_0_the_picture_is_the_experts_to_the_bit(dtype: torch.dtype) -> None:
    network = lively(DenseUNet(DenseUNetConfig(4, (8, 12), (1, 1), (1,))))
    assert isinstance(network, DenseUNet)
    expert = ExpertBackend("expert", network, CPU, dtype, Tiling(96, 16, 16, 16))
    blurry = photo(dtype=np.uint16)
    alone = restore_image(blurry, expert)
    assert np.array_equal(restore_image(blurry, build(expert=expert, dtype=dtype, strength=0.0)), alone)
    assert not np.array_equal(restore_image(blurry, build(expert=expert, dtype=dtype, strength=0.1)), alone)


@pytest.mark.parametrize("steps", [1, 5])
def test_a_flow_that_stands_still_gives_exactly_the_estimate(steps: int) -> None:
    blurry = photo(dtype=np.uint16)
    backend = build(Flow(stand_still), halving(), steps=steps, keep_low=True, guard=True)
    assert np.array_equal(restore_image(blurry, backend), restore_image(blurry, halving()))


def test_without_an_expert_the_flow_starts_from_the_photo_as_taken() -> None:
    blurry = photo(dtype=np.uint16)
    assert np.array_equal(restore_image(blurry, build(Flow(stand_still))), blurry)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_constant_velocity_adds_what_the_codec_decodes_of_it(steps: int) -> None:
    velocity = torch.randn(CHANNELS, generator=torch.Generator().manual_seed(5))[:, None, None]
    backend = build(Flow(lambda x_t, t, blurry: velocity.expand_as(x_t)), halving(), steps=steps, strength=0.5)
    blurry = photo(96, 112)
    estimate = torch.from_numpy(blurry / np.float32(255)) / 2  # (H, W, 3)
    codec, source = build_codec(), estimate.permute(2, 0, 1)[None]
    with torch.inference_mode():
        residual = codec.decode(velocity.expand(CHANNELS, 12, 14)[None].clone(), source)[0].permute(1, 2, 0)
        expected = estimate + 0.5 * residual
        restored = backend.enhance(blurry, estimate.clone(), Order())
    assert residual.std() > 0.02
    assert (restored - expected).abs().max() <= 1e-5


def test_the_decoder_gets_the_difference_to_the_clean_start_never_the_noise_alone() -> None:
    """A flow that leads from the noisy start back to the clean one gives the estimate."""
    blurry = photo(64, 64, np.uint16)
    with torch.inference_mode():
        clean = build_codec().encode(torch.from_numpy(blurry / np.float32(65535)).permute(2, 0, 1)[None])
    back = Flow(lambda x_t, t, _: (clean - x_t) / (1 - t[:, None, None, None]))
    assert levels_apart(restore_image(blurry, build(back, start_noise=0.3)), blurry) <= 2
    assert levels_apart(restore_image(blurry, build(Flow(stand_still), start_noise=0.3)), blurry) > 300


def test_the_blurry_photo_is_shown_to_a_widened_flow_only() -> None:
    blurry, seen = photo(64, 64), []

    def remember(x_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        seen.append(condition)
        return torch.zeros_like(x_t)

    restore_image(blurry, build(Flow(remember), halving(), steps=1))
    restore_image(blurry, build(Flow(remember, is_widened=True), halving(), steps=1))
    with torch.inference_mode():
        expected = build_codec().encode(torch.from_numpy(blurry / np.float32(255)).permute(2, 0, 1)[None])
    assert seen[0] is None
    assert (seen[1] - expected).abs().max() <= 1e-5


# --- what must not matter -----------------------------------------------------------------------------------------


def test_tiles_and_batches_change_no_pixel_by_more_than_one_level() -> None:
    """One level of 8 bit: sums in another order round otherwise, and a value may lie on the edge of rounding."""
    blurry = photo(310, 275)
    settings = {"start_noise": 0.2, "keep_low": True, "guard": True, "steps": 3}
    whole = restore_image(blurry, build(Flow(wander, is_widened=True), halving(), **settings), tile=1024)
    for tile in (64, 128, 200):
        flow = Flow(wander, is_widened=True)
        assert levels_apart(restore_image(blurry, build(flow, halving(), **settings), tile=tile), whole) <= 1
        assert max(flow.batches) == max(1, tile**2 // 64**2)
    assert levels_apart(whole, restore_image(blurry, halving())) > 10


def test_a_seed_is_a_picture() -> None:
    blurry, backend = photo(100, 90), build(start_noise=0.3)
    first, again, other = (restore_image(blurry, backend, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 90), (64, 64), (65, 63), (17, 200)])
def test_photos_of_any_size_come_back_in_their_size(height: int, width: int) -> None:
    backend = build(Flow(wander, is_widened=True), halving(), start_noise=0.1, keep_low=True, guard=True)
    assert restore_image(photo(height, width), backend, tile=64).shape == (height, width, 3)


# --- the guard ----------------------------------------------------------------------------------------------------


def test_low_frequencies_come_from_the_estimate() -> None:
    velocity = torch.full((CHANNELS, 1, 1), 0.5)
    shift = Flow(lambda x_t, t, blurry: velocity.expand_as(x_t))
    blurry = np.full((160, 160, 3), 128, np.uint16) * 257
    free, kept = (restore_image(blurry, build(shift, keep_low=keep_low)) for keep_low in (False, True))
    means = [np.abs(restored[32:128, 32:128].astype(float).mean() - 128 * 257) for restored in (free, kept)]
    assert means[0] > 100
    assert means[1] <= 0.05 * means[0]


def test_a_window_that_is_no_number_falls_back_to_the_estimate_and_is_told() -> None:
    blurry, said = photo(200, 260), []
    lost = Flow(lambda x_t, t, _: torch.full_like(x_t, torch.nan))
    restored = restore_image(blurry, build(lost, halving(), guard=True), watch=Watch(on_event=said.append))
    assert np.array_equal(restored, restore_image(blurry, halving()))
    assert len(said) == 1
    assert "20 of 20 blocks of 64 pixels come from the estimate, the first at row 0, column 0" in said[0]
    with pytest.raises(PhotoError, match="not finite"):
        restore_image(blurry, build(lost, halving()))


def test_invented_colours_fall_back_and_are_told() -> None:
    said: list[str] = []
    signs = (torch.arange(WINDOW)[:, None] + torch.arange(WINDOW)) % 2 * 8.0 - 4
    mosaic = Flow(lambda x_t, t, _: signs.expand_as(x_t) * torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None, None])
    blurry = np.full((128, 128, 3), 128, np.uint8)
    watch = Watch(on_event=said.append)
    assert levels_apart(restore_image(blurry, build(mosaic)), blurry) > 30
    assert np.array_equal(restore_image(blurry, build(mosaic, guard=True), watch=watch), blurry)
    assert "4 of 4 blocks" in said[0]


def test_what_overflows_in_bfloat16_is_computed_again_in_float32() -> None:
    class Overflowing(Flow):
        def __init__(self) -> None:
            super().__init__(stand_still)
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x_t: Tensor, t: Tensor, blurry: Tensor | None = None) -> Tensor:
            return x_t * (0 if self.weight.dtype == torch.float32 else torch.inf)

    blurry = photo(64, 80)
    assert np.array_equal(restore_image(blurry, build(Overflowing(), dtype=torch.bfloat16)), blurry)


# --- a base without adapter: the baseline -------------------------------------------------------------------------


def test_a_generic_flow_paints_the_estimate_anew_from_noise() -> None:
    sigma, blurry = 0.4, photo(64, 64)
    times: list[float] = []

    def lead(x_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        assert condition is None
        times.append(float(t[0]))
        return torch.full_like(x_t, 0.25)

    backend = build(Flow(lead), halving(), generic_noise=sigma, steps=3, strength=1.0)
    estimate = torch.from_numpy(blurry / np.float32(255)) / 2
    codec, grey = build_codec(), torch.full((1, 3, 64, 64), 0.5)
    noise = torch.randn(1, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        x_1 = (1 - sigma) * codec.encode(estimate.permute(2, 0, 1)[None]) + sigma * noise + sigma * 0.25
        expected = grey + codec.decode(x_1 - codec.encode(grey), grey)
        restored = backend.enhance(blurry, estimate.clone(), Order(seed=4))
    assert times == pytest.approx([0.6, 0.6 + 0.4 / 3, 0.6 + 0.8 / 3])
    assert (restored - expected[0].permute(1, 2, 0)).abs().max() <= 1e-5


# --- progress, stop, memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"strength": 0.0}, {"generic_noise": 0.5}])
@pytest.mark.parametrize("expert", [None, halving()])
def test_pixels_are_counted_once_each(settings: dict[str, float], expert: FakeBackend | None) -> None:
    counted: list[int] = []
    restore_image(photo(201, 149), build(expert=expert, **settings), tile=128, watch=Watch(on_pixels=counted.append))
    assert sum(counted) == 201 * 149
    assert min(counted) >= 0
    alone: list[int] = []
    order = Order(watch=Watch(on_pixels=alone.append))
    build(**settings).enhance(photo(201, 149), torch.zeros(201, 149, 3), order)
    assert sum(alone) == 201 * 149


def test_stop_is_asked_between_windows() -> None:
    flow = Flow(wander)
    watch = Watch(stop=lambda: len(flow.batches) >= 3)
    with pytest.raises(Stopped):
        restore_image(photo(), build(flow), tile=64, watch=watch)
    assert len(flow.batches) == 3


def test_out_of_memory_in_the_second_stage_halves_the_tile_and_the_photo_comes_out_the_same() -> None:
    said: list[str] = []

    def greedy(x_t: Tensor, t: Tensor, blurry: Tensor | None) -> Tensor:
        if len(x_t) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return wander(x_t, t, blurry)

    blurry, settings = photo(300, 290), {"start_noise": 0.2, "keep_low": True, "guard": True}
    expected = restore_image(blurry, build(Flow(wander), halving(), **settings), tile=1024)
    backend = build(Flow(greedy), halving(), **settings)
    restored = restore_image(blurry, backend, tile=512, watch=Watch(on_event=said.append))
    assert levels_apart(restored, expected) <= 1
    assert said == [
        "out of memory with tiles of 512 pixels; going on with 256",
        "out of memory with tiles of 256 pixels; going on with 128",
    ]


def test_the_module_has_every_parameter_once() -> None:
    backend = build(Flow(wander), halving())
    assert sum(value.numel() for value in backend.module.parameters()) == 3 + sum(
        value.numel() for value in build_codec().parameters()
    )
    assert set(dict(backend.module.named_children())) == {"expert", "codec", "flow"}


def test_memory_that_never_suffices_is_a_clear_error() -> None:
    def greedy(x_t: Tensor, t: Tensor, blurry: Tensor | None) -> Tensor:
        raise MemoryError

    with pytest.raises(BackendError, match="even with tiles of"):
        restore_image(photo(80, 80), build(Flow(greedy)), tile=256)

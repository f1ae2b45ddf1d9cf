"""Truths about paths of a hand: centred, as long as asked, and one blur whether by kernels or by views."""

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from deblur_cli.networks.deconvolution import convolve
from deblur_cli.training.dice import Dice
from deblur_cli.training.hand_paths import REACH, average_along, draw_hand_path, draw_roll, to_kernels

LENGTHS = torch.tensor([2.0, 5.0, 9.0, 14.0])


def dice(seed: int = 0) -> Dice:
    return Dice(torch.Generator().manual_seed(seed))


def photos(side: int = 96) -> Tensor:
    coarse = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    return functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)


def inside(picture: Tensor, border: int = 24) -> Tensor:
    return picture[..., border:-border, border:-border]


@pytest.mark.parametrize("length", [2.0, 9.0, 60.0])
def test_kernels_of_a_hand_sum_to_one_and_have_their_centroid_in_the_centre(length: float) -> None:
    kernels = to_kernels(draw_hand_path(torch.full((16,), length), dice()), 93)
    axis = torch.arange(93) - 46.0
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(16))
    assert (kernels.sum(1) @ axis).abs().max() < 0.01
    assert (kernels.sum(2) @ axis).abs().max() < 0.01


def test_every_photo_has_a_path_of_its_own_length_that_stays_within_reach() -> None:
    lengths = torch.tensor([2.0, 9.0, 30.0, 60.0]).repeat(16)
    shift = draw_hand_path(lengths, dice()).shift
    extent = (shift.amax(2) - shift.amin(2)).norm(dim=1)
    assert (shift.norm(dim=1).amax(1) <= REACH * lengths + 1e-3).all()
    assert (extent <= lengths + 1e-3).all()
    assert (extent > 0.75 * lengths).all()
    assert ((extent - lengths).abs() < 1e-3).float().mean() > 0.8


def test_paths_go_from_nearly_straight_to_jittery() -> None:
    shift = draw_hand_path(torch.full((64,), 30.0), dice()).shift
    detour = shift.diff(dim=2).norm(dim=1).sum(1) / 30
    assert detour.min() < 1.05
    assert detour.max() > 2.5


def test_a_hand_stays_longer_at_some_places() -> None:
    dwell = draw_hand_path(torch.full((64,), 30.0), dice()).dwell
    torch.testing.assert_close(dwell.sum(1), torch.ones(64))
    unevenness = dwell.amax(1) / dwell.mean(1)
    assert unevenness.min() < 1.5
    assert unevenness.max() > 4


def test_views_without_roll_and_depth_are_the_convolution_with_the_kernel() -> None:
    path = draw_hand_path(LENGTHS, dice(), points=30)
    by_kernel = convolve(photos(), to_kernels(path, 31))
    torch.testing.assert_close(inside(average_along(photos(), path)), inside(by_kernel), atol=1e-4, rtol=0)


def test_a_near_layer_that_moves_as_the_rest_changes_nothing() -> None:
    path = draw_roll(draw_hand_path(LENGTHS, dice(), points=30), LENGTHS, (96, 96), dice(1))
    near = torch.rand(4, 1, 96, 96, generator=torch.Generator().manual_seed(2))
    together = average_along(photos(), path, near, torch.ones(4))
    torch.testing.assert_close(together, average_along(photos(), path), atol=1e-5, rtol=0)


def test_a_near_layer_that_stands_still_is_not_blurred() -> None:
    path = draw_hand_path(LENGTHS, dice(), points=30)
    still = average_along(photos(), path, torch.ones(4, 1, 96, 96), torch.zeros(4))
    torch.testing.assert_close(still, photos(), atol=1e-5, rtol=0)


def test_roll_of_length_nothing_changes_nothing() -> None:
    path = draw_hand_path(LENGTHS, dice(), points=30)
    rolled = draw_roll(path, torch.zeros(4), (96, 96), dice(1))
    torch.testing.assert_close(average_along(photos(), rolled), average_along(photos(), path))


def test_roll_turns_about_its_pivot_and_moves_no_pixel_in_the_mean() -> None:
    path = draw_roll(draw_hand_path(LENGTHS, dice(), points=30), LENGTHS, (96, 96), dice(1))
    assert (path.roll * path.dwell).sum(1).abs().max() < 1e-6
    only = dataclasses.replace(path, shift=torch.zeros_like(path.shift), pivot=torch.zeros(4, 2))
    slope = torch.linspace(0, 1, 96).expand(4, 3, 96, 96)
    torch.testing.assert_close(inside(average_along(slope, only)), inside(slope), atol=1e-4, rtol=0)
    change = (average_along(photos(), only) - photos()).abs()[3]
    assert inside(change, 46).mean() < 0.25 * change.mean()

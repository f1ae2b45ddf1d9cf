"""Pictures are moved to where others have the same, by parts of a pixel."""

import pytest
import torch
from torch import Tensor

from deblur_cli.networks.registration import find_translation, register, translate


def scene(seed: int = 1) -> Tensor:
    """(1, 3, 96, 128), with nothing finer than four pixels."""
    coarse = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bicubic")


def test_whole_pixels_are_a_roll() -> None:
    assert torch.allclose(translate(scene(), torch.tensor([[2.0, -3.0]])), scene().roll((2, -3), (-2, -1)), atol=1e-5)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -7.0), (0.5, 0.25), (-8.3, 8.4)])
def test_the_shift_of_a_picture_is_found(shift: tuple[float, float]) -> None:
    wanted = torch.tensor([shift])
    found = find_translation(scene(), translate(scene(), wanted), 9)
    assert torch.allclose(found, wanted, atol=0.15)


def test_every_picture_of_a_batch_has_its_own() -> None:
    pictures = torch.cat((scene(1), scene(2)))
    shifts = torch.tensor([[4.0, 0.5], [-2.0, 1.0]])
    fixed = translate(pictures, shifts)
    assert torch.allclose(find_translation(pictures, fixed, 6), shifts, atol=0.15)
    away = (register(pictures, fixed, 6) - fixed)[..., 24:-24, 24:-24]
    assert float(away.abs().max()) < 0.1


def test_a_shift_out_of_reach_stays_within_it() -> None:
    found = find_translation(scene(), scene().roll(9, -1), 4)
    assert float(found.abs().max()) <= 4.5


def test_flat_pictures_stay_where_they_are_or_move_by_what_is_finite() -> None:
    flat = torch.full((1, 3, 64, 64), 0.5)
    assert torch.allclose(register(flat, flat, 5), flat, atol=1e-5)

"""The straight path, held against fields whose solutions are known in closed form."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from deblur_cli.sampling.rectified_flow import (
    draw_times,
    interpolate,
    renoise,
    sample_euler,
    start,
    timesteps,
    velocity_target,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def test_the_path_starts_at_the_source_and_ends_at_the_target() -> None:
    x_0, x_1 = normal(3, 4, 2, 2), normal(3, 4, 2, 2, seed=1)
    t = torch.tensor([0.0, 1.0, 0.25], dtype=torch.float64)
    x_t = interpolate(x_0, x_1, t)
    assert torch.equal(x_t[0], x_0[0])
    assert torch.equal(x_t[1], x_1[1])
    torch.testing.assert_close(x_t[2], 0.75 * x_0[2] + 0.25 * x_1[2])


def test_the_velocity_is_the_slope_of_the_path_at_every_time() -> None:
    x_0, x_1 = normal(5, 3), normal(5, 3, seed=1)
    velocity = velocity_target(x_0, x_1)
    torch.testing.assert_close(x_0 + velocity, x_1)
    early, late = (interpolate(x_0, x_1, torch.full((5,), t, dtype=torch.float64)) for t in (0.3, 0.7))
    torch.testing.assert_close((late - early) / 0.4, velocity)


@pytest.mark.parametrize("count", [1, 2, 16, 1000])
def test_drawn_times_fall_one_into_each_stratum(count: int) -> None:
    t = draw_times(count, seeded())
    assert t.shape == (count,)
    assert 0 <= t.min() <= t.max() < 1
    assert sorted((t.double() * count).floor().int().tolist()) == list(range(count))


def test_drawn_times_are_shuffled_and_each_place_is_uniform() -> None:
    generator = seeded()
    t = torch.stack([draw_times(4, generator) for _ in range(4000)])
    assert (t.mean(0) - 0.5).abs().max() < 4 * math.sqrt(1 / 12 / 4000)
    assert (t.var(0) - 1 / 12).abs().max() < 0.005
    assert torch.equal(draw_times(9, seeded(3)), draw_times(9, seeded(3)))


def test_the_start_adds_noise_of_the_level_asked_for() -> None:
    source, noise = normal(2, 3), normal(2, 3, seed=1)
    assert torch.equal(start(source, noise, 0), source)
    torch.testing.assert_close(start(source, noise, 0.1) - source, 0.1 * noise)


@pytest.mark.parametrize(("steps", "begin"), [(1, 0.0), (3, 0.0), (7, 0.3), (49, 0.7)])
def test_timesteps_are_even_and_their_ends_exact(steps: int, begin: float) -> None:
    times = timesteps(steps, begin)
    assert len(times) == steps + 1
    assert (times[0], times[-1]) == (begin, 1.0)
    gaps = [late - early for early, late in pairwise(times)]
    assert gaps == pytest.approx([(1 - begin) / steps] * steps)


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_a_constant_field_is_followed_exactly(steps: int) -> None:
    x_0, x_1 = normal(2, 3), normal(2, 3, seed=1)
    velocity = velocity_target(x_0, x_1)
    torch.testing.assert_close(sample_euler(lambda x_t, t: velocity, x_0, steps), x_1, rtol=0, atol=1e-14)


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
@pytest.mark.parametrize("rate", [-1.5, 0.7])
def test_on_a_linear_field_the_sampler_grows_as_its_formula_says(steps: int, rate: float) -> None:
    """dx/dt = a x: a step of length h multiplies by 1 + ah."""
    x_0, growth = normal(4), rate / steps
    euler = sample_euler(lambda x_t, t: rate * x_t, x_0, steps)
    torch.testing.assert_close(euler, x_0 * (1 + growth) ** steps)


def test_the_error_falls_with_the_number_of_steps() -> None:
    """dx/dt = -2 t x, whose solution is x_0 exp(-t²): the field depends on time too."""
    x_0 = torch.ones(1, dtype=torch.float64)
    errors = [float((sample_euler(lambda x_t, t: -2 * t * x_t, x_0, n) - math.exp(-1)).abs()) for n in (64, 128)]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)


def test_the_field_is_asked_at_the_beginning_of_each_step_only() -> None:
    asked: list[float] = []

    def field(x_t: Tensor, t: float) -> Tensor:
        asked.append(t)
        return torch.zeros_like(x_t)

    sample_euler(field, normal(1), 4, begin=0.2)
    assert asked == list(timesteps(4, 0.2)[:-1])


def noisy_two_point_field(level: float):
    """The exact field E[x_1 - x_0 | x_t] for x_1 = ±1 with equal chance and x_0 = level * n around the mean 0.

    Given x_1, x_t = t x_1 + (1 - t) level n is normal with mean t x_1 and deviation s = (1 - t) level, so by Bayes
    E[x_1 | x_t] = tanh(t x_t / s²). With x_0 = (x_t - t x_1) / (1 - t) the velocity is (E[x_1 | x_t] - x_t) / (1 - t).
    """

    def field(x_t: Tensor, t: float) -> Tensor:
        expected = torch.tanh(t * x_t / ((1 - t) * level) ** 2)
        return (expected - x_t) / (1 - t)

    return field


def bare_two_point_field(source: float, mean: float):
    """The exact field without start noise: at t = 0 all that is known is the mean of the targets; later,
    x_t = (1 - t) source + t x_1 gives x_1 away, and the velocity x_1 - source is (x_t - source) / t."""

    def field(x_t: Tensor, t: float) -> Tensor:
        return torch.full_like(x_t, mean - source) if t == 0 else (x_t - source) / t

    return field


@pytest.mark.parametrize("steps", [1, 2, 4, 50])
def test_without_start_noise_every_number_of_steps_ends_at_the_mean(steps: int) -> None:
    source, mean = -0.5, 0.25 * -1 + 0.75 * 3  # targets -1 and 3, with chances 1/4 and 3/4
    x_0 = torch.full((100,), source, dtype=torch.float64)
    x_1 = sample_euler(bare_two_point_field(source, mean), x_0, steps)
    torch.testing.assert_close(x_1, torch.full_like(x_0, mean))


def test_with_start_noise_one_step_ends_at_the_mean_and_four_at_the_targets() -> None:
    x_0 = start(torch.zeros(10_000, dtype=torch.float64), normal(10_000), 0.1)
    one, four = (sample_euler(noisy_two_point_field(0.1), x_0, steps) for steps in (1, 4))
    assert one.abs().max() < 1e-12
    assert ((four.abs() - 1).abs() < 1e-3).double().mean() > 0.99
    assert (four > 0).double().mean() == pytest.approx(0.5, abs=0.02)
    assert four.square().mean() > 0.99  # the mean squared error of a drawn target, against 0 of the mean itself


@pytest.mark.parametrize("steps", [1, 3, 10])
@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0])
def test_a_renoised_point_flows_back_to_the_only_picture_there_is(steps: int, sigma: float) -> None:
    """All data in one point p: E[x_1 | x_t] = p, so the exact field is (p - x_t) / (1 - t)."""
    picture, noise = normal(1, 4, 3, 3), normal(1, 4, 3, 3, seed=1)
    x_t = renoise(picture, noise, sigma)
    torch.testing.assert_close(x_t, interpolate(noise, picture, torch.tensor([1 - sigma], dtype=torch.float64)))
    restored = sample_euler(lambda x, t: (picture - x) / (1 - t), x_t, steps, begin=1 - sigma)
    torch.testing.assert_close(restored, picture, rtol=0, atol=1e-12)


def test_renoising_by_nothing_changes_nothing() -> None:
    assert torch.equal(renoise(normal(3), normal(3, seed=1), 0), normal(3))


@pytest.mark.parametrize(
    "nonsense",
    [
        lambda: interpolate(normal(2, 3), normal(2, 4), torch.zeros(2)),
        lambda: interpolate(normal(2, 3), normal(2, 3), torch.zeros(1)),
        lambda: velocity_target(normal(2, 3), normal(1, 3)),
        lambda: draw_times(0, seeded()),
        lambda: start(normal(2), normal(1), 0.1),
        lambda: start(normal(2), normal(2), -0.1),
        lambda: start(normal(2), normal(2), math.nan),
        lambda: renoise(normal(2), normal(2), 1.1),
        lambda: timesteps(0),
        lambda: timesteps(4, 1.0),
        lambda: timesteps(4, math.nan),
        lambda: sample_euler(lambda x, t: x, normal(1), 0),
        lambda: sample_euler(lambda x, t: x, normal(1), 4, begin=-0.1),
    ],
)
def test_nonsense_is_refused(nonsense) -> None:
    with pytest.raises(ValueError, match=r"shapes|time|must"):
        nonsense()

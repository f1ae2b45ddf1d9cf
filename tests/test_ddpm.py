"""The sampler equals the respaced process worked out in double precision."""

import numpy as np
import pytest
import torch
from torch import Tensor

from deblur_cli.errors import InputError
from deblur_cli.sampling.ddpm import build_scheduler, sample_ddpm


def respace(steps: int) -> tuple[list[int], list[dict[str, float]]]:
    """Timesteps, first to last, and for each the factors of x_0, x_t and noise; Nichol and Dhariwal 2021."""
    betas = np.linspace(0.00085**0.5, 0.0120**0.5, 1000, dtype=np.float64) ** 2
    bars = np.cumprod(1 - betas)
    kept = sorted({round(index * 999 / (steps - 1)) for index in range(steps)})
    factors, before = [], 1.0
    for bar in bars[kept]:
        beta = 1 - bar / before
        factors.append(
            {
                "bar": bar,
                "x_0": np.sqrt(before) * beta / (1 - bar),
                "x_t": np.sqrt(1 - beta) * (1 - before) / (1 - bar),
                "noise": np.sqrt(beta * (1 - before) / (1 - bar)),
            }
        )
        before = bar
    return kept[::-1], factors[::-1]


def pretend(x_t: Tensor, timestep: int) -> Tensor:
    """A network: something bounded that depends on both."""
    return torch.sin(3 * x_t + timestep / 100)


@pytest.mark.parametrize("steps", [50, 20, 5, 2])
def test_every_step_equals_the_respaced_formula(steps: int) -> None:
    timesteps, factors = respace(steps)
    scheduler = build_scheduler(steps)
    assert scheduler.timesteps.tolist() == timesteps
    generator = torch.Generator().manual_seed(5)
    x_t = torch.randn(1, 4, 16, 16, generator=generator)
    for timestep, factor in zip(timesteps, factors, strict=True):
        noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(timestep))
        predicted = pretend(x_t, timestep)
        x_0 = (x_t.double() - np.sqrt(1 - factor["bar"]) * predicted) / np.sqrt(factor["bar"])
        expected = factor["x_0"] * x_0 + factor["x_t"] * x_t + factor["noise"] * noise
        again = torch.Generator().manual_seed(timestep)
        x_t = scheduler.step(predicted, timestep, x_t, generator=again, return_dict=False)[0]
        assert float((x_t - expected).abs().max() / expected.abs().max()) <= 1e-5


def test_the_last_step_adds_no_noise() -> None:
    assert respace(50)[1][-1]["noise"] == 0
    ends = [sample_ddpm(lambda x, _: x, torch.ones(1, 1, 2, 2), 2, torch.Generator().manual_seed(s)) for s in (1, 2)]
    assert not torch.equal(*ends)  # that of the first step
    scheduler = build_scheduler(2)
    last = [scheduler.step(torch.ones(1, 1, 2, 2), 0, torch.zeros(1, 1, 2, 2), return_dict=False)[0] for _ in range(2)]
    assert torch.equal(*last)


@pytest.mark.parametrize("steps", [50, 20, 5])
def test_a_network_that_knows_the_photo_arrives_at_it(steps: int) -> None:
    sharp = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    bars = build_scheduler(2).alphas_cumprod

    def know(x_t: Tensor, timestep: int) -> Tensor:
        return (x_t - bars[timestep].sqrt() * sharp) / (1 - bars[timestep]).sqrt()

    generator = torch.Generator().manual_seed(0)
    start = torch.randn(sharp.shape, generator=generator)
    torch.testing.assert_close(sample_ddpm(know, start, steps, generator), sharp, rtol=1e-5, atol=1e-5)


def test_the_same_generator_walks_the_same_way() -> None:
    start = torch.ones(1, 4, 8, 8)
    walks = [sample_ddpm(pretend, start, 5, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(walks[0], walks[1])
    assert not torch.equal(walks[0], walks[2])


@pytest.mark.parametrize("steps", [-1, 0, 1, 1001])
def test_one_step_which_would_be_timestep_zero_and_other_impossible_numbers_are_refused(steps: int) -> None:
    with pytest.raises(InputError, match=f"--steps {steps}: .*2 to 1000"):
        build_scheduler(steps)

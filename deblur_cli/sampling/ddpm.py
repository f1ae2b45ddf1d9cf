"""The diffusion that DeblurDiff runs: ancestral DDPM on a part of its thousand timesteps. Pure; knows no network."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from deblur_cli.errors import InputError

TIMESTEPS = 1000
FEWEST_STEPS = 2


def check_steps(steps: int) -> int:
    """The number of steps itself.

    Raises:
        InputError: fewer than two, of which the only one would be timestep 0, or more than there are timesteps.
    """
    if not FEWEST_STEPS <= steps <= TIMESTEPS:
        raise InputError(f"--steps {steps}: this diffusion takes {FEWEST_STEPS} to {TIMESTEPS} steps")
    return steps


def build_scheduler(steps: int) -> Any:  # diffusers types its classes only in part
    """diffusers' `DDPMScheduler` with the settings that DeblurDiff was trained and is sampled with.

    Timesteps are spread evenly from 999 to 0, both included; the variance is that of the posterior of the respaced
    process; the network predicts the noise; nothing is clipped.

    Raises:
        InputError: see `check_steps`.
    Source: Nichol and Dhariwal 2021, "Improved DDPM" (arXiv 2102.09672), section 4; Rombach et al. 2022 for the betas.
    """
    scheduler: Any = DDPMScheduler(  # type: ignore[no-untyped-call]
        num_train_timesteps=TIMESTEPS,
        beta_start=0.00085,
        beta_end=0.0120,
        beta_schedule="scaled_linear",
        variance_type="fixed_small",
        prediction_type="epsilon",
        timestep_spacing="linspace",
        clip_sample=False,
    )
    scheduler.set_timesteps(check_steps(steps))
    return scheduler


def diffuse(x_0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """The state of the diffusion at given timesteps, `sqrt(a) * x_0 + sqrt(1 - a) * noise`.

    Args:
        x_0: (B, C, h, w).
        noise: standard normal, same shape.
        timesteps: (B,), whole numbers from 0 to 999; `a` falls with them from nearly 1 to nearly 0.
    Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239), eq. 4.
    """
    x_t: Tensor = build_scheduler(TIMESTEPS).add_noise(x_0, noise, timesteps)
    return x_t


def sample_ddpm(
    predict_noise: Callable[[Tensor, int], Tensor], start: Tensor, steps: int, generator: torch.Generator
) -> Tensor:
    """Walk from pure noise to a sample.

    Args:
        predict_noise: the noise in (x_t, timestep), same shape as x_t.
        start: standard normal noise, float32.
        generator: of the noise that every step but the last adds. One on the CPU draws the same on every device.
    Raises:
        InputError: see `check_steps`.
    """
    scheduler = build_scheduler(steps)
    x_t = start
    for timestep in scheduler.timesteps.tolist():
        noise = predict_noise(x_t, timestep)
        x_t = scheduler.step(noise, timestep, x_t, generator=generator, return_dict=False)[0]
    return x_t

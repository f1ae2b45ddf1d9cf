"""Fit the coefficients of `deblur inspect`: photos are blurred in known ways, and a small network learns to read it.

    python docs/measure/fit_blur_reader.py PHOTOS -o blur_reader.safetensors --cache FOLDER

Every fourth photo is left out, for `blur_measure.py`. The same seed gives the same pictures and nearly the same
coefficients.
"""

import argparse
import math
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from blurred_photos import (
    Blur,
    draw_disc,
    draw_motion,
    expose,
    find_photos,
    is_crisp,
    photograph,
    read_luma,
)
from camera import Floats
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from deblur_cli.restoration.blur_reader import (
    ANGLES,
    KINDS,
    RINGS,
    Reading,
    describe_windows,
    draw_coefficients,
    read_blur,
)
from deblur_cli.restoration.blur_spectrum import SIDE, polar_spectra
from deblur_cli.restoration.blur_windows import has_detail

_CROP = 768
_WINDOWS, _HALF_WINDOWS = 12, 6  # of a picture, and of the same at half its size
_HALVED = 0.3  # share of what is learned from that is at half size
_ALONE = 0.4  # share that is single windows
_SURE = 4.5  # pixels: a blur that is shorter teaches nothing about its kind


def draw_blur(dice: np.random.Generator) -> Blur:
    """One of all blurs that are to be told apart."""
    choice = dice.uniform()
    if choice < 0.27:
        return Blur("sharp")
    if choice < 0.45:
        return draw_disc(math.exp(dice.uniform(math.log(3), math.log(60))))
    length = math.exp(dice.uniform(math.log(2.5), math.log(130)))
    manner = dice.choice(["hand", "hand", "shake", "line"])
    return draw_motion(length, int(dice.integers(2**31)), str(manner))


def label(blur: Blur) -> list[float]:
    """What the network is to say: kind, ln length, direction, ln spread, across."""
    if blur.kind != "motion":
        length = math.log(max(blur.length, 1))
        return [KINDS.index(blur.kind), length, 0, length, 1]
    angle, spread, across = blur.axis
    return [1, math.log(blur.length), angle, math.log(max(spread, 1)), across]


def take_windows(luma: Floats, most: int, dice: np.random.Generator) -> Tensor:
    """(n, RINGS, ANGLES), n at most `most`: power of some of the windows with detail; none of a small picture."""
    height, width = luma.shape
    if min(height, width) < SIDE:
        return torch.zeros(0, RINGS, ANGLES)
    tops, lefts = (
        np.linspace(0, whole - SIDE, math.ceil((whole - SIDE) / 128) + 1).round().astype(int)
        for whole in (height, width)
    )
    windows = np.stack([luma[t : t + SIDE, x : x + SIDE] for t in tops for x in lefts])
    power = polar_spectra(torch.from_numpy(windows))
    power = power[has_detail(power)]
    return power[torch.from_numpy(dice.permutation(len(power))[:most])]


def make_picture(luma: Floats, seed: int) -> tuple[Tensor, Tensor, list[float]]:
    """Windows of one blurred crop, those of the same at half its size, and its labels."""
    dice = np.random.default_rng(seed)
    if dice.uniform() < 0.5 and min(luma.shape) > 500:
        factor = dice.uniform(0.55, 1)
        size = [round(length * factor) for length in luma.shape]
        plane = torch.from_numpy(luma)[None, None]
        luma = functional.interpolate(plane, size=size, mode="bilinear", antialias=True)[0, 0].numpy()
    if dice.uniform() < 0.5:
        luma = luma[:, ::-1]
    if dice.uniform() < 0.3:
        luma = luma.T
    blur = draw_blur(dice)
    height, width = (min(length, _CROP) for length in luma.shape)
    top, left = (int(dice.integers(whole - part + 1)) for whole, part in zip(luma.shape, (height, width), strict=True))
    luma = np.ascontiguousarray(luma[top : top + height, left : left + width])
    softness = dice.uniform(0.3, 1.3) if dice.uniform() < 0.6 else 0.0
    sigma = math.exp(dice.uniform(math.log(0.3), math.log(14))) if dice.uniform() < 0.75 else 0.0
    quality = int(dice.integers(55, 99)) if dice.uniform() < 0.6 else None
    shown = photograph(expose(luma, blur, softness, seed), sigma, quality, seed)
    half = functional.avg_pool2d(torch.from_numpy(shown)[None, None], 2)[0, 0].numpy()
    return take_windows(shown, _WINDOWS, dice), take_windows(half, _HALF_WINDOWS, dice), label(blur)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures to learn from.

    Attributes:
        logs: (n, _WINDOWS + _HALF_WINDOWS, RINGS, ANGLES), float16, logarithms of power, of the full size first.
        counts: (n, 2), windows of either size.
        labels: (n, 5), as `label` gives them.
    """

    logs: Tensor
    counts: Tensor
    labels: Tensor


def make_pictures(photos: list[Path], count: int, seed: int) -> Pictures:
    """Pictures of photos in turn; the same seed makes the same ones, and more of them go on from there."""
    lumas = [luma for path in photos if min((luma := read_luma(path)).shape) >= SIDE + 64 and is_crisp(luma)]
    print(f"{len(lumas)} of {len(photos)} photos are crisp")  # noqa: T201
    logs = torch.zeros(count, _WINDOWS + _HALF_WINDOWS, RINGS, ANGLES, dtype=torch.float16)
    counts, labels = [], []
    for index in range(count):
        full, half, known = make_picture(lumas[index % len(lumas)], seed * 77_000_003 + index)
        logs[index, : len(full)] = (full + 1e-9).log().half()
        logs[index, _WINDOWS : _WINDOWS + len(half)] = (half + 1e-9).log().half()
        counts.append((len(full), len(half)))
        labels.append(known)
        if index % 500 == 0:
            print(index, flush=True)  # noqa: T201
    counted = torch.tensor(counts)
    some = counted[:, 0] > 0
    return Pictures(logs[some], counted[some], torch.tensor(labels)[some])


def draw_batch(pictures: Pictures, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Descriptions of one to all windows of random pictures, and their labels; mirrored or turned by chance."""
    picks = torch.randint(len(pictures.logs), (size,), generator=generator)
    counts, logs = pictures.counts[picks], pictures.logs[picks]
    half = (torch.rand(size, generator=generator) < _HALVED) & (counts[:, 1] > 0)
    most = torch.where(half, counts[:, 1], counts[:, 0])
    halved = functional.pad(logs[:, _WINDOWS:], (0, 0, 0, 0, 0, _WINDOWS - _HALF_WINDOWS))
    logs = torch.where(half[:, None, None, None], halved, logs[:, :_WINDOWS]).float()
    alone = torch.rand(size, generator=generator) < _ALONE
    several = 1 + (torch.rand(size, generator=generator) * most).floor()
    several = torch.where(alone, torch.ones(size), several).clamp(max=_WINDOWS)
    order = torch.rand(size, _WINDOWS, generator=generator) + 10 * (torch.arange(_WINDOWS) >= most[:, None])
    chosen = order.argsort(1).argsort(1) < torch.minimum(several, most)[:, None]
    spectra = torch.stack([describe_windows(some[of].exp()) for some, of in zip(logs, chosen, strict=True)])
    known = functional.pad(pictures.labels[picks], (0, 1))
    for field in (1, 3):
        known[half, field] = (known[half, field] - math.log(2)).clamp(min=0)
    known[:, 5] = ((known[:, 0] == 0) | (known[:, 1] > math.log(_SURE))).float()
    mirrored = torch.rand(size, generator=generator) < 0.5
    spectra = torch.where(mirrored[:, None, None, None], spectra.flip(3).roll(1, 3), spectra)
    known[:, 2] = torch.where(mirrored, (math.pi - known[:, 2]) % math.pi, known[:, 2])
    turns = torch.randint(ANGLES, (size,), generator=generator) * (torch.rand(size, generator=generator) < 0.5)
    places = (torch.arange(ANGLES) - turns[:, None]) % ANGLES
    spectra = spectra.gather(3, places[:, None, None, :].expand(-1, 2, RINGS, -1))
    known[:, 2] = (known[:, 2] + turns * math.pi / ANGLES) % math.pi
    return spectra, known


def find_loss(reading: Reading, labels: Tensor) -> Tensor:
    """Kind, length where there is one, how sure that is, and direction where the motion has one."""
    kinds, lengths, angles, spreads, across, sure = labels.unbind(1)
    kind = (functional.cross_entropy(reading.kinds, kinds.long(), reduction="none") * sure).mean()
    blurred, moved = (kinds > 0).float(), (kinds == 1).float()
    length = (functional.smooth_l1_loss(reading.lengths, lengths, reduction="none", beta=0.15) * blurred).mean()
    spread = functional.smooth_l1_loss(reading.spreads, spreads, reduction="none", beta=0.15)
    spread = (spread * (0.3 * blurred + 0.7 * moved)).mean()
    error, doubts = (reading.spreads - spreads).abs().detach(), reading.doubts.clamp(-4, 2)
    doubt = ((error / doubts.exp() + doubts) * moved).mean()  # Laplace's likelihood
    grid = torch.arange(ANGLES) * math.pi / ANGLES
    target = (12 * torch.cos(2 * (grid - angles[:, None]))).softmax(1)
    clear = moved * (1 - across).clamp(0, 1) ** 2
    direction = (-(target * reading.directions.log_softmax(1)).sum(1) * clear).mean()
    return kind + 0.5 * length + 4 * spread + 0.2 * doubt + 0.3 * direction


def main() -> None:
    """Read the command line, make the pictures, fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("-o", "--out", required=True, type=Path)
    parser.add_argument("--cache", required=True, type=Path, help="folder for the spectra of the pictures")
    parser.add_argument("--pictures", type=int, default=16000)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=4e-3, help="of learning, at its highest")
    parser.add_argument("--init", type=Path, help="coefficients to go on from")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    cached = options.cache / f"{options.pictures}_{options.seed}.pt"
    if not cached.exists():
        options.cache.mkdir(parents=True, exist_ok=True)
        made = make_pictures(find_photos(options.photos, held_out=False), options.pictures, options.seed)
        torch.save({field.name: getattr(made, field.name) for field in fields(made)}, cached)
    pictures = Pictures(**torch.load(cached))
    generator = torch.Generator().manual_seed(options.seed)
    begun = {name: value.float() for name, value in load_file(options.init).items()} if options.init else None
    coefficients = {name: value.requires_grad_() for name, value in (begun or draw_coefficients(generator)).items()}
    optimizer = torch.optim.AdamW(coefficients.values(), lr=options.rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate, options.steps)
    total = 0.0
    for step in range(1, options.steps + 1):
        spectra, known = draw_batch(pictures, 64, generator)
        loss = find_loss(read_blur(spectra, coefficients), known)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += float(loss.detach())
        if step % 200 == 0:
            print(f"{step} {total / 200:.4f}", flush=True)  # noqa: T201
            total = 0.0
    metadata = {"made by": "docs/measure/fit_blur_reader.py", "seed": str(options.seed)}
    save_file({name: value.detach().half() for name, value in coefficients.items()}, options.out, metadata)


if __name__ == "__main__":
    main()

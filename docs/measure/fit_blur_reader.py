"""Fit the coefficients of `deblur inspect`: photos are blurred in known ways, and a small network learns to read it.

    python docs/measure/fit_blur_reader.py PHOTOS -o blur_reader.safetensors --cache FOLDER

Every fourth photo is left out, for `blur_measure.py`. The same seed gives the same pictures and nearly the same
coefficients.
"""

import argparse
import math
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
from scipy import ndimage
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

_CROP = 640
_WINDOWS = 12  # of a picture
_FIELDS = 6  # kind, ln length, direction, ln spread, across, is sure of its kind


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
    """What the network is to say."""
    if blur.kind != "motion":
        sure = blur.kind == "sharp" or blur.length > 4
        length = math.log(max(blur.length, 1))
        return [KINDS.index(blur.kind), length, 0, length, 1, sure]
    angle, spread, across = blur.axis
    return [1, math.log(blur.length), angle, math.log(max(spread, 1)), across, blur.length > 4.5]


def find_places(luma: Floats, reach: int) -> list[tuple[int, int]]:
    """Windows with most fine detail, in the still sharp photo."""
    fine = (luma - ndimage.gaussian_filter(luma, 1)) ** 2
    total = np.pad(fine.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    height, width = luma.shape
    step = 64
    tops = range(min(reach, (height - SIDE) // 2), height - SIDE - min(reach, (height - SIDE) // 2) + 1, step)
    lefts = range(min(reach, (width - SIDE) // 2), width - SIDE - min(reach, (width - SIDE) // 2) + 1, step)
    found = [
        (total[t + SIDE, x + SIDE] - total[t, x + SIDE] - total[t + SIDE, x] + total[t, x], t, x)
        for t in tops
        for x in lefts
    ]
    return [(t, x) for _, t, x in sorted(found, reverse=True)]


def make_picture(luma: Floats, seed: int) -> tuple[Tensor, list[float]]:
    """(windows, RINGS, ANGLES) power of windows of one blurred crop, and its labels."""
    dice = np.random.default_rng(seed)
    if dice.uniform() < 0.5 and min(luma.shape) > 500:
        factor = dice.uniform(0.55, 1)
        size = [round(length * factor) for length in luma.shape[::-1]]
        luma = functional.interpolate(
            torch.from_numpy(luma)[None, None], size=size[::-1], mode="bilinear", antialias=True
        )[0, 0].numpy()
    if dice.uniform() < 0.5:
        luma = luma[:, ::-1]
    if dice.uniform() < 0.3:
        luma = luma.T
    height, width = (min(length, _CROP) for length in luma.shape)
    top, left = (int(dice.integers(whole - part + 1)) for whole, part in zip(luma.shape, (height, width), strict=True))
    luma = np.ascontiguousarray(luma[top : top + height, left : left + width])
    blur = draw_blur(dice)
    softness = dice.uniform(0.3, 1.3) if dice.uniform() < 0.6 else 0.0
    reach = 0 if blur.kernel is None else blur.kernel.shape[0] // 2
    places = find_places(luma, reach)
    places = places[: max(4, len(places) // 2)]
    sigma = math.exp(dice.uniform(math.log(0.3), math.log(14))) if dice.uniform() < 0.75 else 0.0
    quality = int(dice.integers(55, 99)) if dice.uniform() < 0.6 else None
    shown = photograph(expose(luma, blur, softness, seed), sigma, quality, seed)
    chosen = dice.permutation(len(places))[:_WINDOWS]
    windows = np.stack([shown[t : t + SIDE, x : x + SIDE] for t, x in (places[i] for i in chosen)])
    power = polar_spectra(torch.from_numpy(windows))
    return power, label(blur)


def make_pictures(photos: list[Path], count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Power (count, windows, RINGS, ANGLES) as float16 logarithms, number of windows (count,), labels."""
    lumas = [luma for path in photos if min((luma := read_luma(path)).shape) >= SIDE + 64 and is_crisp(luma)]
    print(f"{len(lumas)} of {len(photos)} photos are crisp")  # noqa: T201
    powers, counts, labels = torch.zeros(count, _WINDOWS, RINGS, ANGLES, dtype=torch.float16), [], []
    for index in range(count):
        power, known = make_picture(lumas[index % len(lumas)], seed * 1_000_003 + index)
        powers[index, : len(power)] = (power + 1e-9).log().half()
        counts.append(len(power))
        labels.append(known)
        if index % 500 == 0:
            print(index, flush=True)  # noqa: T201
    return powers, torch.tensor(counts), torch.tensor(labels)


def draw_batch(
    powers: Tensor, counts: Tensor, labels: Tensor, size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Descriptions of one to all windows of random pictures, and their labels; mirrored or turned by chance."""
    picks = torch.randint(len(powers), (size,), generator=generator)
    described, known = [], []
    for pick in picks.tolist():
        most = int(counts[pick])
        several = (
            1
            if torch.rand(1, generator=generator) < 0.45
            else int(torch.randint(1, most + 1, (1,), generator=generator))
        )
        chosen = torch.randperm(most, generator=generator)[:several]
        spectra = describe_windows(powers[pick, chosen].float().exp())
        row = labels[pick].clone()
        if torch.rand(1, generator=generator) < 0.5:  # mirrored
            spectra = spectra.flip(2).roll(1, 2)
            row[2] = (math.pi - row[2]) % math.pi
        turn = int(torch.randint(ANGLES, (1,), generator=generator)) if torch.rand(1, generator=generator) < 0.5 else 0
        spectra = spectra.roll(turn, 2)
        row[2] = (row[2] + turn * math.pi / ANGLES) % math.pi
        described.append(spectra)
        known.append(row)
    return torch.stack(described), torch.stack(known)


def find_loss(reading: Reading, labels: Tensor) -> Tensor:
    """Kind, length where there is one, and direction where the motion has one."""
    kinds, lengths, angles, spreads, across, sure = labels.unbind(1)
    kind = (functional.cross_entropy(reading.kinds, kinds.long(), reduction="none") * sure).mean()
    blurred, moved = (kinds > 0).float(), (kinds == 1).float()
    length = (functional.smooth_l1_loss(reading.lengths, lengths, reduction="none", beta=0.15) * blurred).mean()
    spread = (functional.smooth_l1_loss(reading.spreads, spreads, reduction="none", beta=0.15) * blurred).mean()
    grid = torch.arange(ANGLES) * math.pi / ANGLES
    target = (12 * torch.cos(2 * (grid - angles[:, None]))).softmax(1)
    clear = moved * (1 - across).clamp(0, 1) ** 2
    direction = (-(target * reading.directions.log_softmax(1)).sum(1) * clear).mean()
    return kind + length + 3 * spread + 0.3 * direction


def main() -> None:
    """Read the command line, make the pictures, fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("-o", "--out", required=True, type=Path)
    parser.add_argument("--cache", required=True, type=Path, help="folder for the spectra of the pictures")
    parser.add_argument("--pictures", type=int, default=6000)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--rate", type=float, default=3e-3, help="of learning, at its highest")
    parser.add_argument("--init", type=Path, help="coefficients to go on from")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    cached = options.cache / f"{options.pictures}_{options.seed}.pt"
    if not cached.exists():
        options.cache.mkdir(parents=True, exist_ok=True)
        torch.save(make_pictures(find_photos(options.photos, held_out=False), options.pictures, options.seed), cached)
    powers, counts, labels = torch.load(cached)
    generator = torch.Generator().manual_seed(options.seed)
    begun = {name: value.float() for name, value in load_file(options.init).items()} if options.init else None
    coefficients = {name: value.requires_grad_() for name, value in (begun or draw_coefficients(generator)).items()}
    optimizer = torch.optim.AdamW(coefficients.values(), lr=2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate, options.steps)
    total = 0.0
    for step in range(1, options.steps + 1):
        spectra, known = draw_batch(powers, counts, labels, 64, generator)
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

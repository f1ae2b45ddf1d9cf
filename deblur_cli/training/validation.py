"""Fixed pairs that the training never sees, and the gain of a network on them."""

from dataclasses import replace
from statistics import fmean

import torch
from torch import Tensor, nn

from deblur_cli.training.blur_synthesis import margin, synthesise
from deblur_cli.training.folder import TrainingData
from deblur_cli.training.loop import Figures
from deblur_cli.training.objectives import mean_psnr
from deblur_cli.training.sources import Rgb8
from deblur_cli.training.synthesis_config import SynthesisConfig

_SEED = 20_000  # the validation pairs are the same in every run, whatever the seed of the training
_PAIR_SIDE, _PATCH_SIDE = 512, 256
_GRID = 64  # sides of real pairs are cut to multiples of this: every network here takes them

ValidationSets = dict[str, list[tuple[Tensor, Tensor]]]  # name -> (blurry, sharp) batches, (B, 3, H, W)


def build_validation(data: TrainingData, synthesis: SynthesisConfig) -> ValidationSets:
    """`real` (held-out pairs), `shake` and `motion` (held-out photos, synthesised once), `sharp` (untouched photos).

    Pictures that are too small for their set are left out, and a set without pictures is not there.
    """
    sets: ValidationSets = {}
    pairs = [pair for pair in data.held_out_pairs if min(pair[0].shape[:2]) >= _GRID]
    if pairs:
        sets["real"] = [(_centre(b, _PAIR_SIDE, _GRID), _centre(s, _PAIR_SIDE, _GRID)) for b, s in pairs]
    side = _PATCH_SIDE + 2 * margin(synthesis)
    photos = [photo for photo in data.held_out_photos if min(photo.shape[:2]) >= side]
    if not photos:
        return sets
    patches = torch.cat([_centre(photo, side) for photo in photos])
    generator = torch.Generator().manual_seed(_SEED)
    for name, shake_share in (("shake", 1.0), ("motion", 0.0)):
        config = replace(synthesis, shake_share=shake_share, unblurred_share=0.0)
        sets[name] = [synthesise(patches, generator, config) for _ in range(4)]
    border = margin(synthesis)
    untouched = patches[..., border:-border, border:-border]
    sets["sharp"] = [(untouched, untouched)]
    return sets


def measure_gains(network: nn.Module, sets: ValidationSets, device: torch.device) -> Figures:
    """Mean PSNR gain over doing nothing per set, and of sharp photos the PSNR to themselves."""
    gains = {name: fmean(_gain(network, *pair, device) for pair in batches) for name, batches in sets.items()}
    kept = {name: gains.pop(name) for name in ("sharp",) if name in gains}
    return {"Gain over doing nothing, dB PSNR": gains, "Sharp photos to themselves, dB PSNR": kept}


def _gain(network: nn.Module, blurry: Tensor, sharp: Tensor, device: torch.device) -> float:
    before = 0.0 if blurry is sharp else mean_psnr(blurry, sharp)
    restored = network(blurry.to(device).contiguous(memory_format=torch.channels_last))
    return mean_psnr(restored, sharp.to(device)) - before


def _centre(image: Rgb8, side: int, grid: int = 1) -> Tensor:
    """The middle, (1, 3, h, w), [0, 1]; neither side longer than `side`, both multiples of `grid`."""
    height, width = (min(length, side) // grid * grid for length in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    crop = torch.from_numpy(image[top : top + height, left : left + width].copy())
    return (crop.permute(2, 0, 1).float() / 255)[None]

"""DeblurDiff: diffusion in the latents of Stable Diffusion 2.1, led by adaptive filters of the blurred latents."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deblur_cli import weights
from deblur_cli.backends.engines import choose_dtype
from deblur_cli.backends.pixel_progress import PixelProgress
from deblur_cli.checkpoint import load_strict, read_metadata
from deblur_cli.conversion.deblurdiff_file import (
    DEBLURDIFF,
    ROLES,
    STABLE_DIFFUSION,
    PartLayout,
    convert_deblurdiff,
    find_origin,
    is_converted,
    part_path,
)
from deblur_cli.errors import PhotoError, WeightsError
from deblur_cli.networks.deblurdiff import LATENT_CHANNELS, STRIDE, DeblurDiff, DeblurDiffConfig
from deblur_cli.networks.memory import give_memory
from deblur_cli.restoration.colour_match import match_colours
from deblur_cli.restoration.contract import Order, Pixels
from deblur_cli.restoration.tiling import BellWindows, Tile, Tiling, blend_pieces, lay_pieces, stack_pieces
from deblur_cli.sampling.ddpm import check_steps, sample_ddpm
from deblur_cli.system.typed_tables import read_table
from deblur_cli.weights.store import imported_path

DEFAULT_STEPS = 50
PUBLISHED = BellWindows(512, 256)  # pixels: the windows that the weights count on

_MULTIPLE = 64  # pixels: the photo counts as extended to it, in black
_CHECKPOINT = "checkpoint"  # the role of the authors' one file
_BASE = "base"  # the role of Stable Diffusion's checkpoint, which has neither LKPN nor ControlNet
TRAINED = "trained"  # the role of a result of `deblur train deblurdiff`
_ALSO_TRAINED = ("lkpn", "controlnet")  # the parts that it takes the place of
_LOG = logging.getLogger("deblur_cli")


class DeblurDiffBackend:
    """Runs the diffusion's networks in its number format, the VAE and everything between them in float32.

    It has no float32 to fall back to: its networks have formats of their own, and are too large to be there twice.
    """

    share = 1.0
    windows = PUBLISHED

    def __init__(
        self, name: str, network: DeblurDiff, device: torch.device, dtype: torch.dtype, steps: int = DEFAULT_STEPS
    ) -> None:
        """Take over networks that are ready; they move to the device.

        Raises:
            InputError: so many steps this diffusion does not take.
        """
        self.name, self.device, self.dtype, self.steps = name, device, dtype, check_steps(steps)
        side = PUBLISHED.side
        self.tiling = Tiling(2 * side if device.type == "cuda" else side, 0, 0, side)
        network.set_dtype(dtype)
        self.module = network.eval().to(device)

    def restore(self, blurry: Tensor) -> Tensor:
        """The tile itself: this system has no first stage."""
        return blurry

    @torch.inference_mode()
    def enhance(self, blurry: Pixels, estimate: Tensor, order: Order) -> Tensor:
        """See `Enhancing.enhance`; only the photo is looked at, and `estimate` is written over with the result.

        Raises:
            PhotoError: what the networks made of the photo is not finite.
        """
        job = _Job(blurry, order, self.steps, self.windows)
        latents = self._encode(job)
        restored = self._sample(latents, job)
        self._decode(restored, estimate, job)
        if not bool(estimate.sum().isfinite()):
            raise PhotoError(f"the networks' answer is not finite in {self.dtype}; try --dtype float32")
        return match_colours(estimate, blurry)

    def _encode(self, job: "_Job") -> Tensor:
        """(4, h, w): latents of the photo, window over window."""
        latents = torch.zeros(LATENT_CHANNELS, *job.latent_size, device=self.device)
        for windows, places in job.batches():
            pixels = torch.stack([_cut(job.blurry, window) for window in windows]).to(self.device)
            lay_pieces(latents, places, self.module.encode(pixels))
        return latents

    def _sample(self, latents: Tensor, job: "_Job") -> Tensor:
        """(4, h, w): latents of a sharp photo. All noise is that of the whole photo, drawn on the CPU."""
        generator = torch.Generator().manual_seed(job.order.seed)
        start = torch.randn(1, *latents.shape, generator=generator).to(self.device)

        def predict_noise(x_t: Tensor, timestep: int) -> Tensor:
            noise = torch.zeros_like(latents)
            for _, places in job.batches():
                below, state = stack_pieces(latents, places), stack_pieces(x_t[0], places)
                blend_pieces(noise, places, self.module.predict_noise(below, state, timestep))
            return noise[None]

        return sample_ddpm(predict_noise, start, self.steps, generator)[0]

    def _decode(self, restored: Tensor, picture: Tensor, job: "_Job") -> None:
        """Fill `picture`, (H, W, 3), about [0, 1]."""
        canvas = picture.zero_().permute(2, 0, 1)  # (3, H, W), the same memory
        for windows, places in job.batches():
            signed = self.module.decode(stack_pieces(restored, places))
            blend_pieces(canvas, windows, signed.add_(1).div_(2))


def load_deblurdiff(
    entry: weights.ModelEntry, device: torch.device, dtype: str, steps: int = DEFAULT_STEPS
) -> DeblurDiffBackend:
    """The backend of a manifest entry whose files are the authors' checkpoint, or the five parts of one.

    A file of `deblur train` may be there as well; its LKPN and ControlNet then count. With it, the checkpoint of
    Stable Diffusion is enough.

    Args:
        dtype: `auto` is float32 where the entry does not name formats: nobody has measured what others do to it.
    Raises:
        InputError: so many steps this diffusion does not take.
        WeightsError: a file is missing or damaged, or does not fit the networks.
        BackendError: the networks do not work in the asked number format, or this diffusers cannot convert them.
    """
    check_steps(steps)
    exact = "float32" if dtype == "auto" and not entry.dtypes else dtype
    chosen = choose_dtype(exact, device, entry.dtypes)
    config = read_pipeline_config(entry)
    _check_roles(entry)
    network = _load_network(find_parts(entry, config), config, device, chosen)
    return DeblurDiffBackend(entry.name, network, device, chosen, steps)


def read_pipeline_config(entry: weights.ModelEntry) -> DeblurDiffConfig:
    """The shape of an entry's networks; raises WeightsError where it is none."""
    try:
        return read_table(DeblurDiffConfig, entry.config)
    except ValueError as fault:
        raise WeightsError(f"{entry.name}: its config is none of DeblurDiff ({fault})") from fault


def find_parts(entry: weights.ModelEntry, config: DeblurDiffConfig) -> dict[str, Path]:
    """Role -> file, as far as the entry has them; a checkpoint is converted once, into the tool's own store.

    Raises:
        WeightsError: a file is missing or damaged, or was trained on another base.
    """
    if _CHECKPOINT in entry.files:
        parts = convert_checkpoint_once(entry.files[_CHECKPOINT], config, DEBLURDIFF)
    elif _BASE in entry.files:
        parts = convert_checkpoint_once(entry.files[_BASE], config, STABLE_DIFFUSION)
    else:
        parts = {role: weights.fetch(entry.files[role]).path for role in ROLES if role in entry.files}
    if TRAINED not in entry.files:
        return parts
    frozen = {role: path for role, path in parts.items() if role not in _ALSO_TRAINED}
    return {**frozen, TRAINED: _find_trained(entry, frozen["unet"])}


def _check_roles(entry: weights.ModelEntry) -> None:
    """Raise WeightsError, with their names, where an entry's files do not make a whole model."""
    whole = {_CHECKPOINT: ROLES, _BASE: STABLE_DIFFUSION.roles, TRAINED: _ALSO_TRAINED}
    there = {part for role in entry.files for part in whole.get(role, (role,))}
    missing = [role for role in ROLES if role not in there]
    if missing:
        raise WeightsError(f"{entry.name}: has no file {', '.join(missing)}; it needs those, or {_CHECKPOINT} alone")


def convert_checkpoint_once(file: weights.WeightsFile, config: DeblurDiffConfig, layout: PartLayout) -> dict[str, Path]:
    """Role -> file: a checkpoint's parts in the tool's own store, made when they are first asked for.

    Raises:
        WeightsError: the checkpoint is absent, damaged or of something else, or the disk is full.
    """
    source, folder = weights.fetch(file).path, imported_path(file).parent / "parts"
    if not is_converted(source, folder, layout):
        _LOG.warning("deblur: converting %s to %s, once", source, folder)
        convert_deblurdiff(source, folder, config, layout)
    return {role: part_path(folder, role) for role in layout.roles}


def load_parts(network: DeblurDiff, paths: Mapping[str, Path]) -> None:
    """Fill the networks from files by role, one at a time in memory; raises WeightsError where one does not fit."""
    for role, path in paths.items():
        load_strict(network.trained if role == TRAINED else network.parts[role], path)


def _find_trained(entry: weights.ModelEntry, unet: Path) -> Path:
    path = weights.fetch(entry.files[TRAINED]).path
    base = read_metadata(path).get("trained_on", {}).get("base")
    if base not in (None, origin := find_origin(unet)):
        raise WeightsError(f"{path}: was trained on another base ({base[:12]}…, not {origin[:12]}…)")
    return path


def _load_network(
    paths: Mapping[str, Path], config: DeblurDiffConfig, device: torch.device, dtype: torch.dtype
) -> DeblurDiff:
    """The networks, built on their device."""
    with torch.device("meta"):
        network = DeblurDiff(config)
    network.set_dtype(dtype)
    give_memory(network, device)
    load_parts(network, paths)
    return network


class _Job:
    """One photo: where its windows lie, how many run at once, and how far the work is."""

    def __init__(self, blurry: Pixels, order: Order, steps: int, windows: BellWindows) -> None:
        self.blurry, self.order = blurry, order
        height, width = (-(-side // _MULTIPLE) * _MULTIPLE for side in blurry.shape[:2])
        self.latent_size = (height // STRIDE, width // STRIDE)
        large = windows.lay(height, width)
        small = BellWindows(windows.side // STRIDE, windows.stride // STRIDE).lay(*self.latent_size)
        at_once = max(1, order.tile // windows.side) ** 2
        self._batches = [(large[i : i + at_once], small[i : i + at_once]) for i in range(0, len(large), at_once)]
        passes = steps + 2  # encode and decode count as a step each
        self._progress = PixelProgress(order.watch, blurry.shape[0] * blurry.shape[1], passes)

    def batches(self) -> Iterator[tuple[list[Tile], list[Tile]]]:
        """All windows, in pixels and in latents, as many at a time as memory is meant for; counts what is through.

        Raises:
            Stopped: the caller wants no more.
        """
        return self._progress.over(self._batches)


def _cut(blurry: Pixels, window: Tile) -> Tensor:
    """(3, h, w), float32, [0, 1]: a window of the photo, black beyond it."""
    inside = blurry[window.rows.place, window.columns.place]
    pixels = torch.zeros(3, window.rows.length, window.columns.length)
    top = float(np.iinfo(blurry.dtype).max)
    pixels[:, : inside.shape[0], : inside.shape[1]] = torch.from_numpy(inside / np.float32(top)).permute(2, 0, 1)
    return pixels

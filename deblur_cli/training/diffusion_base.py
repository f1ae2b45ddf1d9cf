"""What a training of DeblurDiff starts from: its five parts, or only those of Stable Diffusion that stay frozen."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from deblur_cli import weights
from deblur_cli.backends.diffusion import TRAINED, find_parts, load_parts, read_pipeline_config
from deblur_cli.checkpoint import read_metadata
from deblur_cli.conversion.deblurdiff_file import ROLES, STABLE_DIFFUSION, find_origin, part_path
from deblur_cli.errors import InputError, WeightsError
from deblur_cli.networks.deblurdiff import DeblurDiff, DeblurDiffConfig
from deblur_cli.system.devices import DTYPES
from deblur_cli.system.typed_tables import read_table
from deblur_cli.training.recipe import DeblurDiffRecipe

_FROZEN = STABLE_DIFFUSION.roles


@dataclass(frozen=True, slots=True)
class DiffusionBase:
    """Networks with their weights, and what the frozen ones are known by.

    Attributes:
        sha256: of the checkpoint that they are parts of; of the UNet's own file where it names none.
    """

    network: DeblurDiff
    sha256: str


def load_diffusion_base(name: str, recipe: DeblurDiffRecipe) -> DiffusionBase:
    """A base by the name of a model or by a folder of parts.

    Args:
        recipe: says whether the LKPN and the ControlNet begin anew, and the number format of the UNet.
    Raises:
        InputError: no such model or folder, or a part is missing.
        WeightsError: the weights are damaged or do not fit.
    """
    settings = recipe.diffusion
    if settings.frozen_dtype not in DTYPES:
        raise InputError(f"the recipe's frozen_dtype = {settings.frozen_dtype!r}: choose {' or '.join(DTYPES)}")
    paths, config = _find_folder(Path(name)) if Path(name).is_dir() else _find_entry(name)
    if settings.fresh:
        paths = {role: path for role, path in paths.items() if role in _FROZEN}
    _check_complete(name, paths, fresh=settings.fresh)
    torch.manual_seed(recipe.seed)
    network = DeblurDiff(config)
    load_parts(network, paths)
    if settings.fresh:
        network.start_controlnet()
    nn.Module.to(network.unet, DTYPES[settings.frozen_dtype])  # diffusers' own `to` warns of layers that it cannot name
    return DiffusionBase(network, find_origin(paths["unet"]))


def _find_folder(folder: Path) -> tuple[dict[str, Path], DeblurDiffConfig]:
    """The parts that are there, and the shape that the UNet's file says they have, else the published one."""
    paths = {role: part_path(folder, role) for role in ROLES if part_path(folder, role).is_file()}
    if "unet" not in paths:
        raise InputError(f"--base {folder}: no unet.safetensors there; a base is a folder of converted parts")
    try:
        return paths, read_table(DeblurDiffConfig, read_metadata(paths["unet"]).get("config", {}))
    except ValueError as fault:
        raise WeightsError(f"{paths['unet']}: its metadata is not of DeblurDiff ({fault})") from fault


def _find_entry(name: str) -> tuple[dict[str, Path], DeblurDiffConfig]:
    manifest = weights.read_manifest()
    known = [entry.name for entry in manifest.models.values() if entry.backend == "deblurdiff"]
    if manifest.resolve(name) not in known:
        raise InputError(f"--base {name}: no such folder and no model of DeblurDiff; known: {', '.join(known)}")
    entry = weights.find_model(name)
    config = read_pipeline_config(entry)
    return find_parts(entry, config), config


def _check_complete(name: str, paths: Mapping[str, Path], *, fresh: bool) -> None:
    wanted = _FROZEN if fresh or TRAINED in paths else ROLES
    missing = [role for role in wanted if role not in paths]
    if missing:
        anew = "" if fresh or set(missing) & set(_FROZEN) else "; --set diffusion.fresh=true starts them anew"
        raise InputError(f"--base {name}: has no {', '.join(missing)}{anew}")

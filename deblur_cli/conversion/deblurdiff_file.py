"""The authors' one checkpoint of DeblurDiff to five safetensors files, one per part, under diffusers' names.

Strict both ways: every tensor of the checkpoint has one place, and every place of the networks one tensor. The
checkpoint of Stable Diffusion 2.1 has three of the parts, from which a training can begin.
"""

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from deblur_cli.checkpoint import check_tensors, read_content, read_metadata
from deblur_cli.conversion.prompt_encoder import check_names, embed_empty_prompt
from deblur_cli.errors import BackendError, WeightsError
from deblur_cli.networks.deblurdiff import DeblurDiff, DeblurDiffConfig
from deblur_cli.system.files import find_leftovers, remove_leftovers, whole_file
from deblur_cli.weights.store import disk_fault, known_hash

T = TypeVar("T")
Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
ConversionPlan = dict[str, dict[str, tuple[str | None, Shape]]]


@dataclass(frozen=True, slots=True)
class PartLayout:
    """Where the parts are in a checkpoint.

    Attributes:
        title: what it is a checkpoint of.
        parts: role -> prefix of its tensors.
        text_encoder: prefix of OpenCLIP's, of which only the answer to the empty prompt is kept.
        alone: whether nothing else may be there.
    """

    title: str
    parts: Mapping[str, str]
    text_encoder: str
    alone: bool

    @property
    def roles(self) -> tuple[str, ...]:
        """Of the files that it is converted to."""
        return (*self.parts, "prompt")


DEBLURDIFF = PartLayout(
    "DeblurDiff",
    {"unet": "unet.", "lkpn": "kpn.unet.", "controlnet": "controlnet.", "vae": "vae."},
    "clip.model.",
    alone=True,
)
STABLE_DIFFUSION = PartLayout(
    "Stable Diffusion 2.1",
    {"unet": "model.diffusion_model.", "vae": "first_stage_model."},
    "cond_stage_model.model.",
    alone=False,  # constants of its schedule
)
ROLES = DEBLURDIFF.roles

# role -> diffusers' function for it, and the prefix that this function expects
_CONVERTERS = {
    "unet": ("convert_ldm_unet_checkpoint", "model.diffusion_model."),
    "lkpn": ("convert_ldm_unet_checkpoint", "model.diffusion_model."),
    "controlnet": ("convert_controlnet_checkpoint", ""),
    "vae": ("convert_ldm_vae_checkpoint", "vae."),
}
_STAMP = "source_sha256"  # in the metadata of every part

# The layers that diffusers' ControlNet has for a picture and the published one has not. Zeros in the last of them
# make whatever picture add nothing; the others are zeros as well.
PICTURE_LAYERS = tuple(
    f"controlnet_cond_embedding.{layer}.{kind}"
    for layer in ("conv_in", *(f"blocks.{index}" for index in range(6)), "conv_out")
    for kind in ("weight", "bias")
)


def part_path(folder: Path, role: str) -> Path:
    """Where `convert_deblurdiff` puts the part."""
    return folder / f"{role}.safetensors"


def is_converted(source: Path, folder: Path, layout: PartLayout = DEBLURDIFF) -> bool:
    """Whether the folder holds all parts of this very checkpoint, each of them whole."""
    paths = [part_path(folder, role) for role in layout.roles]
    if not all(path.is_file() for path in paths):
        return False
    try:
        return {read_metadata(path).get(_STAMP) for path in paths} == {known_hash(source)}
    except WeightsError:  # cut off, as after a power failure
        return False


def find_origin(part: Path) -> str:
    """sha256 of the checkpoint that a part was converted from; of the part itself where it names none.

    Raises:
        WeightsError: the part is missing or damaged.
    """
    stamp = read_metadata(part).get(_STAMP)
    return known_hash(part) if stamp is None else str(stamp)


def check_checkpoint(source: Path, config: DeblurDiffConfig, layout: PartLayout = DEBLURDIFF) -> None:
    """Raise what `convert_deblurdiff` would raise about the checkpoint, without converting it."""
    _open_checkpoint(source, config, layout)


def convert_deblurdiff(
    source: Path, folder: Path, config: DeblurDiffConfig | None = None, layout: PartLayout = DEBLURDIFF
) -> None:
    """Write `unet`, `lkpn`, `controlnet`, `vae` and `prompt.safetensors`; all five appear, or none.

    Number formats stay as they are. One part at a time is in memory. The caller has verified the checkpoint's bytes.

    Args:
        config: shape of the networks in it; None for the published ones.
        layout: of the checkpoint; that of Stable Diffusion has neither LKPN nor ControlNet.
    Raises:
        WeightsError: the checkpoint is damaged or of something else, or the folder cannot be written.
        BackendError: this diffusers has no such conversion.
    """
    config = config or DeblurDiffConfig()
    tensors, plan = _open_checkpoint(source, config, layout)
    stamp = {_STAMP: json.dumps(known_hash(source)), "config": json.dumps(asdict(config))}
    remove_leftovers(find_leftovers([folder]))
    try:
        with ExitStack() as all_or_none:
            for role in layout.roles:
                temporary = all_or_none.enter_context(whole_file(part_path(folder, role)))
                collected = _embed(tensors, layout) if role == "prompt" else _collect(tensors, plan[role])
                save_file(collected, temporary, metadata=stamp)
    except OSError as fault:
        raise disk_fault(fault, folder / "parts") from fault
    except SafetensorError as fault:
        raise WeightsError(f"{folder}: cannot be written ({fault}); free some space and check the folder") from fault


def plan_conversion(shapes: Shapes, config: DeblurDiffConfig, layout: PartLayout = DEBLURDIFF) -> ConversionPlan:
    """Where every tensor of a checkpoint goes.

    Args:
        shapes: of the tensors, by their published names.
    Returns:
        Role -> name in the part -> published name, None where it is zeros (`PICTURE_LAYERS`), and the shape there.
        The prompt is computed and not in it.
    Raises:
        WeightsError: a tensor is missing, has no place, or has another shape.
        BackendError: this diffusers has no such conversion.
    """
    strange = [name for name in shapes if not name.startswith((layout.text_encoder, *layout.parts.values()))]
    _require("the checkpoint", "unknown", strange if layout.alone else [])
    missing, unknown = check_names({*_below(layout.text_encoder, shapes)})
    _require("the text encoder", "missing", missing)
    _require("the text encoder", "unknown", unknown)
    with torch.device("meta"):
        network = DeblurDiff(config)
    return {role: _plan_part(role, prefix, shapes, network) for role, prefix in layout.parts.items()}


def _plan_part(role: str, prefix: str, shapes: Shapes, network: DeblurDiff) -> dict[str, tuple[str | None, Shape]]:
    part: Any = network.parts[role]
    places = {name: tuple(tensor.shape) for name, tensor in part.state_dict().items()}
    zeros = {name: places.pop(name) for name in PICTURE_LAYERS} if role == "controlnet" else {}
    own = {name: shape for name, shape in shapes.items() if name.startswith(prefix)}
    names = _translate(role, prefix, own, part.config)
    _require(role, "missing", places.keys() - names.keys())
    _require(role, "unknown", own.keys() - {names[place] for place in places})
    _require(
        role, "of another shape", [names[place] for place in places if not _fits(own[names[place]], places[place])]
    )
    return {
        **{place: (names[place], shape) for place, shape in places.items()},
        **{n: (None, s) for n, s in zeros.items()},
    }


def _translate(role: str, prefix: str, shapes: Shapes, config: Mapping[str, Any]) -> dict[str, str]:
    """diffusers' name -> published name, found out by sending a number through diffusers' function for each tensor."""
    function, expected = _CONVERTERS[role]
    names = list(shapes)
    probes = {
        expected + name.removeprefix(prefix): torch.full((1,) * len(shapes[name]), index)
        for index, name in enumerate(names)
    }
    try:
        converted = _find_converter(function)(probes, config)
    except (LookupError, AttributeError, TypeError) as fault:
        raise WeightsError(f"the tensors of {role} cannot be translated ({fault})") from fault
    return {place: names[int(probe)] for place, probe in converted.items() if probe is not None}


def _find_converter(name: str) -> Callable[[dict[str, Tensor], Mapping[str, Any]], dict[str, Tensor | None]]:
    """One of diffusers' own functions; they are not part of what it promises to keep."""
    try:
        from diffusers.loaders import single_file_utils

        converter: Callable[[dict[str, Tensor], Mapping[str, Any]], dict[str, Tensor | None]]
        converter = getattr(single_file_utils, name)
    except (ImportError, AttributeError) as fault:
        raise BackendError(f"this diffusers has no {name}; convert once with diffusers 0.42.1") from fault
    return converter


def _fits(shape: Shape, place: Shape) -> bool:
    """Whether a tensor has the shape of its place; a 1x1 convolution may become a matrix."""
    return shape[: len(place)] == place and all(side == 1 for side in shape[len(place) :])


def _open_checkpoint(
    source: Path, config: DeblurDiffConfig, layout: PartLayout
) -> tuple[dict[str, Tensor], ConversionPlan]:
    tensors = check_tensors(read_content(source), source)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        return tensors, plan_conversion(shapes, config, layout)
    except WeightsError as fault:
        raise WeightsError(f"{source}: not a checkpoint of {layout.title}: {fault}") from fault


def _embed(tensors: Mapping[str, Tensor], layout: PartLayout) -> dict[str, Tensor]:
    return {"embedding": embed_empty_prompt(_below(layout.text_encoder, tensors))}


def _collect(tensors: Mapping[str, Tensor], plan: Mapping[str, tuple[str | None, Shape]]) -> dict[str, Tensor]:
    """The tensors of a part, still in the checkpoint's file where it is mapped."""
    return {
        place: torch.zeros(shape) if name is None else tensors[name].reshape(shape).contiguous()
        for place, (name, shape) in plan.items()
    }


def _below(prefix: str, table: Mapping[str, T]) -> dict[str, T]:
    """What has the prefix, by the rest of its name."""
    return {name.removeprefix(prefix): value for name, value in table.items() if name.startswith(prefix)}


def _require(part: str, fault: str, names: Collection[str]) -> None:
    """Nothing has this fault."""
    first, *rest = sorted(names) or [""]
    if first:
        more = f" and {len(rest)} more" if rest else ""
        raise WeightsError(f"in {part}, {fault}: {first}{more}")

"""MAXIM's published weights: arrays under their Flax names become the state of this project's network.

Source of names and layouts: google-research/maxim (Apache-2.0), variant S-3. Kernels of convolutions lie there as
(height, width, in, out), of dense layers as (in, out), of transposed convolutions as (height, width, out, in).
"""

from collections.abc import Mapping, Set

import torch
from torch import Tensor, nn

from deblur_cli.networks.maxim import Maxim, MaximConfig

PUBLISHED = MaximConfig(stages=3)

# Our name of a layer -> the published one, within each kind of block.
_MIXING = {
    "norm": "LayerNorm_in",
    "spread": "in_project",
    "gather": "out_project",
    **{
        f"{ours}.{layer}": f"{theirs}GmlpLayer/{name}"
        for ours, theirs in (("grid", "Grid"), ("block", "Block"))
        for layer, name in (
            ("norm", "LayerNorm"),
            ("spread", "in_project"),
            ("inner_norm", f"{theirs}GatingUnit/intermediate_layernorm"),
            ("mix", f"{theirs}GatingUnit/Dense_0"),
            ("gather", "out_project"),
        )
    },
}
_ATTENTION = {
    "norm": "LayerNorm",
    "attention.squeeze": "channel_attention/Conv_0",
    "attention.excite": "channel_attention/Conv_1",
}
_CONVOLUTIONS = {**_ATTENTION, "conv_1": "conv1", "conv_2": "conv2"}
_MLP = {**_ATTENTION, "dense_1": "channel_mixing/Dense_0", "dense_2": "channel_mixing/Dense_1"}
_GATE = {
    "norm": "LayerNorm_in",
    "spread": "in_project",
    "mix_grid": "Dense_0",
    "mix_block": "Dense_1",
    "gather": "out_project",
}
_CROSS = {
    "up": "ConvTranspose_0",
    "enter_x": "Conv_0",
    "enter_y": "Conv_1",
    **{
        f"{ours}_{branch}": f"{theirs}_{branch}"
        for branch in ("x", "y")
        for ours, theirs in (("norm", "LayerNorm"), ("spread", "in_project"), ("gather", "out_project"))
    },
    **{
        f"gate_{branch}.{layer}": f"SplitHeadMultiAxisGating_{branch}/{name}"
        for branch in ("x", "y")
        for layer, name in _GATE.items()
    },
}


def convert(arrays: Mapping[str, Tensor], stages: int) -> dict[str, Tensor]:
    """The state of a network of the first `stages` stages.

    Args:
        arrays: every tensor of the three published stages and nothing else, of the shapes in `published_shapes`.
    """
    network = _build(stages)
    layers = name_layers(stages)
    state = {}
    for key, wanted in network.state_dict().items():
        path, _, kind = key.rpartition(".")
        state[key] = _turn(arrays[_published_name(network, layers[path], path, kind)], network.get_submodule(path))
        assert state[key].shape == wanted.shape, key
    return state


def find_name_fault(names: Set[str], wanted: Mapping[str, object]) -> str | None:
    """What is wrong with the names alone, whatever the shapes are."""
    if missing := sorted(wanted.keys() - names):
        return f"{missing[0]} and {len(missing) - 1} more are missing" if missing[1:] else f"{missing[0]} is missing"
    if strange := sorted(names - wanted.keys()):
        return f"{strange[0]} does not belong there"
    return None


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of the published network."""
    shapes: dict[str, tuple[int, ...]] = {}
    for stages in range(1, PUBLISHED.stages + 1):  # the last picture of a shorter network is a side picture of a longer
        network, layers = _build(stages), name_layers(stages)
        for key, tensor in network.state_dict().items():
            path, _, kind = key.rpartition(".")
            name = _published_name(network, layers[path], path, kind)
            shapes[name] = _published_shape(tensor, name)
    return shapes


def name_layers(stages: int) -> dict[str, str]:
    """Path of each layer in a network of so many stages -> its published name."""
    names: dict[str, str] = {}
    for stage in range(stages):
        names |= _name_stage(stage)
    if stages == PUBLISHED.stages:
        names[f"stages.{stages - 1}.pictures.0"] = f"stage_{stages - 1}_output_conv_0"
    return names


def _name_stage(stage: int) -> dict[str, str]:
    ours, theirs = f"stages.{stage}", f"stage_{stage}"
    names: dict[str, str] = {}
    for level in range(3):
        attention = f"{theirs}_supervised_attention_module_{level}"
        names |= {
            f"{ours}.inputs.{level}": f"{theirs}_input_conv_{level}",
            f"{ours}.downs.{level}": f"{theirs}_encoder_block_{level}/Conv_1",
            f"{ours}.ups.{level}": f"{theirs}_decoder_block_{level}/ConvTranspose_0",
            f"{ours}.pictures.{level}": f"{attention}/Conv_1",
            f"{ours}.attend.{level}.conv": f"{attention}/Conv_0",
            f"{ours}.attend.{level}.look": f"{attention}/Conv_2",
        }
        names |= _name_block(f"{ours}.encoders.{level}", f"{theirs}_encoder_block_{level}")
        names |= _name_block(f"{ours}.decoders.{level}", f"{theirs}_decoder_block_{level}/UNetEncoderBlock_0")
        names |= _inside(f"{ours}.encoder_gates.{level}", f"{theirs}_encoder_block_{level}/cross_gating_block", _CROSS)
        names |= _inside(f"{ours}.skip_gates.{level}", f"{theirs}_cross_gating_block_{level}", _CROSS)
        names |= _inside(f"{ours}.fuse.{level}", f"{theirs}_input_fuse_sam_{level}", _CROSS)
        for source in range(3):
            number = 18 * stage + 3 * (2 - level) + source
            names[f"{ours}.skip_resizes.{level}.{source}.dense"] = f"UpSampleRatio_{number}/Conv_0"
            names[f"{ours}.decoder_resizes.{level}.{source}.dense"] = f"UpSampleRatio_{number + 9}/Conv_0"
    for block in range(2):
        names |= _name_bottom(f"{ours}.bottom.{block}", f"{theirs}_global_block_{block}")
    return names


def _name_block(ours: str, theirs: str) -> dict[str, str]:
    pairs = _name_pairs(ours, theirs, "channel_attention_block_1", _CONVOLUTIONS)
    return {f"{ours}.enter": f"{theirs}/Conv_0", **pairs}


def _name_bottom(ours: str, theirs: str) -> dict[str, str]:
    pairs = _name_pairs(ours, theirs, "channel_attention_block_1_", _MLP)
    return {f"{ours}.enter": f"{theirs}/input_proj", **pairs}


def _name_pairs(ours: str, theirs: str, attention: str, table: Mapping[str, str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for pair in range(2):
        names |= _inside(f"{ours}.mixings.{pair}", f"{theirs}/SplitHeadMultiAxisGmlpLayer_{pair}", _MIXING)
        names |= _inside(f"{ours}.attentions.{pair}", f"{theirs}/{attention}{pair}", table)
    return names


def _inside(ours: str, theirs: str, table: Mapping[str, str]) -> dict[str, str]:
    return {f"{ours}.{layer}": f"{theirs}/{name}" for layer, name in table.items()}


def _published_name(network: nn.Module, layer: str, path: str, kind: str) -> str:
    if kind == "weight":
        kind = "scale" if isinstance(network.get_submodule(path), nn.LayerNorm) else "kernel"
    return f"{layer}/{kind}"


def _published_shape(tensor: Tensor, name: str) -> tuple[int, ...]:
    if tensor.ndim == 4:
        return tuple(tensor.permute(2, 3, 1, 0).shape)
    if tensor.ndim == 2:
        is_convolution = name.split("/")[-2].startswith(("Conv_", "input_proj"))
        return (1, 1, *tensor.T.shape) if is_convolution else tuple(tensor.T.shape)
    return tuple(tensor.shape)


def _turn(array: Tensor, layer: nn.Module) -> Tensor:
    """A published array as this project's layer keeps it."""
    if array.ndim == 4:
        turned = array.permute(3, 2, 0, 1)
        return (turned.flatten(1) if isinstance(layer, nn.Linear) else turned).contiguous()
    return array.T.contiguous() if array.ndim == 2 else array


def _build(stages: int) -> Maxim:
    with torch.device("meta"):
        return Maxim(MaximConfig(stages))

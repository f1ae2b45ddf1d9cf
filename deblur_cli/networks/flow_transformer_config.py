"""Shapes of flow transformers and of their LoRA, checked when they are made."""

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from deblur_cli.networks import joint_transformer

CLASSES: Mapping[str, str] = {"sd3": "SD3Transformer2DModel", "flux2": "Flux2Transformer2DModel"}  # of diffusers

_FUSED = r"single_transformer_blocks\.\d+\.attn\.(to_qkv_mlp_proj|to_out)"
_GROUPS = {
    "attention": rf"transformer_blocks\.\d+\.attn2?\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)|{_FUSED}",
    "mlp": rf"transformer_blocks\.\d+\.ff(_context)?\.(net\.0\.proj|net\.2|linear_in|linear_out)|{_FUSED}",
}


@dataclass(frozen=True, slots=True)
class FlowTransformerConfig:
    """Shape of a `FlowTransformer`; stored beside its weights.

    Attributes:
        kind: "sd3" (`SD3Transformer2DModel`) or "flux2" (`Flux2Transformer2DModel`).
        transformer: the settings of that class under diffusers' own names; what is left out has its default there.
        window: side of the square of latents that it was trained on.
    """

    kind: str
    transformer: Mapping[str, Any]
    window: int

    def __post_init__(self) -> None:
        if self.kind not in CLASSES:
            raise ValueError(f"kind must be one of {', '.join(CLASSES)}, not {self.kind!r}")
        if not isinstance(self.transformer, Mapping) or not isinstance(self.window, int):
            raise TypeError("transformer must be a table and window a whole number")
        defaults = _defaults(self.kind)
        for key, value in self.transformer.items():
            _check_setting(key, value, defaults)
        # JSON has no tuples.
        plain = {key: tuple(value) if isinstance(value, list) else value for key, value in self.transformer.items()}
        object.__setattr__(self, "transformer", plain)
        for is_met, rule in self._rules():
            if not is_met:
                raise ValueError(rule)

    def to_json(self) -> dict[str, Any]:
        """Plain values only, of which `read_table` makes an equal config."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in self.transformer.items()}
        return {"kind": self.kind, "transformer": plain, "window": self.window}

    @property
    def settings(self) -> dict[str, Any]:
        """All settings of the diffusers class, its defaults included."""
        return {**_defaults(self.kind), **self.transformer}

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        channels: int = self.settings["in_channels"]
        return channels if self.kind == "sd3" else channels // 4  # FLUX.2 counts those of 2x2 latents

    @property
    def multiple_of(self) -> int:
        """Height and width in latents must be multiples of this."""
        return 2

    def _rules(self) -> Iterator[tuple[bool, str]]:
        """What would otherwise surface in the first forward pass, or never."""
        settings, side = self.settings, self.multiple_of
        channels = settings["in_channels"]
        yield settings["out_channels"] in (None, channels), f"out_channels must be {channels}, as many as go in"
        yield self.window > 0 and self.window % side == 0, f"window must be a positive multiple of {side}"
        yield from (_sd3_rules if self.kind == "sd3" else _flux2_rules)(settings, self.window)


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Which layers get LoRA matrices, and how large; alpha equals the rank, so the matrices count as they are.

    Attributes:
        rank: inner size of the matrices.
        targets: "attention" (queries, keys, values and outputs of both streams) and "mlp" (the feed-forwards of
            both). The single-stream blocks of FLUX.2 compute both in fused layers, which belong to either.
    """

    rank: int
    targets: tuple[str, ...] = ("attention",)

    def __post_init__(self) -> None:
        if not isinstance(self.rank, int) or not isinstance(self.targets, tuple):
            raise TypeError("rank must be a whole number and targets a tuple of names")
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, not {self.rank}")
        if not self.targets or set(self.targets) - _GROUPS.keys() or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"targets must name each of {', '.join(_GROUPS)} at most once, not {self.targets}")

    def find_layers(self, transformer: nn.Module) -> list[str]:
        """Names of the linear layers that the targets stand for.

        Raises:
            ValueError: a target matches none, which would leave the network as it is without a word.
        """
        found: set[str] = set()
        for target in self.targets:
            layers = {name for name, _ in transformer.named_modules() if re.fullmatch(_GROUPS[target], name)}
            if not layers:
                raise ValueError(f"no layer of {type(transformer).__name__} is called as those of {target!r} are")
            found |= layers
        return sorted(found)


def find_class(kind: str) -> Any:
    """The class of a kind; diffusers, which it is from, takes three seconds to import."""
    import diffusers

    return getattr(diffusers, CLASSES[kind])


def _defaults(kind: str) -> dict[str, Any]:
    if kind == "sd3":
        return dict(joint_transformer.DEFAULTS)
    signature = inspect.signature(find_class(kind).__init__)
    return {name: parameter.default for name, parameter in signature.parameters.items() if name != "self"}


def _check_setting(key: str, value: object, defaults: Mapping[str, Any]) -> None:
    if key not in defaults:
        raise TypeError(f"{key!r} is no setting of this transformer")
    default = defaults[key]
    if isinstance(default, tuple):
        if not isinstance(value, tuple | list) or not all(type(entry) is int and entry >= 0 for entry in value):
            raise TypeError(f"{key} must be a list of whole numbers, not {value!r}")
    elif isinstance(default, bool):
        if not isinstance(value, bool):
            raise TypeError(f"{key} must be true or false, not {value!r}")
    elif isinstance(default, int | float):
        _check_number(key, value, whole=isinstance(default, int))


def _check_number(key: str, value: object, *, whole: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise TypeError(f"{key} must be a {'whole ' if whole else ''}number, not {value!r}")
    if value <= 0:
        raise ValueError(f"{key} must be more than 0, not {value!r}")


def _sd3_rules(settings: Mapping[str, Any], window: int) -> Iterator[tuple[bool, str]]:
    width, table = settings["num_attention_heads"] * settings["attention_head_dim"], 2 * settings["pos_embed_max_size"]
    yield settings["patch_size"] == 2, "patch_size must be 2"
    yield settings["caption_projection_dim"] == width, f"caption_projection_dim must be {width}, as wide as its heads"
    yield settings["qk_norm"] in (None, "rms_norm"), "qk_norm must be null or rms_norm"
    yield window <= table, f"window must be at most {table}, what pos_embed_max_size allows"


def _flux2_rules(settings: Mapping[str, Any], window: int) -> Iterator[tuple[bool, str]]:
    axes, head = settings["axes_dims_rope"], settings["attention_head_dim"]
    yield settings["patch_size"] == 1, "patch_size must be 1, since 2x2 latents are packed before"
    yield settings["in_channels"] % 4 == 0, "in_channels must be those of 2x2 latents, a multiple of 4"
    yield not settings["guidance_embeds"], "guidance_embeds must be false, as no guidance is given"
    yield len(axes) == 4 and sum(axes) == head, f"axes_dims_rope must be four and sum up to {head}, the size of a head"

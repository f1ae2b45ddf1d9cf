"""A pretrained flow transformer of diffusers as a velocity field from blurry to sharp, adapted by LoRA.

Everything that diffusers' flow models see differently is converted here and nowhere else: they count noise instead of
time (sigma = 1 - t), SD3 wants it times 1000, they predict the velocity towards the noise, and FLUX.2 reads 2x2
latents as one token. Knows latents only: no codec, no path, no files.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from deblur_cli.networks.flow_transformer_config import FlowTransformerConfig, LoraSettings, find_class
from deblur_cli.networks.joint_transformer import JointTransformer, suffices
from deblur_cli.networks.memory import give_memory

__all__ = ["FlowTransformer", "FlowTransformerConfig", "LoraSettings", "WidenedEmbedding"]

_EMBEDDINGS = {"sd3": "pos_embed.proj", "flux2": "x_embedder"}
_ADAPTER = "default"  # peft's name for an adapter without one


class WidenedEmbedding(nn.Module):
    """A patch embedding with as many input columns again, for the blurry latents; these start at zero.

    The new columns are a layer of their own whose output is added. That is the same sum as in one wider matrix, but
    no optimizer ever holds the old columns: masking their gradient would not do, since weight decay moves a parameter
    without one. And the adapter's file keeps the new columns alone.
    """

    def __init__(self, base_layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.base_layer = base_layer  # called as in peft, so that one rule finds the base's own key names
        self.axis = 1 if isinstance(base_layer, nn.Conv2d) else -1
        self.condition = _zero_twin(base_layer)

    def forward(self, both: Tensor) -> Tensor:
        x_t, blurry = both.chunk(2, dim=self.axis)
        embedded: Tensor = self.base_layer(x_t)
        update: Tensor = self.condition(blurry)
        return embedded + update.to(embedded.dtype)


class FlowTransformer(nn.Module):
    """Velocity from blurry to sharp latents: a diffusers transformer, an empty prompt, and perhaps an adapter.

    Built with random weights. The latents may be float32 whatever the weights are: they are cast where they enter,
    so that time, which FLUX.2 rounds to the number format of its latents, keeps its precision.

    Args:
        lean: for running only, where our own modules suffice: they are there at once, and diffusers and peft, which
            are imported otherwise, take three seconds.

    Attributes:
        prompt: embeddings of the empty prompt, (1, L, joint); one zero token until `set_prompt`.
        pooled: its pooled embedding, (1, pooled), of SD3 only.
    """

    prompt: Tensor
    pooled: Tensor | None

    def __init__(self, config: FlowTransformerConfig, *, lean: bool = False) -> None:
        super().__init__()
        self.config = config
        self.lora: LoraSettings | None = None
        self.is_fused = False
        self.transformer: Any = _build_transformer(config, lean=lean)
        _cast_at_the_door(self._embedding)
        if config.kind == "flux2":
            _cast_at_the_door(self.transformer.time_guidance_embed.timestep_embedder)
        joint, pooled = config.settings["joint_attention_dim"], config.settings.get("pooled_projection_dim")
        self.register_buffer("prompt", torch.zeros(1, 1, joint), persistent=False)
        self.register_buffer("pooled", None if pooled is None else torch.zeros(1, pooled), persistent=False)

    def forward(self, x_t: Tensor, t: Tensor, blurry: Tensor | None = None) -> Tensor:
        """The velocity at points of the path.

        Args:
            x_t: latents, (B, C, h, w), sides multiples of `config.multiple_of`.
            t: time of each, (B,), 0 at the source and 1 at sharp.
            blurry: latents of the photo as taken, shaped as x_t; for a widened network, and only for one.
        Returns:
            (B, C, h, w) in x_t's number format: latents per unit time, towards sharp.
        Raises:
            ValueError: a shape does not fit, or blurry is missing or not wanted.
        """
        self._check_latents(x_t, t, blurry)
        latents = x_t if blurry is None else torch.cat([x_t, blurry], dim=1)
        predict = self._predict_sd3 if self.config.kind == "sd3" else self._predict_flux2
        towards_noise = predict(latents.float(), 1 - t.float())
        return -towards_noise.to(x_t.dtype)

    @property
    def is_widened(self) -> bool:
        """Whether the network sees the blurry latents."""
        return isinstance(self._embedding, WidenedEmbedding)

    def widen(self) -> None:
        """Let the network see the blurry latents; at first they change nothing, to the bit.

        Raises:
            ValueError: it sees them already.
        """
        if self.is_widened:
            raise ValueError("the network is widened already")
        self.transformer.set_submodule(_EMBEDDINGS[self.config.kind], WidenedEmbedding(self._embedding))

    def attach_lora(self, settings: LoraSettings) -> None:
        """Add LoRA matrices, which change nothing at first, and freeze all but these and the widened columns.

        The matrices are float32 on a base of fewer bits. Their first values come from torch's global generator.

        Raises:
            ValueError: a target matches no layer, or the network has or had an adapter.
        """
        if self.lora is not None:
            raise ValueError("the network has a LoRA already")
        from peft import LoraConfig, inject_adapter_in_model

        layers = settings.find_layers(self.transformer)
        lora = LoraConfig(r=settings.rank, lora_alpha=settings.rank, target_modules=layers)
        inject_adapter_in_model(lora, self.transformer, _ADAPTER)
        for key, parameter in self.transformer.named_parameters():
            parameter.requires_grad_(_is_adapted(key))
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        self.lora = settings

    def fuse(self) -> None:
        """Add the LoRA matrices into the base for speed; neither can be told apart, stored or loaded afterwards.

        Raises:
            ValueError: there is no LoRA, or it is fused already.
        """
        if self.lora is None or self.is_fused:
            raise ValueError("there is no LoRA left to fuse")
        from peft.tuners.tuners_utils import BaseTunerLayer

        layers = {name: layer for name, layer in self.transformer.named_modules() if isinstance(layer, BaseTunerLayer)}
        for name, layer in layers.items():
            layer.merge()
            self.transformer.set_submodule(name, layer.get_base_layer())
        self.is_fused = True

    def load_fused(self, settings: LoraSettings, state: Mapping[str, Tensor]) -> None:
        """Add an adapter's matrices into the base as `attach_lora`, `load_adapter` and `fuse` do, to the bit.

        Raises:
            ValueError: a target matches no layer, the network has or had an adapter, or the tensors do not fit it.
        """
        if self.lora is not None:
            raise ValueError("the network has a LoRA already")
        layers = {name: self.transformer.get_submodule(name) for name in settings.find_layers(self.transformer)}
        matrices = {}
        for name, layer in layers.items():
            matrices[f"{name}.lora_A.weight"] = torch.empty(settings.rank, layer.in_features)
            matrices[f"{name}.lora_B.weight"] = torch.empty(layer.out_features, settings.rank)
        _copy_exactly({**self.adapter_state(), **matrices}, state, "adapter weights")
        for name, layer in layers.items():
            low, high = (matrices[f"{name}.lora_{side}.weight"] for side in "AB")
            layer.weight.data += (high @ low).to(layer.weight.device)
        for key, parameter in self.transformer.named_parameters():  # torch adds up a frozen layer in another order
            parameter.requires_grad_(_is_adapted(key))
        self.lora, self.is_fused = settings, True

    def use_exact_gelu(self) -> None:
        """Replace the approximation of GELU by GELU itself: five times quicker on a CPU in bfloat16.

        They differ by less than 5e-4, a tenth of what bfloat16 rounds away there; for running, not for training.
        """
        for layer in self.transformer.modules():
            if getattr(layer, "approximate", None) == "tanh":
                layer.approximate = "none"

    def set_prompt(self, prompt: Tensor, pooled: Tensor | None = None) -> None:
        """Use these embeddings of the empty prompt, cast to the network's device and number format.

        Args:
            prompt: (1, L, joint).
            pooled: (1, pooled), for SD3 and only there.
        Raises:
            ValueError: a shape does not fit, or pooled is missing or not wanted.
        """
        joint = self.prompt.shape[-1]
        if prompt.ndim != 3 or prompt.shape[0] != 1 or prompt.shape[1] < 1 or prompt.shape[2] != joint:
            raise ValueError(f"the prompt must be (1, L, {joint}), not {tuple(prompt.shape)}")
        found, wanted = (None if x is None else tuple(x.shape) for x in (pooled, self.pooled))
        if found != wanted:
            raise ValueError(f"the pooled prompt must be {wanted}, not {found}")
        self.prompt = prompt.to(self.prompt)
        self.pooled = None if pooled is None else pooled.to(self.prompt)

    def adapter_state(self) -> dict[str, Tensor]:
        """The adapter's own tensors: every LoRA matrix and the widened columns, named as diffusers stores them.

        Raises:
            ValueError: the LoRA is fused.
        """
        return {key.replace(f".{_ADAPTER}.", "."): value for key, value in self._tensors(adapted=True)}

    def load_adapter(self, state: Mapping[str, Tensor]) -> None:
        """Copy an adapter into the matrices and columns that were attached.

        Raises:
            ValueError: a key is missing or unexpected, a shape differs, or the LoRA is fused; nothing is changed.
        """
        _copy_exactly(self.adapter_state(), state, "adapter weights")

    def base_state(self) -> dict[str, Tensor]:
        """The tensors of the diffusers transformer without any adapter, under its own names.

        Raises:
            ValueError: the LoRA is fused.
        """
        return {key.replace(".base_layer.", "."): value for key, value in self._tensors(adapted=False)}

    def load_base(self, state: Mapping[str, Tensor]) -> None:
        """Copy the weights of a diffusers transformer, before or after `widen` and `attach_lora`.

        A large one is built on the meta device and gets its memory here: `to(dtype)`, `take_memory(device)`,
        `load_base`, `set_prompt`.

        Raises:
            ValueError: a key is missing or unexpected, a shape differs, or the LoRA is fused; nothing is changed.
        """
        _copy_exactly(self.base_state(), state, "base weights")

    def take_memory(self, device: torch.device | str) -> None:
        """On a device, for what was built on the meta device; the prompt is zeros: no weights file brings it."""
        give_memory(self, device)
        for embeddings in self.buffers(recurse=False):
            embeddings.zero_()

    def enable_gradient_checkpointing(self) -> None:
        """Compute the blocks again on the way back instead of keeping what they computed."""
        self.transformer.enable_gradient_checkpointing()

    @property
    def _embedding(self) -> Any:
        return self.transformer.get_submodule(_EMBEDDINGS[self.config.kind])

    def _predict_sd3(self, latents: Tensor, sigma: Tensor) -> Tensor:
        assert self.pooled is not None
        output: Tensor = self.transformer(
            hidden_states=latents,
            encoder_hidden_states=self.prompt.expand(len(latents), -1, -1),
            pooled_projections=self.pooled.expand(len(latents), -1),
            timestep=1000 * sigma,
            return_dict=False,
        )[0]
        return output

    def _predict_flux2(self, latents: Tensor, sigma: Tensor) -> Tensor:
        height, width = latents.shape[-2:]
        output: Tensor = self.transformer(
            hidden_states=_pack(latents),
            encoder_hidden_states=self.prompt.expand(len(latents), -1, -1),
            timestep=sigma,  # multiplied by 1000 in there
            img_ids=_token_ids((1, height // 2, width // 2, 1), latents.device),
            txt_ids=_token_ids((1, 1, 1, self.prompt.shape[1]), latents.device),
            guidance=None,
            return_dict=False,
        )[0]
        return _unpack(output, height, width)

    def _tensors(self, *, adapted: bool) -> list[tuple[str, Tensor]]:
        if self.is_fused:
            raise ValueError("the LoRA is fused into the base: neither can be stored or loaded")
        return [(key, value) for key, value in self.transformer.state_dict().items() if _is_adapted(key) is adapted]

    def _check_latents(self, x_t: Tensor, t: Tensor, blurry: Tensor | None) -> None:
        shape, side = tuple(x_t.shape), self.config.multiple_of
        if len(shape) != 4 or shape[1] != self.config.channels or shape[2] % side or shape[3] % side:
            raise ValueError(f"latents must be (B, {self.config.channels}, h, w), sides multiples of {side}: {shape}")
        if tuple(t.shape) != shape[:1]:
            raise ValueError(f"one time for each of {shape[0]} latents, not {tuple(t.shape)}")
        if (blurry is not None) is not self.is_widened:
            raise ValueError("blurry latents are for a widened network, and only for one")
        if blurry is not None and tuple(blurry.shape) != shape:
            raise ValueError(f"blurry latents must be {shape}, not {tuple(blurry.shape)}")


def _build_transformer(config: FlowTransformerConfig, *, lean: bool) -> Any:
    if lean and config.kind == "sd3" and suffices(config.settings):
        return JointTransformer(config.settings)
    return find_class(config.kind)(**config.transformer)


def _pack(latents: Tensor) -> Tensor:
    """FLUX.2's tokens, (B, h/2 * w/2, 4C): 2x2 latents each, row after row, channel by channel."""
    return functional.pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2)


def _unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The latents again, (B, C, h, w)."""
    return functional.pixel_shuffle(tokens.transpose(1, 2).reshape(len(tokens), -1, height // 2, width // 2), 2)


def _token_ids(sizes: tuple[int, int, int, int], device: torch.device) -> Tensor:
    """(tokens, 4): picture, row, column and place in the text of each token of FLUX.2."""
    return torch.cartesian_prod(*(torch.arange(size, device=device) for size in sizes))


def _zero_twin(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """A layer of the same shape and hooks without bias: all zeros, to be trained, in float32 as LoRA matrices are."""
    twin = copy.deepcopy(layer).float().requires_grad_(True)
    twin.register_parameter("bias", None)
    nn.init.zeros_(twin.weight)
    return twin


def _cast_at_the_door(layer: nn.Module) -> None:
    """Let a layer take any number format and compute in its own."""
    layer.register_forward_pre_hook(_to_own_format)


def _to_own_format(layer: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
    return (arguments[0].to(next(layer.parameters()).dtype),)


def _is_adapted(key: str) -> bool:
    return ".lora_" in key or ".condition." in key


def _copy_exactly(targets: Mapping[str, Tensor], state: Mapping[str, Tensor], what: str) -> None:
    """Copy every tensor to its target of the same name and shape, or none of them."""
    faults = {
        "missing": targets.keys() - state.keys(),
        "unexpected": state.keys() - targets.keys(),
        "of another shape": {key for key in targets.keys() & state.keys() if targets[key].shape != state[key].shape},
    }
    found = [f"{len(keys)} {fault} ({', '.join(sorted(keys)[:3])})" for fault, keys in faults.items() if keys]
    if found:
        raise ValueError(f"the {what} do not fit the network: {'; '.join(found)}")
    if any(target.is_meta for target in targets.values()):
        raise ValueError(f"the {what} have no memory to go to: call take_memory(device) first")
    for key, target in targets.items():
        target.copy_(state[key].detach())

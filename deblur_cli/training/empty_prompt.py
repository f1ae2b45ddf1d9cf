"""The embeddings of the empty prompt of a large base, computed once from the text encoders of its pipeline.

Knows folders as diffusers writes them, and only the encoders in them: neither transformer nor autoencoder is read.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional

from deblur_cli.checkpoint import save_tensors, shorten
from deblur_cli.errors import WeightsError

_CLIP_TOKENS = 77  # of SD3's first two encoders
_T5_TOKENS = 256  # of its third, which come after those
_QWEN_TOKENS = 512
_QWEN_LAYERS = (9, 18, 27)  # whose states FLUX.2-klein sees side by side
_LARGE = 2_000_000_000  # parameters, of which T5 has more and CLIP has less

Embeddings = dict[str, Tensor]


def write_empty_prompt(pipeline: Path, path: Path) -> None:
    """Write `prompt` (1, L, joint) and, of SD3, `pooled` (1, pooled), as `deblur train flow --prompt` takes them.

    Args:
        pipeline: folder of a StableDiffusion3Pipeline or a Flux2KleinPipeline.
    Raises:
        WeightsError: it is neither, an encoder is missing or damaged, or the file cannot be written.
    """
    name, embed = _find_kind(pipeline)
    try:
        with torch.inference_mode(), _silence_transformers():
            tensors = embed(pipeline)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as fault:
        what = f"its text encoders cannot be used ({shorten(fault)})"
        raise WeightsError(f"{pipeline}: {what}; download them again") from fault
    try:
        save_tensors(tensors, path, {"config": {"pipeline": name, "tokens": tensors["prompt"].shape[1]}})
    except (OSError, SafetensorError) as fault:
        raise WeightsError(f"{path}: cannot be written ({fault}); choose another --out") from fault


def _find_kind(pipeline: Path) -> tuple[str, Callable[[Path], Embeddings]]:
    path = pipeline / "model_index.json"
    try:
        name = json.loads(path.read_text(encoding="utf-8"))["_class_name"]
        return name, _KINDS[name]
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise WeightsError(f"{path}: is of no {' or '.join(_KINDS)} ({fault}); give the pipeline's folder") from fault


def _embed_sd3(pipeline: Path) -> Embeddings:
    """CLIP-L and CLIP-G side by side, zeros up to T5's width, then T5, or zeros where it is not there.

    Source: diffusers, StableDiffusion3Pipeline.encode_prompt (Apache-2.0).
    """
    first, second = (_embed_clip(pipeline, suffix) for suffix in ("", "_2"))
    clip, pooled = torch.cat([first[0], second[0]], -1), torch.cat([first[1], second[1]], -1)
    t5 = _embed_t5(pipeline)
    if t5 is None:
        t5 = clip.new_zeros(1, _T5_TOKENS, _read_joint(pipeline))
    widened = functional.pad(clip, (0, t5.shape[-1] - clip.shape[-1]))
    return {"prompt": torch.cat([widened, t5], 1), "pooled": pooled}


def _embed_clip(pipeline: Path, suffix: str) -> tuple[Tensor, Tensor]:
    """The last layer but one, (1, 77, C), and the projected whole, (1, P)."""
    from transformers import CLIPTextModelWithProjection

    tokens = _tokenize(_load_tokenizer(pipeline / f"tokenizer{suffix}"), "", _CLIP_TOKENS)
    encoder = _load(CLIPTextModelWithProjection, pipeline / f"text_encoder{suffix}")
    told = encoder(tokens["input_ids"], output_hidden_states=True)
    return told.hidden_states[-2], told.text_embeds


def _embed_t5(pipeline: Path) -> Tensor | None:
    from transformers import T5EncoderModel

    if not (pipeline / "text_encoder_3").is_dir():
        return None
    tokens = _tokenize(_load_tokenizer(pipeline / "tokenizer_3"), "", _T5_TOKENS)
    encoder = _load(T5EncoderModel, pipeline / "text_encoder_3")
    states: Tensor = encoder(tokens["input_ids"])[0]  # padding included, as the base has learned it
    return states


def _read_joint(pipeline: Path) -> int:
    table = json.loads((pipeline / "transformer" / "config.json").read_text(encoding="utf-8"))
    joint: int = table["joint_attention_dim"]
    return joint


def _embed_flux2(pipeline: Path) -> Embeddings:
    """Three layers of Qwen3 side by side, for an empty message of a user.

    Source: diffusers, Flux2KleinPipeline.encode_prompt (Apache-2.0).
    """
    from transformers import Qwen3Model

    tokenizer = _load_tokenizer(pipeline / "tokenizer")
    message = [{"role": "user", "content": ""}]
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    tokens = _tokenize(tokenizer, text, _QWEN_TOKENS)
    encoder = _load(Qwen3Model, pipeline / "text_encoder")
    states = encoder(**tokens, output_hidden_states=True, use_cache=False).hidden_states
    return {"prompt": torch.cat([states[layer] for layer in _QWEN_LAYERS], -1)}  # (1, 512, 3 C)


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _tokenize(tokenizer: Any, text: str, length: int) -> dict[str, Tensor]:
    """Tokens and their mask, (1, length) each."""
    told = tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return {key: told[key] for key in ("input_ids", "attention_mask")}


def _load(kind: Any, folder: Path) -> Any:
    """An encoder in the number format it is stored in; for float16, of which processors make little, in another one.

    Raises:
        ValueError: a tensor is not there, which transformers would only mention and fill with noise.
    """
    told = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True, "dtype": "auto"}
    encoder, report = kind.from_pretrained(folder, **told)
    if report["missing_keys"]:
        raise ValueError(f"{folder.name} lacks {sorted(report['missing_keys'])[0]}")
    if encoder.dtype == torch.float16:
        encoder = encoder.to(torch.bfloat16 if encoder.num_parameters() > _LARGE else torch.float32)
    return encoder.eval()


@contextmanager
def _silence_transformers() -> Iterator[None]:
    """Without the bars and reports that transformers writes while it reads weights."""
    from transformers.utils import logging

    console: Any = logging
    level = console.get_verbosity()
    console.set_verbosity_error()
    console.disable_progress_bar()
    try:
        yield
    finally:
        console.set_verbosity(level)
        console.enable_progress_bar()


_KINDS: dict[str, Callable[[Path], Embeddings]] = {
    "StableDiffusion3Pipeline": _embed_sd3,
    "Flux2KleinPipeline": _embed_flux2,
}

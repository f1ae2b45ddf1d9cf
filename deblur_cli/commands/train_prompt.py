"""`deblur train prompt`: the empty prompt of a large base, computed once."""

from pathlib import Path
from typing import Annotated

from deblur_cli.commands.options import option
from deblur_cli.commands.streams import write_result
from deblur_cli.errors import InputError


def prompt(
    pipeline: Annotated[
        Path, option("Training", "--pipeline", "Folder of the base's pipeline, with its text encoders.", metavar="DIR")
    ],
    out: Annotated[Path, option("Training", "--out -o", "The embeddings, a .safetensors file.", metavar="FILE")],
) -> None:
    """Compute what a large base's text encoders say to an empty prompt, for `deblur train flow --prompt`.

    The folder is one of Stable Diffusion 3 or FLUX.2-klein as diffusers has it; of its parts only model_index.json,
    text_encoder*/ and tokenizer*/ are read. Without SD3's text_encoder_3/ its part is zeros, as in diffusers.

    \b
    Example:
      hf download black-forest-labs/FLUX.2-klein-base-4B --local-dir klein \\
        --include model_index.json "text_encoder/*" "tokenizer/*"
      deblur train prompt --pipeline klein --out prompt.safetensors
    """
    if out.suffix.lower() != ".safetensors":
        raise InputError(f"--out {out}: give a name that ends in .safetensors")
    if not pipeline.is_dir():
        raise InputError(f"--pipeline {pipeline}: no such folder")
    from deblur_cli.training.empty_prompt import write_empty_prompt

    write_empty_prompt(pipeline, out)
    write_result(str(out))

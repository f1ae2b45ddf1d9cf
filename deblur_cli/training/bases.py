"""The frozen base of a flow training: the bundled one, a local folder or file, or one from the Hub."""

from dataclasses import dataclass
from pathlib import Path

from deblur_cli import weights
from deblur_cli.backends import flow_base
from deblur_cli.backends.flow_base import PROMPT_HINT, BaseFiles
from deblur_cli.errors import InputError
from deblur_cli.networks.flow_transformer import FlowTransformer
from deblur_cli.system.devices import DTYPES
from deblur_cli.system.files import hash_file


@dataclass(frozen=True, slots=True)
class Base:
    """A base with its weights, and what they are known by.

    Attributes:
        sha256: of its one file; of a folder in shards, of the text of the shards' hashes in order.
        codec: sha256 of the codec it was trained on, where it is one of this tool's.
        prompt: sha256 of the file of its empty prompt; None where that is one zero token.
    """

    network: FlowTransformer
    sha256: str
    codec: str | None
    prompt: str | None


def load_frozen_base(
    name: str, dtype: str = "float32", *, window: int | None = None, prompt: Path | None = None
) -> Base:
    """A base by the name of a model, by a folder as diffusers writes it, or by one file.

    Args:
        dtype: of its weights, `float32` or `bfloat16`; large ones are frozen in the latter.
        window: side in latents of what it will be trained on; None takes the base's own.
        prompt: file of its empty prompt; None takes the model's, else one zero token, which only bases of this tool
            were trained with.
    Raises:
        InputError: no such file, folder or model with a base, or a base from elsewhere without prompt.
        WeightsError: its weights are missing, damaged or do not fit.
    """
    if dtype not in DTYPES:
        raise InputError(f"the recipe's base_dtype = {dtype!r}: choose {' or '.join(DTYPES)}")
    files, chosen = _find(name, prompt)
    network = flow_base.load_base(files, window, DTYPES[dtype])
    if chosen is not None:
        flow_base.load_prompt(network, chosen)
    return Base(network, files.sha256, files.codec, None if chosen is None else hash_file(chosen))


def _find(name: str, prompt: Path | None) -> tuple[BaseFiles, Path | None]:
    """A base's files, and its prompt: the given one, else its model's. Nothing large is fetched in vain."""
    if Path(name).exists():
        files = flow_base.find_base(Path(name))
        _check_prompt(name, prompt, is_foreign=files.is_foreign)
        return files, prompt
    manifest = weights.read_manifest()
    known = [entry.name for entry in manifest.models.values() if _is_flow(entry)]
    if manifest.resolve(name) not in known:
        raise InputError(f"--base {name}: no such file or folder, and no model with a base; known: {', '.join(known)}")
    roles = weights.find_model(name).files
    if prompt is None and "prompt" in roles:
        prompt = weights.fetch(roles["prompt"]).path
    _check_prompt(name, prompt, is_foreign="base_config" in roles)
    paths = {role: weights.fetch(roles[role]).path for role in ("base_config", "base") if role in roles}
    return flow_base.find_base(paths["base"], paths.get("base_config")), prompt


def _check_prompt(name: str, prompt: Path | None, *, is_foreign: bool) -> None:
    if is_foreign and prompt is None:
        raise InputError(f"--base {name}: needs its empty prompt, which --prompt FILE gives; {PROMPT_HINT}")
    if prompt is not None and not prompt.is_file():
        raise InputError(f"--prompt {prompt}: no such file; {PROMPT_HINT}")


def _is_flow(entry: weights.ModelEntry) -> bool:
    return entry.backend == "dual_expert" and "base" in entry.files

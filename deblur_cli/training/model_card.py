"""The model card of an exported folder, made from what its files say about themselves. Writes no files."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deblur_cli.system.wording import count
from deblur_cli.weights.entries import WeightsFile
from deblur_cli.weights.model_folder import ModelFolder

# The Hub's own words for licences; any other is told in full under the word "other".
_LICENCES = (
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "openrail", "openrail++",
    "creativeml-openrail-m", "unlicense",
)  # fmt: skip
_TAGS = ("deblurring", "motion-deblurring", "image-restoration", "photography")
_NAMES = {
    "expert": "fidelity expert",
    "second": "second expert, another version of the photo",
    "blend": "blend of its estimate with other versions of the photo",
    "codec": "r-space codec",
    "base_config": "its shape, as diffusers has it",
    "base": "flow transformer (frozen base)",
    "lora": "LoRA adapter",
    "prompt": "empty prompt",
}


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What the card tells.

    Attributes:
        metadata: role -> header metadata of its file, empty where the file stays on the Hub.
        licence, data_note, repository: empty where not told.
        notes: on the combination of the files, a line each.
    """

    model: ModelFolder
    metadata: Mapping[str, Mapping[str, Any]]
    licence: str
    data_note: str
    repository: str
    notes: Sequence[str]


def write_card(facts: CardFacts) -> str:
    """Markdown, with the front matter that the Hub reads."""
    sections = [
        _write_front_matter(facts),
        _introduce(facts),
        _show_use(facts),
        _list_files(facts.model.entry.files),
        _show_training(facts),
        _show_recipes(facts),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _write_front_matter(facts: CardFacts) -> str:
    flow = ("rectified-flow", "lora") if "lora" in facts.model.entry.files else ()
    lines = ["---", *_name_licence(facts.licence), "library_name: deblur-cli", "pipeline_tag: image-to-image", "tags:"]
    lines += [f"- {tag}" for tag in (*_TAGS, *flow)]
    base = facts.model.entry.files.get("base")
    if base is not None and base.kind == "hub":
        lines += [f"base_model: {json.dumps(base.repository)}", "base_model_relation: adapter"]
    return "\n".join([*lines, "---"])


def _name_licence(licence: str) -> list[str]:
    if not licence:
        return []
    if licence.lower() in _LICENCES:
        return [f"license: {licence.lower()}"]
    name = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-")[:60] or "see-below"
    return ["license: other", f"license_name: {json.dumps(name)}"]


def _introduce(facts: CardFacts) -> str:
    flow = (
        "It sharpens motion-blurred photos. The expert makes a faithful estimate in one pass; a rectified flow in "
        "r-space, from that estimate to the sharp photo, then adds the detail that is missing. Strength 0 gives the "
        "expert's own picture, to the bit."
    )
    alone = "It sharpens motion-blurred photos: one network, one pass, faithful to what the photo shows."
    licence = [f"Licence: {facts.licence}."] if facts.licence else []
    return "\n\n".join([f"# {facts.model.entry.name}", flow if "lora" in facts.model.entry.files else alone, *licence])


def _show_use(facts: CardFacts) -> str:
    name, flow = facts.model.entry.name, facts.model.entry.flow
    source = f"hf://{facts.repository}" if facts.repository else "PATH/TO/THIS/FOLDER"
    lines = [
        "## Use",
        "",
        "```sh",
        f"deblur weights add {name} {source}",
        f"deblur run photos/ -o sharp/ --model {name}",
    ]
    if flow:
        lines += [
            f"deblur run photo.jpg -o sharp.jpg --model {name} --steps {flow['steps']} --strength 0.5   # less of it"
        ]
    lines += ["```", "", "`deblur weights add` notes the sha256 of every file; none is used with other bytes."]
    if flow:
        lines += [f"Without options: {count(flow['steps'], 'step')}, strength {flow['strength']:g}."]
    return "\n".join([*lines, *(f"\nNote: {note}." for note in facts.notes)])


def _list_files(files: Mapping[str, WeightsFile]) -> str:
    rows = [
        (
            _NAMES[role],
            f"`{file.path}`" if file.path else _link(file),
            f"{(file.bytes or 0) / 1e6:.1f}",
            file.licence,
            f"`{file.sha256}`",
        )
        for role, file in files.items()
    ]
    return "## Files\n\n" + _write_table(("what", "file", "MB", "licence", "sha256"), rows)


def _link(file: WeightsFile) -> str:
    page = f"https://huggingface.co/{file.repository}/blob/{file.revision}/{file.name}"
    return f"[{file.repository}: {file.name}]({page}), not copied"


def _show_training(facts: CardFacts) -> str:
    """What the files say of it; nothing where none of them does."""
    rows = [(role, told["training"]) for role, told in facts.metadata.items() if "training" in told]
    tables = [_write_table(("what", "steps", "minutes", "batch", "optimizer", "seed"), [_tell(*row) for row in rows])]
    shares = [(_NAMES[role], *_tell_shares(training)) for role, training in rows if "data" in training]
    tables += [_write_table(("pictures for", "photos", "frame averages", "real pairs"), shares)] if shares else []
    lineage = [
        f"- {_NAMES[role]}, on {_NAMES.get(parent, parent)} `{sha256[:12]}`"
        for role in facts.model.entry.files
        for parent, sha256 in facts.model.trained_on.get(role, {}).items()
    ]
    told = [*(tables if rows else ()), *(["Trained one on the other:\n\n" + "\n".join(lineage)] if lineage else ())]
    data = [f"Data: {facts.data_note}"] if facts.data_note else []
    return "\n\n".join(["## Training", *told, *data]) if told or data else ""


def _tell(role: str, training: Mapping[str, Any]) -> tuple[str, ...]:
    schedule = training.get("schedule", {})
    optimizer = f"{schedule.get('optimizer', '')} {schedule.get('learning_rate', '')}".strip()
    cells = [
        training.get("steps"),
        training.get("minutes_spent"),
        schedule.get("batch"),
        optimizer,
        training.get("seed"),
    ]
    return _NAMES[role], *("" if cell is None else str(cell) for cell in cells)


def _tell_shares(training: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(training["data"].get(f"{kind}_share", "")) for kind in ("photo", "frame", "pair"))


def _show_recipes(facts: CardFacts) -> str:
    """The whole recipes, folded."""
    blocks = []
    for role, told in facts.metadata.items():
        if "training" in told:
            recipe = json.dumps({"config": told.get("config"), "training": told["training"]}, indent=2)
            title = f"<summary>Recipe of the {_NAMES[role]}</summary>"
            blocks.append(f"<details>\n{title}\n\n```json\n{recipe}\n```\n\n</details>")
    return "\n\n".join(blocks)


def _write_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)

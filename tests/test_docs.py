"""README, docs and help texts name commands, options and models that are there, and all that a user needs."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from deblur_cli.app import build_app
from deblur_cli.errors import WeightsError
from deblur_cli.weights import find_model
from deblur_cli.weights.manifest import read_shipped_manifest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "deblur_cli/bundled/MODEL_CARD.md"])
NOW = [page for page in PAGES if page.name != "experiments.md"]  # a journal: it names what was there on its day
SHIPPED = read_shipped_manifest().models
EXAMPLE_MODELS = {"NAME", "mine", "expert", "flow", "nafnet-mine"}  # what a reader puts in or has made


@pytest.fixture(scope="module")
def commands() -> dict[str, Any]:
    """ "run", "train expert", … -> what Typer made of it."""
    os.environ["_DEBLUR_COMPLETE"] = "1"  # or only the named command would be loaded
    try:
        top = typer.main.get_command(build_app([]))
    finally:
        del os.environ["_DEBLUR_COMPLETE"]
    return dict(list_commands(top, ""))


def list_commands(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    for word, command in group.commands.items():
        whole = f"{name} {word}".strip()
        if hasattr(command, "commands"):
            yield from list_commands(command, whole)
            yield whole, command
        else:
            yield whole, command


def calls(text: str) -> Iterator[list[str]]:
    """The words of every `deblur …` in code, inline or in a block, without what a shell does around it."""
    text = text.replace("\\\n", " ")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    for line in [line for block in blocks for line in block.splitlines()] + inline:
        for part in re.split(r"&&|\|(?!\w+\|)|;", re.sub(r"\s#.*", "", line)):
            found = re.match(r"\s*(?:\$ )?(?:[A-Z_]+=\S+ )*(?:python -m deblur_cli|deblur)((?: .*)?)$", part)
            if found:
                yield split(found.group(1))


def split(text: str) -> list[str]:
    try:
        return shlex.split(text.replace("…", ""))
    except ValueError:  # a quotation mark of the sentence around it
        return text.split()


def find_command(words: list[str], commands: dict[str, Any]) -> tuple[str, list[str]]:
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in commands:
            return name, words[length:]
    return "", words


def options_of(command: Any) -> set[str]:
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


@pytest.mark.parametrize("page", NOW, ids=lambda page: page.name)
def test_every_call_in_it_has_its_command_and_its_options(page: Path, commands: dict[str, Any]) -> None:
    for words in calls(page.read_text(encoding="utf-8")):
        if not words or words[0].startswith("--"):
            assert set(words) <= {"--help", "--version", "--install-completion", "--show-completion"}, words
            continue
        name, rest = find_command(words, commands)
        assert name, f"deblur {' '.join(words)}: no such command"
        known = options_of(commands[name])
        if name == "bench":  # `measure` is what it does without a word
            known |= options_of(commands["bench measure"])
        flags = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        assert flags <= known, f"deblur {' '.join(words)}: {sorted(flags - known)}"


@pytest.mark.parametrize("page", NOW, ids=lambda page: page.name)
def test_every_model_in_it_is_there(page: Path) -> None:
    named = re.findall(r"--model[ =]([\w.+-]+)", page.read_text(encoding="utf-8"))
    for name in sorted(set(named) - EXAMPLE_MODELS):
        try:
            find_model(name)
        except WeightsError as fault:
            pytest.fail(str(fault))


def test_every_command_is_shown_somewhere(commands: dict[str, Any]) -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in NOW)
    shown = {find_command(words, commands)[0] for words in calls(text)} | {"bench measure", "train prior"}
    hidden = {name for name, command in commands.items() if command.hidden}
    groups = {name for name, command in commands.items() if hasattr(command, "commands")}
    assert set(commands) - shown - hidden - groups == set()


def test_every_model_is_described() -> None:
    text = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    described = set(re.findall(r"`([\w.+-]+)`", text))
    assert set(SHIPPED) - described == set()


def test_the_options_of_run_stand_in_its_help_in_whole_words(commands: dict[str, Any]) -> None:
    for parameter in commands["run"].params:
        assert parameter.name == "inputs" or parameter.help, parameter.name

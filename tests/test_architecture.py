"""The house rules that a reader would otherwise have to take on trust."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import deblur_cli

PACKAGE = Path(deblur_cli.__file__).parent

# From the roof down to the cellar; a module imports only from the floors below its own, and within its own room.
FLOORS = (
    ("__main__",),
    ("app",),
    ("commands",),
    ("distributed",),
    ("benchmark", "batch", "diagnosis"),
    ("training", "piece"),
    ("events",),
    ("plan",),
    ("jobs",),
    ("naming", "leftovers", "claims", "origin"),
    ("inputs", "recipe"),
    ("globs",),
    ("pipeline",),
    ("backends",),
    ("conversion",),
    ("checkpoint", "model_spec"),
    ("weights", "devices"),
    ("ddpm", "windows", "fixed_windows", "colour_match"),
    ("image_io", "folders", "tiling", "metrics", "rectified_flow", "guard", "flow_settings"),
    ("atomic", "seal"),
    ("errors",),
    ("networks", "memory", ""),
)
HEIGHT = {room: len(FLOORS) - floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
CONSOLE = {"typer", "rich"}


def room_of(module: Path) -> str:
    return "" if module.parts == ("__init__",) else module.parts[0]


def imports_of(module: Path) -> Iterator[str]:
    """Dotted names that a module imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(PACKAGE.joinpath(module).with_suffix(".py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute in this project"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported_by(module: Path) -> set[str]:
    names = [name.split(".") for name in imports_of(module)]
    inside = [parts[1] for parts in names if parts[0] == "deblur_cli" and len(parts) > 1]
    return {room if room in HEIGHT else "" for room in inside if not room.startswith("__")}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_has_its_floor_and_imports_only_go_down(module):
    room = room_of(module)
    assert room in HEIGHT, f"{module} has no floor: enter it in FLOORS"
    upward = {other for other in rooms_imported_by(module) if other != room and HEIGHT[other] >= HEIGHT[room]}
    assert not upward, f"{module} on the floor of {room!r} imports from {upward}"


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) == "networks"], ids=str)
def test_networks_import_no_other_project_module(module):
    assert rooms_imported_by(module) <= {"networks"}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_only_the_commands_own_a_console(module):
    if room_of(module) in ("commands", "app", "__main__"):
        return
    tree = ast.parse(PACKAGE.joinpath(module).with_suffix(".py").read_text(encoding="utf-8"))
    calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert "print" not in calls
    assert not {name.split(".")[0] for name in imports_of(module)} & CONSOLE


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_no_module_is_a_drawer_for_odds_and_ends(module):
    assert not {"utils", "common", "helpers", "misc"} & set(module.parts)

"""The house rules that a reader would otherwise have to take on trust."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import deblur_cli

PACKAGE = Path(deblur_cli.__file__).parent

# The map of the house, from the roof down to the cellar: a module imports only from the floors below its own, and
# within its own room. `app` is the door: the program itself, and what `import deblur_cli` gives.
FLOORS = (
    {"app"},
    {"commands"},  # a command line is parsed, checked, called and shown
    {"batch", "benchmark", "training"},  # a folder is done, models are measured, networks are trained
    {"backends"},  # weights, networks and sampling behind one method
    {"conversion"},  # published checkpoints become files of this project
    {"checkpoint", "image_io", "metrics", "restoration", "sampling", "weights"},  # one thing each, and not each other
    {"system"},  # this machine: its files, memory and devices, and pages for its browser
    {"errors", "networks"},  # they know nobody
)
DOOR = {"__init__", "__main__", "app"}
HEIGHT = {room: len(FLOORS) - floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
NAMES = {".".join(module.parts).removesuffix(".__init__"): module for module in MODULES}
CONSOLE = {"typer", "rich"}


def room_of(module: Path) -> str:
    return "app" if module.parts[0] in DOOR else module.parts[0]


def imports_of(module: Path) -> Iterator[str]:
    """Dotted names that a module imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(PACKAGE.joinpath(module).with_suffix(".py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute in this project"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules_imported_by(module: Path) -> set[Path]:
    """The project's own, by the files they lie in."""
    found = set()
    for name in imports_of(module):
        parts = name.split(".")[1:] if name.split(".")[0] == "deblur_cli" else None
        while parts and ".".join(parts) not in NAMES:
            parts = parts[:-1]
        if parts is not None:
            found.add(NAMES[".".join(parts) or "__init__"])
    return found - {module}


IMPORTS = {module: modules_imported_by(module) for module in MODULES}
ARROWS = {
    (room_of(module), room_of(other))
    for module in MODULES
    for other in IMPORTS[module]
    if room_of(module) != room_of(other)
}


def find_circle(module: Path, way: tuple[Path, ...], done: set[Path]) -> tuple[Path, ...]:
    """The modules of a circle that is met on the way on from this one; empty if there is none."""
    if module in way:
        return (*way[way.index(module) :], module)
    if module in done:
        return ()
    done.add(module)
    return next((circle for other in IMPORTS[module] if (circle := find_circle(other, (*way, module), done))), ())


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_has_its_floor_and_imports_only_go_down(module):
    room = room_of(module)
    assert room in HEIGHT, f"{module} has no floor: enter it in FLOORS"
    rooms = {room_of(other) for other in IMPORTS[module]} - {room}
    upward = {other for other in rooms if HEIGHT[other] >= HEIGHT[room]}
    assert not upward, f"{module} on the floor of {room!r} imports from {upward}"


def test_the_house_stays_small_enough_to_be_seen_at_once():
    assert {room_of(module) for module in MODULES} == set(HEIGHT), "FLOORS names rooms that are not there"
    assert len(HEIGHT) <= 18
    assert len(FLOORS) <= 8
    assert len(ARROWS) <= 60


def test_no_modules_import_each_other_in_a_circle():
    done: set[Path] = set()
    circles = [circle for module in MODULES if (circle := find_circle(module, (), done))]
    assert not circles, " -> ".join(str(module) for module in circles[0])


def test_one_name_is_one_thing():
    places: dict[str, list[str]] = {}
    for module in MODULES:
        if module.stem not in DOOR:
            places.setdefault(f"module {module.stem}", []).append(str(module))
        for node in ast.parse(PACKAGE.joinpath(module).with_suffix(".py").read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(f"class {node.name}", []).append(str(module))
    assert not {name: where for name, where in places.items() if len(where) > 1}


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) == "networks"], ids=str)
def test_networks_import_no_other_project_module(module):
    assert {room_of(other) for other in IMPORTS[module]} <= {"networks"}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_only_the_commands_own_a_console(module):
    if room_of(module) in ("commands", "app"):
        return
    tree = ast.parse(PACKAGE.joinpath(module).with_suffix(".py").read_text(encoding="utf-8"))
    calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert "print" not in calls
    assert not {name.split(".")[0] for name in imports_of(module)} & CONSOLE


@pytest.mark.parametrize("test", sorted(Path(__file__).parent.glob("test_*.py")), ids=lambda path: path.stem)
def test_tests_share_nothing_but_what_lies_in_support_and_know_no_private_name(test):
    tree = ast.parse(test.read_text(encoding="utf-8"))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    plain = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    others = [name for name in (*plain, *(node.module for node in imported)) if name.startswith(("test_", "conftest"))]
    assert not others, f"what {others} shares with {test.name} belongs into tests/support"
    ours = [alias for node in imported if node.module.split(".")[0] == "deblur_cli" for alias in node.names]
    names = {alias.asname or alias.name for alias in ours}
    private = [alias.name for alias in ours if is_private(alias.name)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
            private += [node.attr] * is_private(node.attr)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".setattr"):
            texts = [word.value for word in node.args[:2] if isinstance(word, ast.Constant)]
            private += [text for text in texts if is_private(str(text).rpartition(".")[2])]
    assert not private, f"{test.name} tests how it is done: {private}"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_no_module_is_a_drawer_for_odds_and_ends(module):
    assert not {"utils", "common", "helpers", "misc"} & set(module.parts)

"""Layers and their rooms know inwards only, without a cycle, and the runtime knows none of the layers."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from deploys.registry import COMPONENTS

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "inventory": {"inventory"},
    "deploys": {"deploys", "inventory"},
    "provision": {"provision", "deploys", "inventory"},
    "commands": {"commands", "provision", "deploys", "inventory"},
    "cli": {"commands", "provision", "inventory"},
    "clawd_runtime": {"clawd_runtime"},
}
PLACES = {"cli": "cli.py", "clawd_runtime": "runtime/clawd_runtime"}

Rooms = Mapping[str, int]
"""Rooms of a layer, each with its level: a module may import its own room, and rooms of lower levels.

A module belongs to the room with the longest name that its own begins with.
"""
Imports = Mapping[str, AbstractSet[str]]
"""Modules of a layer, each with the modules of that layer that it imports."""

# Types and checks of single values stand directly in `inventory`.
INVENTORY: Rooms = {
    "inventory": 0,
    "inventory.reading": 1,
    "inventory.sections": 1,
    "inventory.secrets": 2,
    "inventory.model": 2,
    "inventory.rule_findings": 3,
    "inventory.public_view": 3,
    "inventory.json_schema": 3,
    "inventory.model_files": 4,
    "inventory.policy_files": 4,
    "inventory.rules": 5,
    "inventory.local_files": 6,
    "inventory.load": 7,
}

# Values that every room may use stand directly in `deploys`; `ports` judges the values of all components.
# Above topology and shared operations come the components, in the order in which a host is built.
DEPLOYS: Rooms = {
    "deploys": 0,
    "deploys.topology": 1,
    "deploys.ops": 2,
    "deploys.elastic": 3,
    **{f"deploys.{component.name}": level for level, component in enumerate(COMPONENTS, start=4)},
}

SAME_ON_BOTH_SIDES = {"EngineSettings", "FeishuSettings", "TelegramSettings"}
"""A settings file of a host: `deploys` writes it and the runtime, which shares no code, reads it."""

# Values stand directly in `provision`, but for the modules that are named here.
PROVISION: Rooms = {
    "provision": 0,
    "provision.local": 1,
    "provision.sandbox": 2,
    "provision.ssh": 2,
    "provision.connection": 3,
    "provision.artifacts": 4,
    "provision.preflight": 5,
    "provision.model_routes": 5,
    "provision.policy_log": 5,
    "provision.run_journal": 5,
    "provision.selection": 5,
    "provision.verification": 5,
    "provision.component_state": 6,
    "provision.rollout": 6,
    "provision.run": 6,
    "provision.connecting": 7,
    "provision.steps": 8,
    "provision.model_tools": 8,
    "provision.pipeline": 9,
    "provision.reporting": 10,
}

ORDERED = (("inventory", INVENTORY), ("deploys", DEPLOYS), ("provision", PROVISION))


def sources(layer: str) -> list[Path]:
    place = ROOT / PLACES.get(layer, layer)
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


def imported(source: Path) -> Iterator[str]:
    """Yield the modules and names that are imported anywhere in a file, also in functions."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_within(package: Path) -> Imports:
    """Return which modules of a package import which; a name that is imported stands for its module."""
    modules = {_name(package, source): source for source in sorted(package.rglob("*.py"))}

    def of(source: Path) -> AbstractSet[str]:
        names = imported(source)
        return {name if name in modules else name.rpartition(".")[0] for name in names} & {*modules}

    return {name: of(source) - {name} for name, source in modules.items()}


def _name(package: Path, source: Path) -> str:
    parts = source.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def cycle(imports: Imports) -> list[str]:
    """Return the modules of a cycle; none where there is no cycle."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def arrows_back(imports: Imports, rooms: Rooms) -> list[str]:
    """Return the imports of a room by one of a lower level, or by another one of the same level."""
    return [
        f"{name} imports {other}"
        for name, others in imports.items()
        for other in sorted(others)
        if (mine := room(name, rooms)) != (theirs := room(other, rooms)) and rooms[mine] <= rooms[theirs]
    ]


def room(name: str, rooms: Iterable[str]) -> str:
    return max((each for each in rooms if f"{name}.".startswith(f"{each}.")), key=len)


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_layer_imports_only_inner_layers(layer: str) -> None:
    found = sources(layer)
    assert found
    for source in found:
        ours = {name.split(".")[0] for name in imported(source)} & (set(MAY_IMPORT) | {"tests"})
        assert ours <= MAY_IMPORT[layer], source


@pytest.mark.parametrize("layer", ["inventory", "deploys", "provision", "commands", "clawd_runtime"])
def test_modules_of_a_layer_import_each_other_without_a_cycle(layer: str) -> None:
    imports = imports_within(ROOT / PLACES.get(layer, layer))
    assert any(imports.values())
    assert cycle(imports) == []


@pytest.mark.parametrize(("layer", "rooms"), ORDERED)
def test_rooms_of_a_layer_import_only_lower_rooms(layer: str, rooms: Rooms) -> None:
    imports = imports_within(ROOT / layer)
    assert {room(name, rooms) for name in imports} == {*rooms}
    assert arrows_back(imports, rooms) == []


@pytest.mark.parametrize(("layer", "rooms"), ORDERED)
def test_every_folder_of_a_layer_is_a_room(layer: str, rooms: Rooms) -> None:
    folders = {f"{layer}.{folder.parent.name}" for folder in (ROOT / layer).glob("*/__init__.py")}
    assert len(folders) >= 5
    assert folders <= {*rooms}


def test_settings_know_no_pyinfra() -> None:
    """Plans and checks before SSH are made of values alone."""
    found = [*(ROOT / "deploys").glob("*/settings.py"), *(ROOT / "deploys" / "topology").glob("*.py")]
    assert len(found) > len(COMPONENTS)
    for source in found:
        assert not [name for name in imported(source) if name.startswith(("pyinfra", "deploys.ops"))], source


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a package with rooms `lower` and `upper`, whose modules import each other in functions."""
    package = tmp_path / "package"
    files = {
        "__init__": "",
        "lower/__init__": "",
        "lower/one": "def late() -> None:\n    from package.upper import two\n",
        "upper/__init__": "",
        "upper/two": "import package.lower.one\n",
        "upper/three": "from package.upper.two import x\n",
    }
    for name, text in files.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


def test_cycle_through_an_import_in_a_function_is_found(tree: Path) -> None:
    imports = imports_within(tree)
    assert imports["package.upper.three"] == {"package.upper.two"}
    assert {*cycle(imports)} == {"package.lower.one", "package.upper.two"}
    (tree / "lower" / "one.py").write_text("")
    assert cycle(imports_within(tree)) == []


def test_import_of_an_upper_room_is_found(tree: Path) -> None:
    rooms = {"package": 0, "package.lower": 1, "package.upper": 2}
    assert arrows_back(imports_within(tree), rooms) == ["package.lower.one imports package.upper.two"]


def test_only_modules_of_sessions_import_the_state_of_pyinfra() -> None:
    def touches(source: Path) -> bool:
        return any(
            name.startswith(("pyinfra.api.state", "pyinfra.context", "pyinfra.api.operations"))
            for name in imported(source)
        )

    room = ROOT / "provision" / "connection"
    found = [source for source in sources("provision") if touches(source)]
    assert found == [room / "evaluation.py", room / "execution.py", room / "session.py"]


def public_classes(text: str) -> Iterator[str]:
    """Yield the public classes and type aliases of a module."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        else:
            names = []
        yield from (name for name in names if name[:1].isupper() and name != name.upper())


def test_public_classes_finds_classes_and_aliases_but_no_constants() -> None:
    text = "class A1b: ...\nclass _Private: ...\nRole = Literal['x']\nLIMIT = 3\n"
    assert list(public_classes(text)) == ["A1b", "Role"]


def test_no_two_modules_define_a_public_class_of_the_same_name() -> None:
    homes = defaultdict(list)
    for layer in MAY_IMPORT:
        for source in sources(layer):
            for name in public_classes(source.read_text(encoding="utf-8")):
                homes[name].append(str(source.relative_to(ROOT)))
    assert {name for name, where in homes.items() if len(where) > 1} == SAME_ON_BOTH_SIDES, {
        name: where for name, where in homes.items() if len(where) > 1
    }

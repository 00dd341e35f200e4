"""Layers know inwards only, and the runtime knows none of them."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "inventory": {"inventory"},
    "deploys": {"deploys", "inventory"},
    "provision": {"provision", "deploys", "inventory"},
    "cli": {"provision", "deploys", "inventory"},
    "clawd_runtime": {"clawd_runtime"},
}
PLACES = {"cli": "cli.py", "clawd_runtime": "runtime/clawd_runtime"}

SAME_ON_BOTH_SIDES = {"EngineSettings", "FeishuSettings", "TelegramSettings"}
"""A settings file of a host: `deploys` writes it and the runtime, which shares no code, reads it."""


def sources(layer: str) -> list[Path]:
    place = ROOT / PLACES.get(layer, layer)
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


def imported(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_layer_imports_only_inner_layers(layer: str) -> None:
    found = sources(layer)
    assert found
    for source in found:
        ours = {name.split(".")[0] for name in imported(source)} & (set(MAY_IMPORT) | {"tests"})
        assert ours <= MAY_IMPORT[layer], source


def test_only_session_module_imports_the_state_of_pyinfra() -> None:
    def touches(source: Path) -> bool:
        return any(
            name.startswith(("pyinfra.api.state", "pyinfra.context", "pyinfra.api.operations"))
            for name in imported(source)
        )

    assert [source.name for source in sources("provision") if touches(source)] == ["session.py"]


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

"""Layers know inwards only, and the runtime knows none of them."""

from __future__ import annotations

import ast
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

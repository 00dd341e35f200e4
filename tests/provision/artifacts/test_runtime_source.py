from __future__ import annotations

from pathlib import Path

import pytest

from inventory.errors import ArtifactError
from provision.artifacts.runtime_source import RuntimeSource


def test_the_package_is_found_with_its_version_and_without_what_tools_leave(source: RuntimeSource) -> None:
    assert [path for path, _ in source.files()] == [
        "clawd_runtime/__init__.py",
        "clawd_runtime/bot/service/main.py",
        "clawd_runtime/engine/main.py",
    ]
    assert source.version == "0.9"
    assert source.entries("site-packages")[0].path == "site-packages/clawd_runtime/__init__.py"


def test_our_own_stands_beside_the_program() -> None:
    source = RuntimeSource.of_this_program()
    files = dict(source.files())
    assert b"python -m" in files["clawd_runtime/engine/llama/quantise.py"]
    assert source.version


def test_a_missing_source_is_told(tmp_path: Path) -> None:
    source = RuntimeSource(tmp_path)
    for read in (source.files, lambda: source.version, lambda: source.locked):
        with pytest.raises(ArtifactError, match="is missing"):
            read()

from __future__ import annotations

from pathlib import Path

import pytest

from inventory.errors import ArtifactError
from provision.artifacts.runtime_source import RuntimeSource


def test_source_files_exclude_caches_and_version_is_read(source: RuntimeSource) -> None:
    assert [path for path, _ in source.files()] == [
        "clawd_runtime/__init__.py",
        "clawd_runtime/bot/service/main.py",
        "clawd_runtime/engine/main.py",
    ]
    assert source.version == "0.9"
    assert source.entries("site-packages")[0].path == "site-packages/clawd_runtime/__init__.py"


def test_source_of_this_program_is_found() -> None:
    source = RuntimeSource.of_this_program()
    files = dict(source.files())
    assert b"python -m" in files["clawd_runtime/engine/llama/quantise.py"]
    assert source.version


def test_missing_source_is_reported(tmp_path: Path) -> None:
    source = RuntimeSource(tmp_path)
    for read in (source.files, lambda: source.version, lambda: source.locked):
        with pytest.raises(ArtifactError, match="is missing"):
            read()

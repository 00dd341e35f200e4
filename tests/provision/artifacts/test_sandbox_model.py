from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inventory.errors import ToolError
from inventory.model_files.gguf import read_header
from provision.artifacts import sandbox_model as under_test
from provision.artifacts.host_kind import HostKind
from provision.artifacts.sandbox_model import sandbox_model
from provision.local.cache import Cache


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Making the model takes no time; the list counts how often it was made."""
    made: list[Path] = []

    def make(work: Path, cache: Cache, progress: object) -> None:
        made.append(work)
        (work / "model.gguf").write_bytes(b"model")

    monkeypatch.setattr(under_test, "_make", make)
    return made


def test_sandbox_model_is_built_once_and_copied(quick: list[Path], cache: Cache, tmp_path: Path) -> None:
    first, second = tmp_path / "a/models/m.gguf", tmp_path / "b/m.gguf"
    assert sandbox_model(first, cache) == first
    sandbox_model(second, cache)
    assert first.read_bytes() == second.read_bytes() == b"model"
    assert len(quick) == 1
    assert [file.name for file in first.parent.iterdir()] == ["m.gguf"]


def test_damaged_sandbox_model_is_replaced(quick: list[Path], cache: Cache, tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"
    target.write_bytes(b"half a mod")
    sandbox_model(target, cache)
    assert target.read_bytes() == b"model"


def test_sandbox_model_needs_linux(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostKind, "of_this_machine", classmethod(lambda cls: None))
    with pytest.raises(ToolError, match="needs Linux"):
        sandbox_model(tmp_path / "m.gguf", cache)
    assert not (tmp_path / "m.gguf").exists()


@pytest.mark.model
def test_real_sandbox_model_is_a_chat_model_in_q8_0(tmp_path: Path) -> None:
    """Through the command line, with the user's cache, so that the engine is not built again."""
    target = tmp_path / "m.gguf"
    command = [sys.executable, "-m", "provision.artifacts", "sandbox-model", str(target)]
    subprocess.run(command, check=True, timeout=110)
    header = read_header(target)
    assert header.architecture == "llama"
    assert header.chat_template is not None
    assert 140_000_000 < target.stat().st_size < 150_000_000

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from inventory.errors import ArtifactError
from inventory.sections.models import LocalModel
from provision.artifacts import model as under_test
from provision.artifacts.model import model_file
from provision.local.cache import Cache, sha256_of


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(*, template: bool = True, parts: int = 1, tensors: int = 1) -> bytes:
    tensor = text("w") + struct.pack("<IQIQ", 1, 1, 24, 0)
    entries = [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    entries.append(text("split.count") + struct.pack("<IH", 2, parts))
    if template:
        entries.append(text("tokenizer.chat_template") + struct.pack("<I", 8) + text("{{ x }}"))
    return (
        b"GGUF"
        + struct.pack("<IQQ", 3, tensors, len(entries))
        + b"".join(entries)
        + tensor * tensors
        + bytes(96)
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "Smol LM v2.gguf"
    path.write_bytes(gguf())
    return path


def test_model_file_has_digest_size_and_plain_name(path: Path, cache: Cache) -> None:
    found = model_file(LocalModel(path=path), cache=cache)
    assert (found.name, found.size, found.source, found.url) == (
        "Smol-LM-v2",
        path.stat().st_size,
        path,
        None,
    )
    assert found.sha256 == hashlib.sha256(gguf()).hexdigest()
    assert model_file(LocalModel(path=path, sha256=found.sha256), cache=cache) == found


def test_digest_of_a_model_is_computed_again_only_after_a_change(
    path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []

    def read(path: Path, progress: Any) -> str:
        reads.append(path)
        return sha256_of(path, progress)

    monkeypatch.setattr(under_test, "sha256_of", read)
    first = model_file(LocalModel(path=path), cache=cache)
    assert model_file(LocalModel(path=path), cache=cache) == first
    assert len(reads) == 1
    path.write_bytes(gguf() + b"more")
    second = model_file(LocalModel(path=path), cache=cache)
    assert second.sha256 != first.sha256
    os.utime(path, ns=(1, 1))
    model_file(LocalModel(path=path), cache=cache)
    assert len(reads) == 3


def test_damaged_digest_cache_is_ignored(path: Path, cache: Cache) -> None:
    first = model_file(LocalModel(path=path), cache=cache)
    (record,) = (cache.root / "digests").rglob("digest.json")
    record.write_text("[")
    assert model_file(LocalModel(path=path), cache=cache) == first


def test_another_digest_than_declared_is_refused(path: Path, cache: Cache) -> None:
    with pytest.raises(ArtifactError, match="is declared"):
        model_file(LocalModel(path=path, sha256="0" * 64), cache=cache)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "the file does not exist"),
        (b"<html>not found</html>", "not a GGUF"),
        (gguf(template=False), "no chat template"),
        (gguf(parts=3), "one of 3 parts"),
        (gguf(tensors=0), "no weights"),
    ],
)
def test_model_file_that_cannot_serve_is_refused_with_its_reason(
    tmp_path: Path, cache: Cache, data: bytes | None, reason: str
) -> None:
    path = tmp_path / "m.gguf"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ArtifactError, match=reason):
        model_file(LocalModel(path=path), cache=cache)


def test_model_fetched_by_hosts_needs_a_digest_and_no_file(tmp_path: Path, cache: Cache) -> None:
    there = LocalModel(path=tmp_path / "big.gguf", url="https://models.example/big.gguf", sha256="1" * 64)
    found = model_file(there, cache=cache)
    assert (found.name, found.sha256, found.size, found.source) == ("big", "1" * 64, None, None)
    assert found.url == there.url
    with pytest.raises(ArtifactError, match="sha256"):
        model_file(there.model_copy(update={"sha256": None}), cache=cache)

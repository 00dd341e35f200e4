from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from clawd_runtime.engine.states.file_format import Stopped
from clawd_runtime.engine.states.identity import model_identity, weights_digest


def never() -> bool:
    return False


def test_digest_of_unchanged_model_is_not_computed_again(tmp_path: Path):
    model, notes = tmp_path / "m.gguf", tmp_path / "weights.json"
    model.write_bytes(b"weights")
    expected = hashlib.sha256(b"weights").hexdigest()
    assert weights_digest(model, notes, never) == expected
    assert stat.S_IMODE(notes.stat().st_mode) == 0o600
    # Stopping at once fails only if the file is read.
    assert weights_digest(model, notes, lambda: True) == expected


def test_digest_follows_changes_of_the_model(tmp_path: Path):
    model, notes = tmp_path / "m.gguf", tmp_path / "weights.json"
    model.write_bytes(b"weights")
    before = weights_digest(model, notes, never)
    model.write_bytes(b"WEIGHTS")
    os.utime(model, (1, 1))
    assert weights_digest(model, notes, never) != before
    os.utime(model, (2, 2))
    with pytest.raises(Stopped):
        weights_digest(model, notes, lambda: True)


def test_damaged_notes_are_ignored(tmp_path: Path):
    model, notes = tmp_path / "m.gguf", tmp_path / "weights.json"
    model.write_bytes(b"weights")
    notes.write_text('{"files": [{"path": 7}]}')
    assert weights_digest(model, notes, never) == hashlib.sha256(b"weights").hexdigest()


def test_identity_depends_on_weights_and_parameters():
    assert model_identity("w", {"keys": 1}) == model_identity("w", {"keys": 1})
    others = (model_identity("w", {"keys": 8}), model_identity("x", {"keys": 1}))
    assert model_identity("w", {"keys": 1}) not in others

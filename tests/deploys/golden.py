"""Comparing with files that a person has read and found right."""

from __future__ import annotations

import os
from pathlib import Path


def assert_golden(file: Path, text: str) -> None:
    """`text` is what `file` says. CLAWD_WRITE_GOLDEN=1 writes the file, to be read in the diff."""
    if os.environ.get("CLAWD_WRITE_GOLDEN") == "1":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == text

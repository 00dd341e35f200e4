"""Marks for all tests of a folder; a conftest.py is asked about every test of a run."""

from __future__ import annotations

from pathlib import Path

import pytest


def mark_below(conftest: str, items: list[pytest.Item], *marks: pytest.MarkDecorator) -> None:
    """Puts `marks` on the tests of the folder whose conftest.py this is."""
    for item in items:
        if Path(conftest).parent in item.path.parents:
            for mark in marks:
                item.add_marker(mark)

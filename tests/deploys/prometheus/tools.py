"""Prometheus' own programs, on this machine."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str) -> str:
    """`promtool` or `amtool`: what CLAWD_TEST_PROMTOOL or CLAWD_TEST_AMTOOL names, or the one in PATH."""
    found = os.environ.get(f"CLAWD_TEST_{name.upper()}") or shutil.which(name)
    if not found:
        pytest.fail(f"set CLAWD_TEST_{name.upper()} to {name}; `make test` does")
    return found

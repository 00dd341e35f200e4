"""The process in which tools compute, with the runtime of this repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provision.model_tools.worker import ToolWorker

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def worker() -> ToolWorker:
    return ToolWorker((ROOT / "runtime",))


@pytest.fixture
def real_model() -> Path:
    """The real model, SmolLM2 in Q8_0."""
    return Path(os.environ["CLAWD_TEST_MODEL"])

"""Every test here needs hosts, the model and minutes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.marks import mark_below


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests as campaigns."""
    mark_below(__file__, items, pytest.mark.host, pytest.mark.campaign, pytest.mark.timeout(2400))


@pytest.fixture(scope="session", autouse=True)
def model() -> None:
    """Serve what the examples declare as models."""
    if not Path(os.environ.get("CLAWD_TEST_MODEL", "")).is_file():
        pytest.fail("set CLAWD_TEST_MODEL to a GGUF chat model; `make campaign` does")

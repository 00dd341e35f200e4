"""One deployment for all tests here: they are steps of one story, in the order of the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.component_lifecycle.deployment import Life, living
from tests.deploys.disk.attached import works
from tests.marks import mark_below


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests as campaigns."""
    mark_below(
        __file__,
        items,
        pytest.mark.host,
        pytest.mark.campaign,
        pytest.mark.timeout(1800),
        pytest.mark.skipif(not works(), reason="needs root, and loop devices for the disk"),
    )


@pytest.fixture(scope="session")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """Start two bare hosts, and stand-ins for packages that cannot be had."""
    if not Path(os.environ.get("CLAWD_TEST_MODEL", "")).is_file():
        pytest.fail("set CLAWD_TEST_MODEL to a GGUF chat model; `make campaign` does")
    with living(tmp_path_factory.mktemp("life")) as made:
        yield made

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bot.postgres import Server, serving_postgres
from tests.bot.program import free_port


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One PostgreSQL for all tests; each makes a database of its own."""
    with serving_postgres(free_port()) as server:
        yield server

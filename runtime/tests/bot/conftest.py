from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bot.postgres import Server, serving_postgres
from tests.bot.program import free_port


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """Yield one PostgreSQL for all tests; each test creates its own database."""
    with serving_postgres(free_port()) as server:
        yield server

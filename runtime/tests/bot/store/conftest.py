"""The databases of the store's tests: a real file of SQLite, and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clawd_runtime.bot.store.backends.database import OpenDatabase, open_database
from tests.bot.postgres import PASSWORD, Server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bot.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{path}"
    server: Server = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def database(url: str) -> Iterator[OpenDatabase]:
    opened = open_database(url, PASSWORD)
    yield opened
    opened.close()

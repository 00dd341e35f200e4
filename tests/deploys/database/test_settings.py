from __future__ import annotations

from typing import Any

import pytest

from deploys.component import Opening
from deploys.database.settings import needs_for, openings_for, ports_for, settings_for
from deploys.resources import HostResources
from deploys.topology.certificates import AUTHORITY
from deploys.topology.database import database_url
from inventory.model import Inventory
from inventory.values import MIB
from tests.deploys.inventories import inventory

UNKNOWN = HostResources(None, None)

TEAM = {"web1": ["nginx"], "bot1": ["runtime"], "bot2": ["runtime"], "db1": ["database"]}
WITH_BOT = {"bot1": ["runtime", "nginx", "database"]}
TLS = f"sslmode=verify-full&sslrootcert={AUTHORITY}"


def team(hosts: dict[str, list[str]] = TEAM, **changes: Any) -> Inventory:
    return inventory(hosts, database={"password": "a-password-of-24-letters", **changes})


def test_only_hosts_with_the_role_have_a_database() -> None:
    assert [name for name in TEAM if settings_for(team(), name)] == ["db1"]
    assert settings_for(inventory(), "bot1") is None


def test_only_hosts_of_bots_may_connect() -> None:
    settings = settings_for(team(), "db1")
    assert settings is not None
    assert settings.clients == ("10.0.0.2", "10.0.0.3")
    assert settings.names == ("10.0.0.4",)
    assert settings.listen == "*"
    assert openings_for(team(), "db1") == (
        Opening(port=5432, sources=("10.0.0.2", "10.0.0.3"), purpose="postgresql, from bots"),
    )
    assert all(openings_for(team(), name) == () for name in ("web1", "bot1", "bot2"))


def test_database_listens_on_loopback_when_its_only_bot_is_local() -> None:
    settings = settings_for(team(WITH_BOT), "bot1")
    assert settings is not None
    assert (settings.listen, settings.clients) == ("localhost", ("127.0.0.1",))
    assert settings.names == ("10.0.0.1", "127.0.0.1")
    assert openings_for(team(WITH_BOT), "bot1") == ()
    assert ports_for(team(WITH_BOT), "bot1") == (5432,)
    assert database_url(team(WITH_BOT), "bot1") == f"postgresql+psycopg://clawd@127.0.0.1:5432/clawd?{TLS}"


def test_database_uses_internal_addresses() -> None:
    declared = team().model_copy(
        update={
            "hosts": {
                **team().hosts,
                "db1": team().hosts["db1"].model_copy(update={"internal_address": "fd00:0::4"}),
                "bot1": team().hosts["bot1"].model_copy(update={"internal_address": "192.168.0.2"}),
            }
        }
    )
    settings = settings_for(declared, "db1")
    assert settings is not None
    assert settings.names == ("fd00::4",)
    assert settings.clients == ("192.168.0.2", "10.0.0.3")
    assert database_url(declared, "bot1") == f"postgresql+psycopg://clawd@[fd00::4]:5432/clawd?{TLS}"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://me@db.example.com:6432/bots",
            (
                "postgresql+psycopg://me@db.example.com:6432/bots"
                "?sslmode=verify-full&sslrootcert=/etc/ssl/certs/ca-certificates.crt"
            ),
        ),
        (
            "postgresql://me@db.example.com/bots?connect_timeout=5",
            (
                "postgresql+psycopg://me@db.example.com/bots"
                "?connect_timeout=5&sslmode=verify-full&sslrootcert=/etc/ssl/certs/ca-certificates.crt"
            ),
        ),
        (
            "postgresql://me@db.example.com/bots?sslmode=require",
            "postgresql+psycopg://me@db.example.com/bots?sslmode=require",
        ),
    ],
)
def test_declared_database_url_is_used_and_no_host_has_a_database(url: str, expected: str) -> None:
    hosts = {"web1": ["nginx"], "bot1": ["runtime"], "bot2": ["runtime"]}
    declared = team(hosts, url=url)
    assert database_url(declared, "bot1") == expected
    assert all(settings_for(declared, name) is None for name in hosts)


def test_bot_has_no_database_url_without_database() -> None:
    assert database_url(inventory(), "bot1") is None


def test_repr_and_json_do_not_show_the_password() -> None:
    settings = settings_for(team(), "db1")
    assert settings is not None
    assert "a-password" not in repr(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    ("memory", "connections", "shared", "work", "maintenance"),
    [
        ("512M", 50, 256, 1, 32),
        ("1G", 20, 512, 20, 64),
        ("32G", 100, 16384, 64, 1024),
        ("128M", 20, 64, 1, 16),
    ],
)
def test_memory_is_divided_between_shared_buffers_and_connections(
    memory: str, connections: int, shared: int, work: int, maintenance: int
) -> None:
    settings = settings_for(team(memory=memory, max_connections=connections), "db1")
    assert settings is not None
    assert settings.shared_buffers == shared * MIB
    assert settings.work_mem // MIB == work
    assert settings.maintenance_work_mem == maintenance * MIB


def test_needs_follow_declared_memory_and_backups() -> None:
    server, dumps = needs_for(team(memory="1G", backups={"keep": 3, "path": "/srv/dumps"}), "db1", UNKNOWN)
    assert (server.memory, server.path) == (1024 * MIB, "/var/lib/postgresql")
    assert (dumps.disk, dumps.path) == (4 * 64 * MIB, "/srv/dumps")
    assert needs_for(team(), "bot1", UNKNOWN) == ()

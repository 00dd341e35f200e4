from __future__ import annotations

import pytest

from inventory.errors import SandboxError
from provision.sandbox.hosts.host import HostRecord, read_record, recorded, releases_for, write_record
from provision.sandbox.layout import Layout


def record(name: str) -> HostRecord:
    return HostRecord(name, "10.213.78.11", "trixie", "nspawn", "trixie-0", "ssh-ed25519 AAAA root@bot1")


def test_record_is_read_as_written(layout: Layout) -> None:
    layout.host("bot1").mkdir(parents=True)
    write_record(layout.host("bot1"), record("bot1"))
    assert read_record(layout.host("bot1")) == record("bot1")


def test_incomplete_and_damaged_hosts_are_ignored(layout: Layout) -> None:
    for name in ("bot10", "bot2", "bot3", "bot4"):
        layout.host(name).mkdir(parents=True)
    write_record(layout.host("bot10"), record("bot10"))
    write_record(layout.host("bot2"), record("bot2"))
    (layout.host("bot3") / "host.json").write_text('{"name": "bot3"')
    assert [found.name for found in recorded(layout)] == ["bot2", "bot10"]


@pytest.mark.parametrize(
    ("hosts", "releases", "expected"),
    [
        (1, ("bookworm",), ("bookworm",)),
        (3, ("trixie",), ("trixie", "trixie", "trixie")),
        (2, ("bookworm", "trixie"), ("bookworm", "trixie")),
        (3, ("bookworm", "trixie"), ("bookworm", "trixie", "trixie")),
    ],
)
def test_releases_are_assigned_to_hosts(
    hosts: int, releases: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert releases_for(hosts, releases) == expected


@pytest.mark.parametrize(
    ("hosts", "releases", "message"),
    [
        (1, ("sid",), "unknown release of a sandbox host: sid"),
        (1, (), r"host: \(none\)"),
        (1, ("bookworm", "trixie"), "2 releases were given for 1 host"),
    ],
)
def test_invalid_releases_are_refused(hosts: int, releases: tuple[str, ...], message: str) -> None:
    with pytest.raises(SandboxError, match=message):
        releases_for(hosts, releases)

"""A host that is rebooted within a run of the program: whose it is then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deploys.nvidia.reboot import RebootCommand
from inventory.errors import LockHeldError
from provision.connection.lock import Locks
from provision.connection.session import Session
from provision.local.run_log import RunLog
from tests.hosts import Box, Host, boxes, on_hosts

pytestmark = on_hosts(pytest.mark.campaign, seconds=300)
box = boxes("clrb", 161)
TREE = "/root/tree"
KERNEL = "linux-image-6.12.48-amd64"
BOT = {"far": {"address": "192.0.2.1", "roles": ["runtime"]}}


@contextmanager
def run_of(host: Host) -> Iterator[Session]:
    with RunLog("test", host.folder / "log") as log:
        loaded = host.loaded("nginx", others=BOT)
        with Session(loaded, (host.name,), log) as session:
            assert session.connect() == {}
            yield session


@pytest.mark.parametrize("release", ["trixie"])
def test_run_holds_the_lock_after_a_reboot(box: Box, release: str) -> None:
    host = Host(box, box.named(release))
    # Without a driver, the system's own request is what a reboot is for.
    host.on(f"mkdir -p {TREE}/run && cd {TREE}/run && touch reboot-required")
    host.on(f"echo {KERNEL} > {TREE}/run/reboot-required.pkgs")
    before = host.on("cat /proc/sys/kernel/random/boot_id")
    with run_of(host) as session, Locks(session, [host.name], "up"):
        rebooted = session._state.inventory.get_host(host.name)
        succeeded, output = RebootCommand(TREE).execute(session._state, rebooted, {"_sudo": True})
        assert succeeded, output.stderr
        assert host.on("cat /proc/sys/kernel/random/boot_id") != before
        with run_of(host) as another, pytest.raises(LockHeldError, match="locked by"):
            Locks(another, [host.name], "up").__enter__()
    with run_of(host) as session, Locks(session, [host.name], "up"):
        pass

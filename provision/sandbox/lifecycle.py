"""Creation, state and removal of the hosts of a sandbox."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from inventory.errors import SandboxError
from provision.local.user import hand_over
from provision.sandbox import claims, cleanup, network
from provision.sandbox.commands import ReportSandboxProgress, run, silent
from provision.sandbox.hosts import backend as backends
from provision.sandbox.hosts.backend import SandboxBackend
from provision.sandbox.hosts.host import (
    RELEASES,
    DebianRelease,
    HostRecord,
    HostState,
    SandboxHost,
    read_record,
    recorded,
    releases_for,
)
from provision.sandbox.hosts.host_files import NewHost
from provision.sandbox.hosts.machine_settings import MachineSettings
from provision.sandbox.hosts.rootfs import remove_tree
from provision.sandbox.layout import MAX_HOSTS, Layout, host_name
from provision.sandbox.locking import locked
from provision.sandbox.secrets import ensure_key, ensure_secrets

_BOOT_PATIENCE = 60.0


def up(
    hosts: int = 1,
    releases: str | Sequence[str] = (),
    *,
    layout: Layout | None = None,
    lasting: bool = False,
    progress: ReportSandboxProgress = silent,
) -> tuple[SandboxHost, ...]:
    """Start `hosts` hosts and return them: bot1, bot2, ….

    `releases` is one Debian release for all, or one for each host; without any, existing hosts keep theirs
    and new ones get the first in `RELEASES`. Running hosts are left unchanged; broken ones are restarted;
    hosts of another release are replaced; additional hosts are left unchanged.

    The hosts outlive this process in any case. Unless they are `lasting`, another sandbox that needs their
    network removes them once this process has ended. Raises `SandboxError`.
    """
    if not 1 <= hosts <= MAX_HOSTS:
        raise SandboxError(f"cannot create {hosts} hosts", advice=f"use a number from 1 to {MAX_HOSTS}")
    named = (releases,) if isinstance(releases, str) else tuple(releases)
    layout = layout or Layout()
    names = [host_name(number) for number in range(1, hosts + 1)]
    wanted = releases_for(hosts, named) if named else tuple(_release_of(layout, name) for name in names)
    _require_root()
    with locked(layout, progress):
        backend = backends.choose(layout, progress)
        cleanup.make_way(layout, progress)
        _clear_half_made(layout)
        login_key = ensure_key(layout)
        ensure_secrets(layout)
        machine = _prepared(backend, layout, lasting)
        for name, release in zip(names, wanted, strict=True):
            _ensure_started(backend, layout, NewHost(name, release, machine, login_key), progress)
        _write_known_hosts(layout)
        for number, name in enumerate(names):
            progress(f"{name}: waiting for SSH", number / hosts)
            _wait_for_ssh(backend, layout, name)
        return tuple(host for host in _look(layout, {backend.name: backend}) if host.name in names)


def status(*, layout: Layout | None = None) -> tuple[SandboxHost, ...]:
    """Return all hosts of the sandbox with their current state."""
    return _look(layout or Layout(), {})


def down(
    *, purge: bool = False, layout: Layout | None = None, progress: ReportSandboxProgress = silent
) -> tuple[str, ...]:
    """Remove all hosts and the sandbox's network, and return the hosts' names.

    Root filesystem images, keys, secrets and models are kept; with `purge`, only the images. Raises
    `SandboxError`.
    """
    layout = layout or Layout()
    _require_root()
    with locked(layout, progress):
        return cleanup.remove(layout, purge=purge, progress=progress)


def clear(*, progress: ReportSandboxProgress = silent) -> tuple[Path, ...]:
    """Remove all other sandboxes of this checkout and all abandoned ones, but none whose run continues.

    Returns their folders. Raises `SandboxError`.
    """
    _require_root()
    return cleanup.clear(progress)


def ssh_command(name: str, *, user: str = "operator", layout: Layout | None = None) -> list[str]:
    """Return the ssh command that logs in to host `name`; append a command to run it there.

    Raises `SandboxError` when there is no such host.
    """
    layout = layout or Layout()
    record = read_record(layout.host(name))
    if record is None:
        known = ", ".join(record.name for record in recorded(layout)) or "none"
        raise SandboxError(
            f"there is no sandbox host {name}; existing hosts: {known}",
            advice="start it with `clawd-provision sandbox up`",
        )
    return [
        "ssh",
        "-i",
        str(layout.key),
        *("-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"),
        *("-o", f"UserKnownHostsFile={layout.known_hosts}", "-o", "GlobalKnownHostsFile=/dev/null"),
        *("-o", "ConnectTimeout=10"),
        f"{user}@{record.address}",
    ]


def execute(
    name: str, command: str, *, user: str = "root", timeout: float = 60, layout: Layout | None = None
) -> str:
    """Run a shell command on host `name` and return its output. Raises `SandboxError` when it fails."""
    done = run([*ssh_command(name, user=user, layout=layout), command], timeout=timeout, check=False)
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-8:]
        raise SandboxError(
            f"{name}: `{command}` failed with exit code {done.returncode}: " + "\n  ".join(words)
        )
    return done.stdout


def _release_of(layout: Layout, name: str) -> DebianRelease:
    record = read_record(layout.host(name))
    return next((release for release in RELEASES if record and release == record.release), RELEASES[0])


def _prepared(backend: SandboxBackend, layout: Layout, lasting: bool) -> MachineSettings:
    claims.claim(layout, lasting=lasting)
    try:
        return backend.prepare()
    except SandboxError:
        if not layout.hosts.exists():
            network.release(layout)
        raise


def _ensure_started(
    backend: SandboxBackend, layout: Layout, new: NewHost, progress: ReportSandboxProgress
) -> None:
    name, release = new.name, new.release
    record = read_record(layout.host(name))
    if record is not None and (record.release, record.backend) != (release, backend.name):
        progress(f"{name}: replacing {record.release} by {release}", None)
        backends.named(record.backend, layout).remove(name)
        record = None
    if record is None:
        backend.remove(name)
        backend.create(new, progress)
    elif backend.state(name)[0] is HostState.RUNNING:
        return
    progress(f"{name}: starting", None)
    backend.stop(name)
    backend.start(name)


def _look(layout: Layout, chosen: dict[str, SandboxBackend]) -> tuple[SandboxHost, ...]:
    found = []
    for record in recorded(layout):
        backend = chosen.get(record.backend) or backends.named(record.backend, layout)
        state, pid = backend.state(record.name)
        found.append(SandboxHost(record.name, record.address, record.release, record.backend, state, pid))
    return tuple(found)


def _wait_for_ssh(backend: SandboxBackend, layout: Layout, name: str) -> None:
    deadline = time.monotonic() + _BOOT_PATIENCE
    address = str(layout.address(name))
    while not _answers_ssh(address):
        if backend.state(name)[0] is HostState.STOPPED or time.monotonic() > deadline:
            raise SandboxError(
                f"{name} does not answer on {address}:22; it last printed:\n  {backend.last_words(name)}",
                advice=f"read {layout.host(name) / 'console.log'}, then try `sandbox down` and `sandbox up`",
            )
        time.sleep(0.1)


def _answers_ssh(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _write_known_hosts(layout: Layout) -> None:
    half = layout.known_hosts.with_name("known_hosts.new")
    half.write_text("".join(known_hosts_line(record) for record in recorded(layout)))
    hand_over(half)
    half.rename(layout.known_hosts)


def known_hosts_line(record: HostRecord) -> str:
    """Return the host's line in `known_hosts` (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
    kind, key = record.host_key.split()[:2]
    return f"{record.name},{record.address} {kind} {key}\n"


def _clear_half_made(layout: Layout) -> None:
    for folder in layout.hosts.glob(".*.new") if layout.hosts.is_dir() else ():
        remove_tree(folder)


def _require_root() -> None:
    if sys.platform != "linux":
        raise SandboxError(
            "cannot create sandbox hosts: they need Linux",
            advice="run this on a Linux machine, or use real hosts in your inventory",
        )
    if os.geteuid() != 0:
        raise SandboxError(
            "creating and removing sandbox hosts requires root",
            advice=f"run `sudo {' '.join(sys.argv)}`",
        )

"""The root filesystem of all hosts of a release, built once and cached as a tarball.

It contains a minimal Debian like a small server: systemd, sshd, python3, sudo, and the login `operator`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen

from inventory.errors import SandboxError
from provision.local.user import hand_over, make_folder
from provision.sandbox.commands import ReportSandboxProgress
from provision.sandbox.hosts.host import DebianRelease
from provision.sandbox.hosts.machine_settings import MachineSettings
from provision.sandbox.process import end, with_command

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "python3",
    "sudo",
    "ca-certificates",
    "iproute2",
    "procps",
    "debian-archive-keyring",
)
OPERATOR_UID = 1000
OPERATOR_GID = 37
"""Debian's group `operator` (base-passwd), the group of the login of that name."""

_CUSTOMIZE = (
    f'chroot "$1" useradd --uid {OPERATOR_UID} --gid {OPERATOR_GID} --create-home --shell /bin/bash operator',
    'rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/apt/apt.conf.d/99mmdebstrap',
)
_SECONDS = 25
"""Duration on two idle cores, used only for the progress display."""


def image_of(release: DebianRelease, machine: MachineSettings) -> str:
    """Return the name of the image, which differs whenever its content would."""
    ingredients = json.dumps([release, PACKAGES, sources(release, machine), _CUSTOMIZE])
    return f"{release}-{hashlib.sha256(ingredients.encode()).hexdigest()[:12]}"


def sources(release: DebianRelease, machine: MachineSettings) -> tuple[str, ...]:
    """Return the apt sources of this machine; empty leaves the choice to mmdebstrap."""
    if machine.archive is None or machine.security is None:
        return ()
    return (
        f"deb {machine.archive} {release} main",
        f"deb {machine.archive} {release}-updates main",
        f"deb {machine.security} {release}-security main",
    )


def build_command(release: DebianRelease, target: Path, machine: MachineSettings) -> list[str]:
    """Return the mmdebstrap command that writes `target` (a `.tar.zst`).

    It runs in its own mount and process namespaces, which end with it in any case.
    """
    return [
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        '--aptopt=Acquire::Languages "none"',
        *(f'--aptopt=Acquire::{scheme}::Proxy "{proxy}"' for scheme, proxy in machine.apt_proxy.items()),
        *(f"--customize-hook={command}" for command in _CUSTOMIZE),
        "--format=tar",
        release,
        str(target),
        *sources(release, machine),
    ]


def ensure_image(
    release: DebianRelease, cache: Path, machine: MachineSettings, progress: ReportSandboxProgress
) -> Path:
    """Return the tarball of `release`; build it when it is not in `cache`. Raises `SandboxError`."""
    image = image_of(release, machine)
    tarball = cache / f"{image}.tar.zst"
    if tarball.exists():
        return tarball
    make_folder(cache)
    with (cache / "lock").open("a") as lock:
        hand_over(cache / "lock")
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tarball.exists():
            half, workplace = cache / f".{image}.new.tar.zst", cache / f".{image}.new"
            _clear_abandoned(half, workplace)
            workplace.mkdir(mode=0o755)
            try:
                _build(
                    build_command(release, half, machine), workplace, f"building Debian {release}", progress
                )
                half.rename(tarball)
            finally:
                half.unlink(missing_ok=True)
                remove_tree(workplace)
            hand_over(tarball)
    return tarball


def _clear_abandoned(half: Path, workplace: Path) -> None:
    """Remove leftovers of a killed build, after ending the builder if it still runs."""
    end(with_command(lambda command: command[0] == "unshare" and str(half) in command))
    half.unlink(missing_ok=True)
    remove_tree(workplace)


def _build(command: Sequence[str], workplace: Path, doing: str, progress: ReportSandboxProgress) -> None:
    began = time.monotonic()
    environment = {**os.environ, "TMPDIR": str(workplace)}
    with Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, text=True, env=environment) as process:
        assert process.stdout is not None
        said: list[str] = []
        try:
            for line in process.stdout:
                said.append(line.rstrip())
                progress(doing, min(0.97, (time.monotonic() - began) / _SECONDS))
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        problems = [line for line in said if line.startswith("E:")] or said[-8:]
        raise SandboxError(
            f"{doing} failed: " + "\n  ".join(problems[:8]),
            advice="check that `apt-get update` works on this machine and that its disk has 1 GB free",
        )
    progress(doing, 1.0)


def unpack_command(tarball: Path, target: Path) -> list[str]:
    """Return the tar command that unpacks an image into `target`, with its owners."""
    return ["tar", "--zstd", "--numeric-owner", "--same-owner", "-xpf", str(tarball), "-C", str(target)]


def remove_tree(folder: Path) -> None:
    """Remove a folder of the sandbox. Raises `SandboxError` on failure, or when something is mounted in it.

    A mounted folder may belong to the machine, and its content must never be removed.
    """
    mounted = [point for point in _mount_points() if point.is_relative_to(folder.absolute())]
    if mounted:
        raise SandboxError(
            f"cannot remove {folder}: {mounted[0]} is mounted in it",
            advice=f"run `sudo umount {mounted[0]}`",
        )
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as refused:
        raise SandboxError(
            f"cannot remove {folder}: {refused}", advice=f"find what uses it: `sudo fuser -v {folder}`"
        ) from refused


def _mount_points() -> list[Path]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [Path(line.split()[4].replace("\\040", " ")) for line in lines]

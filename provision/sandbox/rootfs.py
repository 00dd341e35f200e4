"""The root filesystem all hosts of a release start from, made once and kept as a tarball.

It holds a minimal Debian as a small server has it: systemd, sshd, python3, sudo, and the
login `operator`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen

from inventory.errors import SandboxError
from provision.sandbox.commands import Progress, hand_over
from provision.sandbox.host import Release
from provision.sandbox.machine import Machine

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
"""Debian's own group `operator` (base-passwd), which the login of that name belongs to."""

_CUSTOMIZE = (
    f'chroot "$1" useradd --uid {OPERATOR_UID} --gid {OPERATOR_GID} --create-home --shell /bin/bash operator',
    'rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/apt/apt.conf.d/99mmdebstrap',
)
_SECONDS = 25
"""How long it takes on two idle cores; only for the progress shown."""


def image_of(release: Release, machine: Machine) -> str:
    """The name of the image: different whenever its contents would be."""
    ingredients = json.dumps([release, PACKAGES, sources(release, machine), _CUSTOMIZE])
    return f"{release}-{hashlib.sha256(ingredients.encode()).hexdigest()[:12]}"


def sources(release: Release, machine: Machine) -> tuple[str, ...]:
    """The apt sources, those of this machine; empty leaves the choice to mmdebstrap."""
    if machine.archive is None or machine.security is None:
        return ()
    return (
        f"deb {machine.archive} {release} main",
        f"deb {machine.archive} {release}-updates main",
        f"deb {machine.security} {release}-security main",
    )


def build_command(release: Release, target: Path, machine: Machine) -> list[str]:
    """The mmdebstrap call that makes `target` (a `.tar.zst`)."""
    return [
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


def ensure_image(release: Release, cache: Path, machine: Machine, progress: Progress) -> Path:
    """The tarball of `release`, built when it is not in `cache`. Raises SandboxError when that fails."""
    tarball = cache / f"{image_of(release, machine)}.tar.zst"
    if tarball.exists():
        return tarball
    cache.mkdir(parents=True, exist_ok=True)
    hand_over(cache)
    for abandoned in cache.glob(f".{tarball.name.partition('.')[0]}.*"):
        abandoned.unlink()
    half = cache / f".{tarball.name.partition('.')[0]}.new.tar.zst"
    try:
        _build(build_command(release, half, machine), f"building Debian {release}", progress)
        half.rename(tarball)
    finally:
        half.unlink(missing_ok=True)
    hand_over(tarball)
    return tarball


def _build(command: Sequence[str], doing: str, progress: Progress) -> None:
    began = time.monotonic()
    with Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, text=True) as process:
        assert process.stdout is not None
        said: list[str] = []
        try:
            for line in process.stdout:
                said.append(line.rstrip())
                progress(doing, min(0.97, (time.monotonic() - began) / _SECONDS))
        except BaseException:
            # mmdebstrap removes its temporary folder when it is asked to end.
            process.terminate()
            raise
    if process.returncode != 0:
        problems = [line for line in said if line.startswith("E:")] or said[-8:]
        raise SandboxError(
            f"{doing} failed: " + "\n  ".join(problems[:8]),
            advice="Check that `apt-get update` works on this machine and that its disk has 1 GB free.",
        )
    progress(doing, 1.0)


def unpack_command(tarball: Path, target: Path) -> list[str]:
    """The tar call that unpacks an image into `target`, owners included."""
    return ["tar", "--zstd", "--numeric-owner", "--same-owner", "-xpf", str(tarball), "-C", str(target)]


def remove_tree(folder: Path) -> None:
    """Remove a host's folder. Raises SandboxError when something in it cannot be removed."""
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as refused:
        raise SandboxError(
            f"{folder} cannot be removed: {refused}",
            advice="See with `findmnt` whether something in it is mounted.",
        ) from refused

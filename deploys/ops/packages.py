"""Debian packages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.changes import Change, operation, record
from deploys.ops.facts import PackagesFact
from deploys.ops.shell import script


def installed(*names: str, **arguments: Any) -> OperationMeta:
    """These packages, without recommended ones.

    Waits up to two minutes for another program's lock, finishes an installation that was cut off, and reads
    the mirrors' index only when a package is missing and the index is a day old or does not do.
    `host.data.apt_options` are further arguments of apt-get, such as a proxy for a host without internet.
    """
    arguments.setdefault("name", f"Packages {' '.join(names)}")
    return _installed(tuple(names), **arguments)


@operation
def _installed(names: tuple[str, ...]) -> Iterator[StringCommand]:
    present: frozenset[str] = host.get_fact(PackagesFact, packages=names)
    missing = sorted(set(names) - present)
    if not missing:
        return
    record(Change("packages", (f"install {' '.join(missing)}",)))
    yield script(_INSTALL, packages=" ".join(missing), options=host.data.get("apt_options") or "")


# `$packages` and `$options` are lists of words, hence not quoted.
_INSTALL = r"""
set -u
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C
apt() {
    apt-get -q -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold $options "$@" </dev/null
}
install() { apt install --no-install-recommends -- $packages; }
if [ "$(ls -A /var/lib/dpkg/updates 2>/dev/null)" ]; then
    dpkg --configure -a --force-confdef --force-confold </dev/null || exit 1
fi
recent=$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mmin -1440 2>/dev/null | head -n 1)
if [ "$recent" ] && install; then exit 0; fi
apt update && install
"""

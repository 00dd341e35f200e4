"""Grafana's package: from its repository, a mirror of that, or a file of the laptop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.grafana.settings import GrafanaSettings
from deploys.ops.debian import apt, packages, sources
from deploys.ops.debian.apt import Settled
from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact
from deploys.ops.paths import files, originals, push
from deploys.ops.programs import program
from deploys.ops.run_state import Change
from deploys.ops.shell import assignments, script
from inventory.errors import ArtifactError

NAME = "grafana"
CACHE = "/var/cache/clawd-grafana"
STAMP = "/var/lib/clawd/state/grafana.deb.sha256"


class InstalledFileFact(Fact):
    """Digest of the package file that Grafana was installed from; empty without one, or without Grafana."""

    def command(self) -> str:
        """Return a script that prints it."""
        return assignments(stamp=STAMP, name=NAME) + _INSTALLED

    @staticmethod
    def default() -> str:
        """Return no digest."""
        return ""

    def process(self, output: list[str]) -> str:
        """Return the line."""
        return output[0].strip() if output else ""


_INSTALLED = r"""
state=$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)
if [ "$state" = installed ]; then cat "$stamp" 2>/dev/null; fi
true
"""


def installed(settings: GrafanaSettings) -> None:
    """Install the package from its source. Raise `ArtifactError` when the laptop's file cannot be read."""
    if settings.package is None:
        sources.apt(
            NAME, uri=settings.repository, suite="stable", components=("main",), key=_read(settings.key)
        )
        files.absent(STAMP)
        packages.installed(NAME, component=NAME)
        return
    digest = sha256(_read(settings.package)).hexdigest()
    if host.get_fact(InstalledFileFact) != digest:
        files.directory(CACHE)
        push.file(settings.package, f"{CACHE}/grafana-{digest[:16]}.deb", sha256=digest)
    _from_file(digest, name="Package grafana from a file")
    packages.installed(NAME, component=NAME)
    sources.absent(NAME)


def removed(folders: Mapping[str, tuple[str, ...]]) -> None:
    """Remove the package and its repository; `folders` as in `packages.removed`."""
    packages.removed(NAME, folders=folders)
    sources.absent(NAME)
    files.absent(STAMP)
    files.absent(CACHE)
    push.forgotten(CACHE)


def _read(path: Path | None) -> bytes:
    try:
        return path.read_bytes() if path else b""
    except OSError as error:
        raise ArtifactError(
            f"{path}: {error.strerror}", advice="correct `monitoring.grafana`: `key` or `package`"
        ) from None


@operation
def _install(digest: str) -> Iterator[StringCommand]:
    if host.get_fact(InstalledFileFact) == digest:
        return
    record(Change("packages", (f"install grafana from a file (sha256 {digest[:16]}…)",)))
    yield Settled()
    yield script(
        _INSTALL,
        **apt.values(host),
        packages=f"{CACHE}/grafana-{digest[:16]}.deb",
        wanted=NAME,
        protected=packages.PROTECTED,
        **originals.values(NAME),
        digest=digest,
        stamp=STAMP,
        record=f"{packages.RECORDS}/{NAME}",
    )


def _from_file(digest: str, **arguments: Any) -> OperationMeta:
    return _install(digest, **arguments)


_INSTALL = program("deploys/grafana/scripts/install.sh")

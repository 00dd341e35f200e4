"""Install Elastic's packages: from their repository, a mirror, or a folder of .deb files on the laptop."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import file_digest
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.elastic.openpgp import fingerprints
from deploys.elastic.settings import PackageSettings
from deploys.ops.debian import packages, sources
from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact, LineFact, PackagesFact, PathFact
from deploys.ops.paths import files, push
from deploys.ops.run_state import Change, run_state
from deploys.ops.shell import assignments, script
from deploys.settings import supplies
from inventory.errors import ArtifactError
from inventory.state import make_private

PROGRAMS = ("elasticsearch", "logstash", "kibana", "filebeat")
SOURCE = "elastic"
KEY_URL = "https://artifacts.elastic.co/GPG-KEY-elasticsearch"
PROXY = "/etc/apt/apt.conf.d/90clawd-elastic"
PUSHED = "/var/lib/clawd/packages"


class ArchitectureFact(Fact):
    """Debian's name of the host's architecture."""

    def command(self) -> str:
        """Return a command that asks dpkg."""
        return "dpkg --print-architecture"

    def process(self, output: list[str]) -> str:
        """Return the name."""
        return output[0].strip()


def installed(program: str, settings: PackageSettings) -> None:
    """Install `program` in its pinned version, without starting it."""
    pinned = f"{program}={debian_version(program, settings.version)}"
    if settings.folder is not None:
        _from_folder(program, pinned, settings.folder, settings.version)
        return
    if settings.proxy is not None:
        files.put(PROXY, proxy_for(settings.mirror, settings.proxy))
    else:
        files.absent(PROXY)
    key = key_of(settings, supplies().state_folder)
    sources.apt(SOURCE, uri=settings.mirror, suite="stable", components=("main",), key=key)
    packages.installed(pinned, component=program)


def is_installed(program: str) -> bool:
    """Return whether any version of `program` is installed."""
    return program in host.get_fact(PackagesFact, packages=(program,))


def removed(program: str, generated: tuple[str, ...] = ()) -> None:
    """Remove `program`, and Elastic's repository together with the last program from it.

    `generated` are patterns of the files that it generates in its folder in /etc.
    """
    packages.removed(program, folders={f"/etc/{program}": generated})
    push.forgotten(PUSHED)
    leaving = run_state(host).leaving_programs
    leaving.add(program)
    _source_unless_used(frozenset(leaving), name="No package repository elastic unless something is from it")


def debian_version(program: str, version: str) -> str:
    """Return the version as the package has it: Logstash's has an epoch and a revision."""
    return f"1:{version}-1" if program == "logstash" else version


def proxy_for(mirror: str, proxy: str) -> str:
    """Return the setting by which apt uses `proxy` for requests to this one repository."""
    parts = urlsplit(mirror)
    return (
        "# Written by clawd-provision: changes by hand are undone.\n"
        f'Acquire::{parts.scheme}::Proxy::{parts.hostname} "{proxy}";\n'
    )


def key_of(settings: PackageSettings, state_folder: Path) -> bytes:
    """Return the repository's key: the given file, or Elastic's own, downloaded once into `state_folder`.

    Raise `ArtifactError` when it cannot be read, or is not the key with the declared fingerprint.
    """
    kept = settings.key or state_folder / "keys" / f"{settings.fingerprint}.asc"
    try:
        key = kept.read_bytes() if settings.key or kept.is_file() else _fetched()
    except (OSError, requests.RequestException) as error:
        raise ArtifactError(
            f"cannot read the key of Elastic's packages: {error}",
            advice=f"fetch {KEY_URL} elsewhere, and name the file as `logs.packages.key`",
        ) from error
    here = kept.is_file()
    again = f"fetch {KEY_URL} again" if settings.key or not here else "remove it, and it is fetched again"
    _must_be(key, settings.fingerprint, str(kept if here else KEY_URL), again)
    if settings.key is None and not here:
        make_private(state_folder)
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(key)
    return key


def _fetched() -> bytes:
    answer = requests.get(KEY_URL, timeout=30)
    answer.raise_for_status()
    return answer.content


def _must_be(key: bytes, wanted: str, source: str, again: str) -> None:
    try:
        found = fingerprints(key)
    except ValueError as error:
        raise ArtifactError(f"{source} is not an OpenPGP key: {error}", advice=again) from error
    if found != (wanted,):
        raise ArtifactError(
            f"{source} holds the key {' and '.join(found) or 'nothing'}, and not {wanted}",
            advice="find out whose key it is; for a repository signed by yourself, declare its "
            "fingerprint as `logs.packages.fingerprint`",
        )


def _from_folder(program: str, pinned: str, folder: Path, version: str) -> None:
    architecture = host.get_fact(ArchitectureFact)
    source = folder / f"{program}-{version}-{architecture}.deb"
    pushed = f"{PUSHED}/{source.name}"
    if pinned in host.get_fact(PackagesFact, packages=(pinned,)):
        packages.installed(pinned, component=program)
        files.absent(pushed)
        return
    if not source.is_file():
        raise ArtifactError(
            f"{source} does not exist",
            advice=f"download it from https://www.elastic.co/downloads/past-releases into {folder}, "
            "or leave `logs.packages.folder` out",
        )
    files.directory(PUSHED)
    with source.open("rb") as stream:
        digest = file_digest(stream, "sha256").hexdigest()
    push.file(source, pushed, sha256=digest)
    packages.installed(pinned, component=program, archive=pushed)
    files.absent(pushed)


@operation
def _source_unless_used(leaving: frozenset[str]) -> Iterator[StringCommand]:
    there: frozenset[str] = host.get_fact(PackagesFact, packages=PROGRAMS)
    if {name for name in there if "=" not in name} - leaving:
        return
    paths = (
        f"{sources.SOURCES}/clawd-{SOURCE}.sources",
        f"{sources.KEYRINGS}/clawd-{SOURCE}.asc",
        f"{sources.KEYRINGS}/clawd-{SOURCE}.gpg",
        PROXY,
        PUSHED,
    )
    found = [path for path in paths if host.get_fact(PathFact, path=path).kind != "absent"]
    if found:
        for path in found:
            record(Change(path, ("removed",)))
        yield script("rm -rf -- $paths", paths=" ".join(found))


def settled_owner(folder: str, user: str, **arguments: Any) -> OperationMeta:
    """Give all files in `folder` to `user`: data of an earlier installation has a former user's number."""
    return _settled_owner(folder, user, name=f"Owner of {folder}", **arguments)


class ForeignFact(LineFact):
    """A path in a folder that does not belong to a user; empty when there is none."""

    def command(self, folder: str, user: str) -> str:
        """Return a script that prints the first such path."""
        quoted = assignments(folder=folder, user=user)
        return quoted + 'find "$folder" -xdev ! -user "$user" -print -quit 2>/dev/null || true'


@operation
def _settled_owner(folder: str, user: str) -> Iterator[StringCommand]:
    if host.get_fact(ForeignFact, folder=folder, user=user):
        record(Change(folder, (f"given to {user}",)))
        yield script('chown -R -h "$user:$user" "$folder"', folder=folder, user=user)

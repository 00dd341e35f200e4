"""Lock files of requirements: exact versions with digests, for all platforms.

The format is pip's (`name==version ; marker --hash=sha256:…`). Markers are evaluated for the target host; pip
would evaluate them for the laptop.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from inventory.errors import ArtifactError
from provision.artifacts.host_kind import HostKind

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})(?=\s|$)")
_CONTINUED = re.compile(r"\\\s*\n")


@dataclass(frozen=True, slots=True)
class Locked:
    """One version of a distribution, and the SHA-256 digests of its files."""

    name: str
    version: str
    hashes: frozenset[str]
    marker: str = ""

    def __str__(self) -> str:
        hashes = "".join(f" --hash=sha256:{digest}" for digest in sorted(self.hashes))
        return f"{self.name}=={self.version}{hashes}"


def read(path: Path) -> tuple[Locked, ...]:
    """Return the entries of a lock file in order.

    Raises `ArtifactError` when a line is not an exact version with at least one digest.
    """
    return parse(path.read_text(encoding="utf-8"), name=str(path))


def parse(text: str, *, name: str) -> tuple[Locked, ...]:
    """Return the entries of the text of a lock file named `name`."""
    lines = _CONTINUED.sub(" ", text).splitlines()
    return tuple(_entry(line, name) for line in lines if line.strip() and not line.lstrip().startswith("#"))


def _entry(line: str, file: str) -> Locked:
    hashes = frozenset(_HASH.findall(line))
    try:
        requirement = Requirement(_HASH.sub("", line).split(" #")[0].strip())
    except InvalidRequirement as error:
        raise ArtifactError(f"{file}: {line[:60]!r} is not a requirement: {error}") from error
    versions = [spec for spec in requirement.specifier if spec.operator == "==" and "*" not in spec.version]
    if len(versions) != 1 or len(requirement.specifier) != 1 or not hashes:
        raise ArtifactError(
            f"{file}: {line[:60]!r} is not locked to one version with a digest",
            advice="generate the lock file again with hashes",
        )
    return Locked(
        canonicalize_name(requirement.name), versions[0].version, hashes, str(requirement.marker or "")
    )


def for_kind(
    entries: Collection[Locked], kind: HostKind, *, without: Collection[str] = ()
) -> tuple[Locked, ...]:
    """Return the entries for hosts of `kind`, except those named in `without`."""
    environment = kind.marker_environment
    return tuple(
        entry
        for entry in entries
        if entry.name not in without and (not entry.marker or _holds(entry, environment))
    )


def _holds(entry: Locked, environment: dict[str, str]) -> bool:
    marker = Requirement(f"{entry.name} ; {entry.marker}").marker
    return marker is None or marker.evaluate({**environment, "extra": ""})


def named(entries: Collection[Locked], name: str) -> Locked:
    """Return the only entry named `name`."""
    found = [entry for entry in entries if entry.name == name]
    if len(found) != 1:
        raise ArtifactError(f"the lock file contains {name} {len(found)} times instead of once")
    return found[0]

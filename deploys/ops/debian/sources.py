"""Further package repositories, each with its own key, in the deb822 format of sources.list(5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.debian.apt import Settled
from deploys.ops.diff import operation, record, text_diff
from deploys.ops.facts import PathFact, PathState
from deploys.ops.programs import program
from deploys.ops.run_state import Change
from deploys.ops.shell import framed, script

KEYRINGS = "/etc/apt/keyrings"
SOURCES = "/etc/apt/sources.list.d"


def apt(
    name: str,
    *,
    uri: str,
    suite: str,
    key: bytes,
    components: Sequence[str] = (),
    architectures: Sequence[str] = (),
    **arguments: Any,
) -> OperationMeta:
    """Add the repository `name` at `uri`, trusted only by `key` (OpenPGP, armored or not).

    `suite` ends in a slash where the repository is flat; then there are no `components`. Its index is read
    immediately: when that fails, the previous repository stays, and the operation fails.
    """
    arguments.setdefault("name", f"Package repository {name}")
    armored = key.lstrip().startswith(b"-----BEGIN")
    keyring = f"{KEYRINGS}/clawd-{name}.{'asc' if armored else 'gpg'}"
    source = stanza(uri, suite, tuple(components), tuple(architectures), keyring)
    return _apt(f"{SOURCES}/clawd-{name}.sources", source, keyring, key, **arguments)


def absent(name: str, **arguments: Any) -> OperationMeta:
    """Remove the repository `name` and its key."""
    arguments.setdefault("name", f"No package repository {name}")
    return _absent(name, **arguments)


def stanza(
    uri: str, suite: str, components: tuple[str, ...], architectures: tuple[str, ...], keyring: str
) -> str:
    """Return the text of a `.sources` file."""
    lines = [
        "# Written by clawd-provision: changes by hand are undone.",
        "Types: deb",
        f"URIs: {uri}",
        f"Suites: {suite}",
    ]
    if components:
        lines.append(f"Components: {' '.join(components)}")
    if architectures:
        lines.append(f"Architectures: {' '.join(architectures)}")
    return "\n".join([*lines, f"Signed-By: {keyring}"]) + "\n"


@operation
def _apt(path: str, source: str, keyring: str, key: bytes) -> Iterator[StringCommand]:
    present: PathState = host.get_fact(PathFact, path=path, content=True)
    trusted: PathState = host.get_fact(PathFact, path=keyring, content=True)
    if present.content == source.encode() and trusted.content == key:
        return
    record(Change(path, text_diff(present.content, source.encode())))
    if trusted.content != key:
        record(Change(keyring, (f"a key of {len(key)} bytes",)))
    yield Settled()
    yield script(
        _ADD,
        stdin=framed(key) + framed(source.encode()),
        path=path,
        keyring=keyring,
        options=host.data.get("apt_options") or "",
    )


@operation
def _absent(name: str) -> Iterator[StringCommand]:
    paths = (
        f"{SOURCES}/clawd-{name}.sources",
        f"{KEYRINGS}/clawd-{name}.asc",
        f"{KEYRINGS}/clawd-{name}.gpg",
    )
    there = [path for path in paths if host.get_fact(PathFact, path=path).kind != "absent"]
    if there:
        for path in there:
            record(Change(path, ("removed",)))
        yield script("rm -f $paths", paths=" ".join(there))


_ADD = program("deploys/ops/debian/scripts/add_source.sh")

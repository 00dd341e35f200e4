"""Large files: streamed over the open SSH connection or fetched by the host, resumed, verified by SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.diff import operation, record
from deploys.ops.facts import IDENTITY, Fact, PathFact, PathState, PushedFact
from deploys.ops.paths.files import ownership
from deploys.ops.paths.stream import StreamCommand, part_of
from deploys.ops.programs import program
from deploys.ops.run_state import Change
from deploys.ops.shell import assignments, script

RECORDS = "/var/lib/clawd/state/pushed"
MARKER = ".sha256"
SUMS = ".files.sha256"
"""File in an unpacked folder with the digests of the others, as `sha256sum` prints them."""


def file(
    source: Path,
    dest: str,
    *,
    sha256: str,
    owner: str = "root",
    group: str = "root",
    mode: str = "0644",
    **arguments: Any,
) -> OperationMeta:
    """Copy the laptop's file `source` to `dest`; it goes live only after the host has verified its digest.

    It is streamed in pieces into a partial file next to `dest`; one that an interrupted run has left there is
    continued after both sides have agreed on its digest. The folder of `dest` must exist.
    """
    arguments.setdefault("name", f"Push {dest}")
    return _file(source, dest, PathState("file", mode, owner, group, sha256), **arguments)


def fetch(
    url: str,
    dest: str,
    *,
    sha256: str,
    owner: str = "root",
    group: str = "root",
    mode: str = "0644",
    **arguments: Any,
) -> OperationMeta:
    """Have the host fetch `url`, resumed after interruptions; otherwise as `file`."""
    arguments.setdefault("name", f"Fetch {dest}")
    return _fetch(url, dest, PathState("file", mode, owner, group, sha256), **arguments)


def unpack(archive: Path, dest: str, *, sha256: str, content: str, **arguments: Any) -> OperationMeta:
    """Unpack the laptop's `archive`, a `.tar.gz`, into the folder `dest` (root, 0755).

    The archive is pushed, verified, unpacked next to `dest`, its Python byte-compiled for the host, and the
    folder renamed into place once it is on disk; the archive does not stay on the host. `content` is a digest
    of what is in the archive: a folder unpacked from one with the same content is not changed.
    """
    arguments.setdefault("name", f"Unpack {dest}")
    return _unpack(archive, dest, sha256, content, **arguments)


@operation
def _file(source: Path, dest: str, wanted: PathState) -> Iterator[StringCommand]:
    state = _state(dest)
    if state.sha256 != wanted.sha256:
        _arriving(dest, state, wanted.sha256, f"{source.stat().st_size} bytes from this machine")
        yield StreamCommand(source, dest, wanted.sha256)
        yield _going_live(dest, wanted)
    else:
        yield from _owned(dest, state, wanted)


@operation
def _fetch(url: str, dest: str, wanted: PathState) -> Iterator[StringCommand]:
    state = _state(dest)
    if state.sha256 != wanted.sha256:
        _arriving(dest, state, wanted.sha256, "fetched by the host")
        # A URL may contain a token, so it is sent on standard input.
        yield script(_FETCH, stdin=f"{url}\n", part=part_of(dest, wanted.sha256), program=_FETCHER)
        yield _going_live(dest, wanted)
    else:
        yield from _owned(dest, state, wanted)


@operation
def _unpack(archive: Path, dest: str, digest: str, content: str) -> Iterator[StringCommand]:
    marker: PathState = host.get_fact(PathFact, path=f"{dest}/{MARKER}", content=True)
    if marker.content is not None and marker.content.decode().strip() == content:
        return
    record(Change(dest, (f"new folder from {archive.name} (content {content[:16]}…)",)))
    yield StreamCommand(archive, dest, digest)
    part = part_of(dest, digest)
    yield script(_UNPACK, part=part, dest=dest, digest=digest, content=content, marker=MARKER, sums=SUMS)


def forgotten(folder: str, **arguments: Any) -> OperationMeta:
    """Delete the records of files pushed or fetched into `folder`, when that is removed."""
    arguments.setdefault("name", f"Records of what was in {folder}")
    return _forgotten(folder, **arguments)


class RecordsFact(Fact):
    """The records of files that were pushed or fetched into a folder, whether these still exist or not."""

    def command(self, folder: str) -> str:
        """Return a script that prints the path of one record per line."""
        return assignments(folder=folder, records=RECORDS) + _RECORDS

    @staticmethod
    def default() -> tuple[str, ...]:
        """Return no paths."""
        return ()

    def process(self, output: list[str]) -> tuple[str, ...]:
        """Return the paths."""
        return tuple(filter(None, output))


@operation
def _forgotten(folder: str) -> Iterator[StringCommand]:
    found: tuple[str, ...] = host.get_fact(RecordsFact, folder=folder)
    if found:
        record(Change(folder, ("no longer remembered",)))
        forget = 'rm -f -- $found; rmdir "$records" 2>/dev/null || true'
        yield script(forget, found=" ".join(found), records=RECORDS)


_RECORDS = program("deploys/ops/paths/scripts/records.sh")


def _state(dest: str) -> PathState:
    state: PathState = host.get_fact(PushedFact, path=dest, record=record_of(dest))
    return state


def record_of(dest: str) -> str:
    """Return the path of the host's record of the digest of `dest`."""
    return f"{RECORDS}/{hashlib.sha256(dest.encode()).hexdigest()[:16]}"


def _arriving(dest: str, state: PathState, digest: str, how: str) -> None:
    before = f"sha256 {state.sha256[:16]}…" if state.sha256 else state.kind
    line = f"{before} → sha256 {digest[:16]}… ({how})"
    record(Change(dest, (line,), records=(record_of(dest),)))


def _owned(dest: str, state: PathState, wanted: PathState) -> Iterator[StringCommand]:
    if state != wanted:
        record(Change(dest, tuple(ownership(state, wanted)), records=(record_of(dest),)))
        yield script(_LIVE, **_live_values(dest, wanted), file=dest)


def _going_live(dest: str, wanted: PathState) -> StringCommand:
    return script(_ARRIVED, **_live_values(dest, wanted), file=part_of(dest, wanted.sha256))


def _live_values(dest: str, wanted: PathState) -> dict[str, str]:
    return {
        "dest": dest,
        "digest": wanted.sha256,
        "ownership": f"{wanted.owner}:{wanted.group}",
        "mode": wanted.mode,
        "record": record_of(dest),
        "form": IDENTITY,
    }


_LIVE = program("deploys/ops/paths/scripts/live.sh")
_ARRIVED = program("deploys/ops/paths/scripts/arrive.sh")
_UNPACK = program("deploys/ops/paths/scripts/unpack.sh")
_FETCH = r"""
umask 077
exec python3 -c "$program" "$part"
"""
_FETCHER = program("deploys/ops/paths/scripts/fetch.py")

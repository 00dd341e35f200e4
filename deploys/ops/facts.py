"""Facts that operations read from a host: one round trip each, with an answer even on a bare host."""

from __future__ import annotations

import shlex
from base64 import b64decode
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pyinfra.api import FactBase

from deploys.ops.paths import originals
from deploys.ops.programs import program
from deploys.ops.shell import assignments

DIFF_LIMIT = 64 * 1024
"""Largest file, in bytes, whose content is fetched to show a diff."""

PathKind = Literal["absent", "file", "directory", "link", "other"]


class Fact(FactBase):  # type: ignore[misc]
    """A fact that a shell script reads."""


class LineFact(Fact):
    """The first line that a shell script prints; empty when it prints none."""

    @staticmethod
    def default() -> str:
        """Return an empty line."""
        return ""

    def process(self, output: list[str]) -> str:
        """Return the line."""
        return output[0] if output else ""


def keyed(output: list[str]) -> dict[str, str]:
    """Return the values of `key=value` lines; other lines are ignored."""
    return dict(line.split("=", 1) for line in output if "=" in line)


@dataclass(frozen=True, slots=True)
class PathState:
    """A path on a host. `mode` has four octal digits; `content` is fetched only when requested and small.

    `vacant`: an empty folder that is a mount point, and so cannot be removed. `original`: whose it is, where
    that was requested; see `deploys.ops.paths.originals`.
    """

    kind: PathKind = "absent"
    mode: str = ""
    owner: str = ""
    group: str = ""
    sha256: str = ""
    content: bytes | None = None
    target: str = ""
    vacant: bool = field(default=False, compare=False)
    original: str = field(default="", compare=False)


class PathFact(Fact):
    """State of a path, without following a final link; with `owner`, also whether it is that component's.

    `generated` are patterns of files that the component's programs create in a folder.
    """

    def command(
        self, path: str, content: bool = False, owner: str = "", generated: tuple[str, ...] = ()
    ) -> str:
        """Return a script that prints kind and ownership, then digest and content or target."""
        asked = assignments(path=path, limit=DIFF_LIMIT if content else -1, generated="\n".join(generated))
        return asked + (assignments(**originals.values(owner)) + _OWNED_PATH if owner else _PATH)

    @staticmethod
    def default() -> PathState:
        """Return the state of what does not exist."""
        return PathState()

    def process(self, output: list[str]) -> PathState:
        """Turn the script's lines into a `PathState`."""
        if output[0].startswith("original "):
            state = self.process(output[1:])
            return replace(state, original=output[0].removeprefix("original ").strip())
        kind, *rest = output[0].split("|")
        if kind == "link":
            return PathState("link", target=output[1])
        if kind == "directory":
            vacant = output[1:2] == ["vacant"]
            return PathState("directory", rest[0].rjust(4, "0"), rest[1], rest[2], vacant=vacant)
        if kind == "file":
            content = b64decode(output[2]) if output[2:] else None
            return PathState("file", rest[0].rjust(4, "0"), rest[1], rest[2], output[1], content)
        return PathState("absent" if kind == "absent" else "other")


class StaysFact(Fact):
    """Files in a folder of /etc that belong to no component and no package, and are not `generated`."""

    def command(self, path: str, owner: str, generated: tuple[str, ...]) -> str:
        """Return a script that prints one path per line."""
        asked = assignments(**originals.values(owner), path=path, generated="\n".join(generated))
        return asked + _STAYS

    @staticmethod
    def default() -> tuple[str, ...]:
        """Return no paths."""
        return ()

    def process(self, output: list[str]) -> tuple[str, ...]:
        """Return the paths."""
        return tuple(sorted(filter(None, output)))


_STAYS = program("deploys/ops/scripts/stays.sh")
_OWNED_PATH = program("deploys/ops/scripts/owned_path_state.sh")
_PATH = program("deploys/ops/scripts/path_state.sh")


class OwnersFact(Fact):
    """Owner and mode of paths, without reading their content; missing ones are left out."""

    def command(self, paths: tuple[str, ...]) -> str:
        """Return a script that prints one line for each path."""
        return f"stat -c '%a %U %n' {' '.join(map(shlex.quote, paths))} 2>/dev/null || true"

    @staticmethod
    def default() -> dict[str, tuple[str, str]]:
        """Return the state of what does not exist."""
        return {}

    def process(self, output: list[str]) -> dict[str, tuple[str, str]]:
        """Turn the lines into owner and mode (four octal digits) by path."""
        rows = [line.split(" ", 2) for line in output]
        return {path: (owner, mode.rjust(4, "0")) for mode, owner, path in rows}


class PushedFact(Fact):
    """State of a large file; its digest is computed only when the file changed since `record` was written."""

    def command(self, path: str, record: str) -> str:
        """Return a script that prints kind, ownership and digest."""
        return assignments(path=path, record=record, form=IDENTITY) + _PUSHED

    @staticmethod
    def default() -> PathState:
        """Return the state of what does not exist."""
        return PathState()

    def process(self, output: list[str]) -> PathState:
        """Turn the script's lines into a `PathState`."""
        kind, *rest = output[0].split("|")
        if kind != "file":
            return PathState("absent" if kind == "absent" else "other")
        return PathState("file", rest[0].rjust(4, "0"), rest[1], rest[2], output[1])


# Size, times and inode represent the content: writing to a file always updates its change time.
IDENTITY = "%s %.9Y %.9Z %i"
_PUSHED = program("deploys/ops/scripts/pushed_state.sh")


@dataclass(frozen=True, slots=True)
class UnitState:
    """A systemd unit: whether it is loaded, runs and starts at boot, and the stamp of its last good start.

    `watched` has one line `digest  path` for each existing file of those requested.
    """

    load: str = "not-found"
    active: str = "inactive"
    enabled: str = ""
    stale: bool = False
    stamp: str = ""
    watched: tuple[str, ...] = ()


class UnitFact(Fact):
    """State of a systemd unit."""

    def command(self, unit: str, stamp: str, watch: tuple[str, ...] = ()) -> str:
        """Return a script that prints `key=value` lines, the stamp, and digests of watched files."""
        return assignments(unit=unit, stamp=stamp, watch="\n".join(watch)) + _UNIT

    @staticmethod
    def default() -> UnitState:
        """Return the state of a unit that systemd does not know."""
        return UnitState()

    def process(self, output: list[str]) -> UnitState:
        """Turn the script's lines into a `UnitState`."""
        values = keyed(output)
        return UnitState(
            load=values.get("LoadState", "not-found"),
            active=values.get("ActiveState", "inactive"),
            enabled=values.get("UnitFileState", ""),
            stale=values.get("NeedDaemonReload") == "yes",
            stamp=values.get("Stamp", ""),
            watched=tuple(line[len("Watched=") :] for line in output if line.startswith("Watched=")),
        )


_UNIT = program("deploys/ops/scripts/unit_state.sh")


class PackagesFact(Fact):
    """Which of the given Debian packages, each `NAME` or `NAME=VERSION`, are installed."""

    def command(self, packages: tuple[str, ...]) -> str:
        """Return a script that prints name, state and version of each package that dpkg knows."""
        names = " ".join(shlex.quote(package.partition("=")[0]) for package in packages)
        shown = "${Package} ${db:Status-Status} ${Version}\\n"
        return f"dpkg-query -W -f='{shown}' {names} 2>/dev/null || true"

    @staticmethod
    def default() -> frozenset[str]:
        """Return no packages."""
        return frozenset()

    def process(self, output: list[str]) -> frozenset[str]:
        """Return `NAME` and `NAME=VERSION` of each package whose state is `installed`."""
        rows = [line.split() for line in output]
        present = [row for row in rows if row[1:2] == ["installed"]]
        return frozenset(name for row in present for name in (row[0], f"{row[0]}={row[-1]}"))


@dataclass(frozen=True, slots=True)
class Connection:
    """The SSH connection in use, as the host sees it; empty and zero when there is none."""

    client: str = ""
    port: int = 0

    def ssh_ports(self, declared: int | None) -> frozenset[int]:
        """Return the ports SSH needs: the `declared` one and the one in use; 22 if neither is known.

        The one in use is sshd's own port, even when another port is forwarded to it.
        """
        return frozenset(port for port in (declared, self.port) if port) or frozenset({22})


class ConnectionFact(Fact):
    """Addresses and ports of the connection in use. Read it with `_sudo=False`."""

    def command(self) -> str:
        """Return a command that prints what sshd put into the environment."""
        return 'printf "%s\\n" "${SSH_CONNECTION-}"'

    @staticmethod
    def default() -> Connection:
        """Return an empty connection: not through SSH."""
        return Connection()

    def process(self, output: list[str]) -> Connection:
        """Parse `client port server port`, or nothing."""
        fields = output[0].split()
        return Connection(fields[0], int(fields[3])) if len(fields) == 4 else Connection()


def connection_of(host: Any) -> Connection:
    """Return the SSH connection to the pyinfra `host`, read without sudo, which would hide it."""
    connection: Connection = host.get_fact(ConnectionFact, _sudo=False)
    return connection


class OsReleaseFact(Fact):
    """The operating system's release, as `(ID, VERSION_ID)` of os-release(5)."""

    def command(self) -> str:
        """Return a script that prints both."""
        return '. /etc/os-release && printf "%s\\n%s\\n" "$ID" "${VERSION_ID-}"'

    def process(self, output: list[str]) -> tuple[str, str]:
        """Return the two lines."""
        name, version = (*output, "", "")[:2]
        return name, version

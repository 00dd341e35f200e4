"""Install what every other component needs on a host, and declare who may log in."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand, deploy
from pyinfra.api.operation import OperationMeta

from deploys.base.settings import BaseSettings
from deploys.ops import accounts, services
from deploys.ops.accounts import GroupFact, UserFact, UserState
from deploys.ops.debian import packages, upgrades
from deploys.ops.debian.packages import WantedFact
from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact, PathFact, PathState, connection_of
from deploys.ops.paths import files
from deploys.ops.programs import program
from deploys.ops.removal import removal
from deploys.ops.run_state import Change
from deploys.ops.services import Service, good_path, stamp_path
from deploys.ops.shell import assignments, script
from deploys.settings import purging, settings_of
from inventory.errors import HostError
from inventory.sections.base import Operator

OPERATORS = "clawd-operators"
USUAL_SSH_PORT = 22
SSHD = "/etc/ssh/sshd_config.d/10-clawd.conf"
SSHD_FILES = ("/etc/ssh/sshd_config.d/05-clawd-hardening.conf", SSHD)
"""Our files of sshd's configuration; that of the component hardening comes first, so that it wins."""
SUDOERS = "/etc/sudoers.d/clawd"
FOLDERS = (
    "/etc/clawd/secrets",
    "/etc/clawd",
    "/opt/clawd",
    "/usr/local/lib/clawd",
    "/etc/systemd/journald.conf.d",
)
JOURNALD = "/etc/systemd/journald.conf.d/10-clawd.conf"

# The new drop-in before all of the present configuration: sshd uses the first value of an option.
SSHD_CHECK = """(
    whole=$(mktemp)
    trap 'rm -f "$whole"' EXIT
    mkdir -p -m 0755 /run/sshd
    cat {} /etc/ssh/sshd_config > "$whole"
    /usr/sbin/sshd -t -f "$whole"
)"""


@deploy("Base")
def apply() -> None:
    """Set up packages, folders, operators, SSH, journal and time zone.

    Raise `HostError` before a lock-out.
    """
    settings = settings_of("base", BaseSettings)
    packages.installed(*settings.packages, component="base")
    _no_longer_declared(settings.packages, name="Packages that are no longer declared")
    _folders()
    if settings.upgrade != "never":
        upgrades.current(settings.upgrade)
    _time_zone(settings.time_zone)
    _journal(settings.journal_max)
    _operators(settings.operators)
    _ssh(settings.ssh_port)


def _keys_that_stay() -> dict[str, str]:
    """Return the keys of the login in use, which stay: the original ones may have been revoked since."""
    mine = host.data.get("ssh_user")
    members: frozenset[str] = host.get_fact(GroupFact, group=OPERATORS) or frozenset()
    present: UserState | None = host.get_fact(UserFact, user=mine) if mine in members else None
    if present is None:
        return {}
    why = f"{mine} stays, and logs in with the keys that are there now; the former file is deleted"
    return {f"{present.home}/.ssh/authorized_keys": why}


def _purge_operators() -> None:
    """Delete the accounts of operators, whose files have been restored with their rights."""
    for name in _leaving() if purging() else ():
        accounts.absent(name)


@removal("base", exempt=_keys_that_stay, afterwards=_purge_operators)
def remove() -> None:
    """Remove our settings, and every operator but the login in use, which keeps its sudo.

    The port in use stays open where it is not the usual one. Folders are removed when they are empty.
    """
    port = connection_of(host).port
    if port in (0, USUAL_SSH_PORT):
        gone = files.absent(SSHD)
    else:
        gone = files.put(SSHD, "".join(f"Port {number}\n" for number in sorted({USUAL_SSH_PORT, port})))
    _afresh("ssh.service", (gone,), reload=True)
    _afresh("systemd-journald.service", (files.absent(JOURNALD),), reload=False)
    _no_operators()
    _no_time_zone_file()
    packages.removed("base", folders={packages.ANY: ()})
    for path in (upgrades.RECORD, upgrades.KNOWN, DROPPED):
        files.absent(path)
    for folder in FOLDERS:
        empty_folder(folder, name=f"No folder {folder}")
    _group_without_users("clawd", name="No group clawd")


def _leaving() -> list[str]:
    """Return the operators but the login in use, which stays."""
    members: frozenset[str] = host.get_fact(GroupFact, group=OPERATORS) or frozenset()
    return sorted(members - {"root", host.data.get("ssh_user")})


def _no_operators() -> None:
    members: frozenset[str] = host.get_fact(GroupFact, group=OPERATORS) or frozenset()
    mine = host.data.get("ssh_user")
    for name in _leaving():
        accounts.retired(name, group=OPERATORS)
    if mine in members:
        files.template("base/sudoers", SUDOERS, {"operators": [mine]}, mode="0440")
    else:
        files.absent(SUDOERS)
        accounts.absent(OPERATORS)


def _afresh(unit: str, changed: tuple[OperationMeta, ...], *, reload: bool) -> None:
    """Restart or reload `unit` when its settings changed, and forget its starts."""
    _read_again(unit, changed, reload, name=f"{unit.removesuffix('.service')} as before")


@operation
def _read_again(unit: str, changed: tuple[OperationMeta, ...], reload: bool) -> Iterator[StringCommand]:
    if any(meta.did_change() if meta.is_complete() else meta.will_change for meta in changed):
        record(Change(unit, ("reload" if reload else "restart",)))
        action = "reload" if reload else "restart"
        yield script(
            'systemctl "$action" "$unit" && rm -rf "$stamp" "$good"',
            action=action,
            unit=unit,
            stamp=stamp_path(unit),
            good=good_path(unit),
        )


def empty_folder(path: str, *, ours: str = "", **arguments: Any) -> OperationMeta:
    """Remove a folder that has nothing in it, or only the file `ours` that is removed before.

    A folder that a package brought stays.
    """
    arguments.setdefault("name", f"No folder {path}")
    return _empty_folder(path, ours, **arguments)


@operation
def _empty_folder(path: str, ours: str) -> Iterator[StringCommand]:
    if host.get_fact(EmptyFact, path=path, ours=ours):
        record(Change(path, ("removed: it is empty",)))
        yield script('rmdir "$path"', path=path)


class EmptyFact(Fact):
    """Whether a folder has nothing in it but `ours` and empty folders, and no package brought it."""

    def command(self, path: str, ours: str = "") -> str:
        """Return a script that prints `empty` or nothing."""
        return assignments(path=path, ours=ours) + _EMPTY

    @staticmethod
    def default() -> bool:
        """Return that there is no such folder."""
        return False

    def process(self, output: list[str]) -> bool:
        """Return whether the script printed `empty`."""
        return output == ["empty"]


_EMPTY = """
[ -d "$path" ] || exit 0
[ -z "$(find "$path" ! -type d ! -path "$ours" | head -n 1)" ] || exit 0
dpkg-query -S "$path" >/dev/null 2>&1 || echo empty
"""


@operation
def _group_without_users(name: str) -> Iterator[StringCommand]:
    if host.get_fact(GroupFact, group=name) is not None and not host.get_fact(GroupUsersFact, group=name):
        record(Change(f"group {name}", ("removed",)))
        yield script('groupdel "$name"', name=name)


class GroupUsersFact(Fact):
    """Whether a group is the primary group of a user, so that it has to stay."""

    def command(self, group: str) -> str:
        """Return a script that prints the names of those users."""
        return assignments(group=group) + _PRIMARY

    @staticmethod
    def default() -> bool:
        """Return that it is the primary group of no user."""
        return False

    def process(self, output: list[str]) -> bool:
        """Return whether there is such a user."""
        return any(output)


_PRIMARY = r"""
id=$(getent group "$group" | cut -d: -f3)
[ ! "$id" ] || getent passwd | awk -F: -v id="$id" '$4 == id {print $1}'
"""


@operation
def _no_longer_declared(declared: tuple[str, ...]) -> Iterator[StringCommand]:
    """Report once which packages stay although the inventory no longer names them.

    Another program may need one by now, so they are removed together with base only.
    """
    wanted: frozenset[str] = host.get_fact(WantedFact, component="base")
    dropped = sorted(wanted - {name.partition("=")[0] for name in declared})
    reported: frozenset[str] = host.get_fact(DroppedFact)
    if frozenset(dropped) == reported:
        return
    lines = [
        f"{name}: no longer declared; it stays installed until base is removed (`apt-get purge {name}` there)"
        for name in dropped
        if name not in reported
    ]
    lines += [f"{name}: declared again" for name in sorted(reported - set(dropped))]
    record(Change("packages", tuple(lines)))
    yield script(_NOTE_DROPPED, file=DROPPED, names="\n".join(dropped))


DROPPED = "/var/lib/clawd/state/base.dropped"
"""The packages that stay installed although they are no longer declared, one per line."""

_NOTE_DROPPED = program("deploys/base/scripts/note_dropped.sh")


class DroppedFact(Fact):
    """The packages that were reported to stay although they are no longer declared."""

    def command(self) -> str:
        """Return a script that prints one name per line."""
        return f"cat {DROPPED} 2>/dev/null || true"

    @staticmethod
    def default() -> frozenset[str]:
        """Return no package."""
        return frozenset()

    def process(self, output: list[str]) -> frozenset[str]:
        """Return the names."""
        return frozenset(filter(None, output))


def _folders() -> None:
    accounts.group("clawd")
    files.directory("/etc/clawd")
    files.directory("/etc/clawd/secrets", mode="0700")
    files.directory("/opt/clawd")
    files.directory("/usr/local/lib/clawd")
    files.directory("/var/lib/clawd")
    files.directory("/var/lib/clawd/state", mode="0700")


def _time_zone(name: str) -> None:
    zone = f"/usr/share/zoneinfo/{name}"
    unknown = shlex.quote(
        f"this host has no time zone {name}: write one that `timedatectl list-timezones` shows"
    )
    known = f"test -f {shlex.quote(zone)} || {{ echo {unknown}; false; }}"
    files.put("/etc/timezone", f"{name}\n", check=known)
    files.link("/etc/localtime", zone)


def _no_time_zone_file() -> None:
    """Remove /etc/timezone where only this program has written it; restore the original."""
    state: PathState = host.get_fact(PathFact, path="/etc/timezone", owner="base")
    if state.original in ("ours", "kept"):
        files.absent("/etc/timezone")


def _journal(limit: str) -> None:
    files.directory("/etc/systemd/journald.conf.d")
    files.template("base/journald.conf", JOURNALD, {"limit": limit})
    services.converge(Service("systemd-journald", watch=(JOURNALD,)))


def _operators(declared: tuple[Operator, ...]) -> None:
    members: frozenset[str] = host.get_fact(GroupFact, group=OPERATORS) or frozenset()
    # Root can never be declared: a root that was added by hand keeps its membership.
    undeclared = members - {operator.name for operator in declared} - {"root"}
    _keep_own_login(declared, undeclared)
    accounts.group(OPERATORS)
    for operator in declared:
        _operator(operator)
    values = {"operators": [operator.name for operator in declared]}
    files.template("base/sudoers", SUDOERS, values, mode="0440", check="/usr/sbin/visudo -cqf {}")
    for name in sorted(undeclared):
        accounts.retired(name, group=OPERATORS)


def _operator(operator: Operator) -> None:
    name = operator.name
    present: UserState = host.get_fact(UserFact, user=name) or UserState(f"/home/{name}", name)
    accounts.person(name, home=present.home, groups=(OPERATORS,))
    folder, group = f"{present.home}/.ssh", present.group
    files.directory(folder, owner=name, group=group, mode="0700")
    files.put(f"{folder}/authorized_keys", authorized_keys(operator), owner=name, group=group, mode="0600")


def authorized_keys(operator: Operator) -> str:
    """Return exactly the operator's declared keys, one per line."""
    return "".join(f"{key.strip()}\n" for key in operator.keys)


def _keep_own_login(declared: tuple[Operator, ...], undeclared: frozenset[str]) -> None:
    """Raise `HostError` when the login in use would lose its sudo, or the key in use its login."""
    user, key = host.data.get("ssh_user"), key_in_use()
    if user in undeclared:
        raise HostError(
            f"{host.name}: {user} is the login in use, and base.operators no longer has it, so it would "
            f"lose sudo",
            advice=f"connect with another login first, or declare {user} under base.operators",
        )
    for operator in declared:
        if operator.name == user and key and not any(key in line.split() for line in operator.keys):
            raise HostError(
                f"{host.name}: operator {user} is the login in use, and the key in use is not among its keys",
                advice=f"add it to the keys of {user} under base.operators, or connect with a declared one",
            )


def key_in_use() -> str | None:
    """Return the base64 part of the public key that opened the connection; `None` when it is not known."""
    client = getattr(host.connector, "client", None)
    transport: Any = client.get_transport() if client else None
    key = getattr(getattr(transport, "auth_handler", None), "private_key", None)
    return str(key.get_base64()) if key else None


def _ssh(declared: int | None) -> None:
    """Set the declared port, and keep that of the connection in use open: no run cuts itself off."""
    ports = sorted(connection_of(host).ssh_ports(declared))
    files.template("base/sshd.conf", SSHD, {"ports": ports}, check=SSHD_CHECK)
    services.converge(Service("ssh", watch=SSHD_FILES, reload=True))

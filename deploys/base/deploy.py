"""The foundation of a host: what every other component stands on, and who may log in."""

from __future__ import annotations

import shlex
from typing import Any

from pyinfra import host
from pyinfra.api import deploy

from deploys.base.settings import BaseSettings
from deploys.ops import accounts, files, packages, services
from deploys.ops.accounts import GroupFact, UserFact, UserState
from deploys.ops.facts import connection_of
from deploys.settings import settings_of
from inventory.errors import HostError
from inventory.model import Operator

OPERATORS = "clawd-operators"
SSHD = "/etc/ssh/sshd_config.d/10-clawd.conf"
SUDOERS = "/etc/sudoers.d/clawd"
JOURNALD = "/etc/systemd/journald.conf.d/10-clawd.conf"

# The new drop-in before all of the present configuration: sshd heeds the first mention of an option.
SSHD_CHECK = """(
    whole=$(mktemp)
    trap 'rm -f "$whole"' EXIT
    mkdir -p -m 0755 /run/sshd
    cat {} /etc/ssh/sshd_config > "$whole"
    /usr/sbin/sshd -t -f "$whole"
)"""


@deploy("Base")
def apply() -> None:
    """Packages, folders, operators, SSH, journal and time zone. Raises `HostError` before a lock-out."""
    settings = settings_of("base", BaseSettings)
    packages.installed(*settings.packages)
    _folders()
    _time_zone(settings.time_zone)
    _journal(settings.journal_max)
    _operators(settings.operators)
    _ssh(settings.ssh_port)


def _folders() -> None:
    accounts.group("clawd")
    files.directory("/etc/clawd")
    files.directory("/etc/clawd/secrets", mode="0700")
    files.directory("/opt/clawd")
    files.directory("/var/lib/clawd")
    files.directory("/var/lib/clawd/state", mode="0700")


def _time_zone(name: str) -> None:
    zone = f"/usr/share/zoneinfo/{name}"
    known = f"test -f {shlex.quote(zone)} || {{ echo {shlex.quote(name)} is no time zone; false; }}"
    files.put("/etc/timezone", f"{name}\n", check=known)
    files.link("/etc/localtime", zone)


def _journal(limit: str) -> None:
    files.directory("/etc/systemd/journald.conf.d")
    files.template("base/journald.conf", JOURNALD, {"limit": limit})
    services.converge("systemd-journald", inputs="", watch=(JOURNALD,))


def _operators(declared: tuple[Operator, ...]) -> None:
    members: frozenset[str] = host.get_fact(GroupFact, group=OPERATORS) or frozenset()
    # Root can never be declared: whoever put it there by hand is not to lose it.
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
    """Exactly the operator's declared keys, a line each."""
    return "".join(f"{key.strip()}\n" for key in operator.keys)


def _keep_own_login(declared: tuple[Operator, ...], undeclared: frozenset[str]) -> None:
    """Raises `HostError` when the login in use would lose its sudo, or the key in use its login."""
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
    """The base64 part of the public key with which the connection was opened, when that is known."""
    client = getattr(host.connector, "client", None)
    transport: Any = client.get_transport() if client else None
    key = getattr(getattr(transport, "auth_handler", None), "private_key", None)
    return str(key.get_base64()) if key else None


def _ssh(declared: int | None) -> None:
    """The port of the connection in use stays open beside the declared one: no run cuts itself off."""
    ports = sorted(connection_of(host).ssh_ports(declared))
    files.template("base/sshd.conf", SSHD, {"ports": ports}, check=SSHD_CHECK)
    services.converge("ssh", inputs="", watch=(SSHD,), reload=True)

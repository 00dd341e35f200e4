"""nftables with one table of this program, replaced atomically, and restored after changes by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from pyinfra import host
from pyinfra.api import StringCommand, deploy
from pyinfra.api.operation import OperationMeta

from deploys.firewall.rules import accepting, admits, counts, names_in
from deploys.firewall.settings import FirewallSettings
from deploys.ops import services
from deploys.ops.debian import packages
from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact, PathFact, PathState, connection_of
from deploys.ops.paths import files
from deploys.ops.programs import program
from deploys.ops.removal import removal
from deploys.ops.run_state import Change
from deploys.ops.shell import assignments, script
from deploys.settings import settings_of
from inventory.errors import HostError

CONFIG = "/etc/nftables.conf"
STAMP = "/var/lib/clawd/state/firewall.stamp"
ENABLED = "/var/lib/clawd/state/firewall.enabled"
"""Records whether /etc/nftables.conf was loaded at boot before, as `systemctl is-enabled` prints it."""
TABLE = "inet clawd"
UNIT = "nftables.service"
"""The unit that loads the configuration at boot."""


@deploy("Firewall")
def apply() -> None:
    """Accept only declared connections.

    Raises `HostError` before a lock-out, and for names without address.
    """
    settings = settings_of("firewall", FirewallSettings)
    connection = connection_of(host)
    if connection.client and not admits(settings.management, connection.client):
        raise HostError(
            f"{host.name}: the connection in use comes from {connection.client}, which is in no "
            f"network of firewall.management: the firewall would lock this login out",
            advice=f"add a network that holds {connection.client} to firewall.management",
        )
    rules = accepting(settings, connection.ssh_ports(settings.ssh_port), _addresses(names_in(settings)))
    ruleset = files.render("firewall/nftables.conf", {"rules": rules, "counts": counts(settings)})
    packages.installed("nftables", component="firewall")
    files.put(CONFIG, ruleset, mode="0755", check="nft -c -f {}")
    live(ruleset)


@removal("firewall")
def remove() -> None:
    """Remove our table, now and for the next boot. Configuration of others is not changed.

    The original configuration is restored, and loaded again if it was loaded at boot.
    """
    state: TableState = host.get_fact(TableFact)
    there: PathState = host.get_fact(PathFact, path=CONFIG, owner="firewall")
    if there.original == "kept":
        files.absent(CONFIG)
    elif state.written:
        files.put(CONFIG, "#!/usr/sbin/nft -f\n", mode="0755")
    closed(before=there.original == "kept")
    for path in (STAMP, ENABLED):
        files.absent(path)
    services.forgotten(UNIT)
    packages.removed("firewall")


class AddressesFact(Fact):
    """The addresses of names as the host resolves them; names without any are left out."""

    def command(self, names: tuple[str, ...]) -> str:
        """Return a script that prints `name address` lines."""
        return "".join(f"{assignments(n=name)}{_RESOLVE}\n" for name in names) + "true"

    @staticmethod
    def default() -> dict[str, tuple[str, ...]]:
        """Return no addresses."""
        return {}

    def process(self, output: list[str]) -> dict[str, tuple[str, ...]]:
        """Gather each name's lines."""
        pairs = [line.split() for line in output]
        return {name: tuple(sorted({b for a, b in pairs if a == name})) for name, _ in pairs}


_RESOLVE = """getent ahosts "$n" | while read -r address _; do echo "$n $address"; done"""


def _addresses(names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    if not names:
        return {}
    found: dict[str, tuple[str, ...]] = host.get_fact(AddressesFact, names=names)
    unknown = [name for name in names if not found.get(name)]
    if unknown:
        raise HostError(
            f"{host.name}: {', '.join(unknown)} cannot be resolved there, so the firewall cannot let it in",
            advice="give the address of that host as an IP address, or make the name known",
        )
    return found


@dataclass(frozen=True, slots=True)
class TableState:
    """Our table in the kernel: digest (empty when there is none) and stamp.

    `enabled`: whether the configuration is loaded at boot. `written`: whether it contains our table.
    """

    digest: str = ""
    stamp: str = ""
    enabled: bool = False
    written: bool = False


class TableFact(Fact):
    """State of our table."""

    def command(self) -> str:
        """Return a script that prints the digest of the live table, the stamp, and its state at boot."""
        return assignments(stamp=STAMP, table=TABLE, config=CONFIG) + _TABLE

    @staticmethod
    def default() -> TableState:
        """Return that there is no table."""
        return TableState()

    def process(self, output: list[str]) -> TableState:
        """Turn the script's lines into a `TableState`."""
        digest, stamp, written, enabled = (*output, "", "", "", "")[:4]
        return TableState(digest, stamp, enabled == "enabled", written == "written")


_DIGEST = program("deploys/firewall/scripts/live.sh")
LIVE_DIGEST = f"{assignments(table=TABLE)}{_DIGEST}live"
"""A shell command that prints the digest of the live table, or an empty line."""
_TABLE = program("deploys/firewall/scripts/table.sh")


def live(ruleset: str) -> OperationMeta:
    """Load `ruleset`, the content of /etc/nftables.conf, now and at every boot."""
    return _live(sha256(ruleset.encode()).hexdigest(), name="Rules in force")


def closed(*, before: bool = False) -> OperationMeta:
    """Remove our table; with `before`, load the earlier rules, which are in /etc/nftables.conf again."""
    return _closed(before, name="No rules in force")


@operation
def _live(digest: str) -> Iterator[StringCommand]:
    state: TableState = host.get_fact(TableFact)
    as_applied = bool(state.digest) and state.stamp == f"{digest} {state.digest}"
    if as_applied and state.enabled:
        return
    if not state.digest:
        why = "load the rules"
    elif state.stamp.startswith(f"{digest} "):
        why = "load the rules again: the live ones were changed by hand" if not as_applied else "load at boot"
    else:
        why = "load the new rules"
    record(Change(f"nftables {TABLE}", (why,)))
    yield script(
        _LOAD,
        config=CONFIG,
        stamp=STAMP,
        enabled=ENABLED,
        table=TABLE,
        digest=digest,
        masked=services.masked_path(UNIT),
    )


_LOAD = program("deploys/firewall/scripts/load.sh")


@operation
def _closed(before: bool) -> Iterator[StringCommand]:
    state: TableState = host.get_fact(TableFact)
    if state.digest:
        record(Change(f"nftables {TABLE}", ("removed",)))
    if before:
        record(Change(CONFIG, ("in force as before, where it was loaded at boot",)))
    # The preparation ends at the first command.
    if state.digest:
        yield script("nft delete table $table", table=TABLE)
    if before:
        yield script(_AS_BEFORE, config=CONFIG, enabled=ENABLED)


_AS_BEFORE = program("deploys/firewall/scripts/as_before.sh")

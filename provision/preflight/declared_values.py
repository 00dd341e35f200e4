"""Checks of declared values that need a host: time zones, packages, kernel settings, logins, disks.

The queries are part of the probe of a host (`provision.preflight.facts`); problems are reported like other
mistakes of an inventory, with their position, once for all hosts with the same problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from deploys.ops.debian.upgrades import DAILY, RECORD
from deploys.ops.programs import program
from deploys.ops.shell import assignments
from inventory.model import Inventory
from inventory.reading.source import KeyPath
from inventory.wording import nearest

READ = "/var/lib/apt/lists/partial"
"""A folder that apt changes whenever it reads the index of its sources."""
STAMPS = (RECORD, DAILY, READ)
"""Files whose modification time is that of the last update of the index."""
SOURCES = ("/etc/apt/sources.list", "/etc/apt/sources.list.d")
FIRST_PERSON = 1000
"""The lowest user id of people: FIRST_UID of adduser(8)."""
Rows = Mapping[str, tuple[tuple[str, ...], ...]]
"""The answers of a host: rows by query."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A declared value that a host cannot use, before its position in the file is known."""

    at: tuple[KeyPath, ...]
    problem: str
    advice: str


def script(inventory: Inventory, host: str, *, updated: bool = False) -> str:
    """Return the shell script that queries `host`; it prints `asked=QUERY|…` lines and changes nothing.

    Packages are queried only if apt's index is less than a day old, or was `updated` just now.
    """
    disk = inventory.hosts[host].disk
    values = {
        "zone": inventory.base.time_zone,
        "wanted": " ".join(inventory.base.packages),
        "settings": " ".join(inventory.hardening.sysctl) if inventory.hardening.enabled else "",
        "logins": " ".join(operator.name for operator in inventory.base.operators),
        "device": disk.device if disk and disk.device != "auto" else "",
        "stamps": " ".join(STAMPS),
        "sources": " ".join(SOURCES),
        "parents": " ".join(sorted({str(PurePosixPath(source).parent) for source in SOURCES})),
        "updated": "yes" if updated else "",
    }
    return assignments(**values) + _ASK


_ASK = program("provision/preflight/scripts/declared_values.sh")


def answers(output: str) -> Rows:
    """Return the rows of the `asked=` lines of a host's output."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for line in output.splitlines():
        if line.startswith("asked="):
            question, *row = line.removeprefix("asked=").split("|")
            found.setdefault(question, []).append(tuple(row))
    return {question: tuple(rows) for question, rows in found.items()}


def doubts(inventory: Inventory, host: str, release: str, rows: Rows) -> Iterator[Doubt]:
    """Yield the declared values that `host` with this `release` cannot use."""
    for known, other in rows.get("zone", ()):
        if known == "no":
            zone = inventory.base.time_zone
            advice = (
                f"write {other}" if other else "write a name from `timedatectl list-timezones` on the host"
            )
            yield Doubt((("base", "time_zone"),), f"{release} has no time zone {zone}", advice)
    for name, instead, names in rows.get("package", ()):
        at: KeyPath = ("base", "packages", inventory.base.packages.index(name))
        if provided := instead.split():
            problem = f"{release} has no package {name} of its own: it is provided by {', '.join(provided)}"
            yield Doubt((at,), problem, f"write one of these, such as {provided[0]}")
        else:
            close = nearest(name, names.split())
            advice = (
                close if close.startswith("did") else "remove it, or write a name from `apt-cache search`"
            )
            yield Doubt((at,), f"{release} has no package {name}", advice)
    for key, there, able, *value in rows.get("setting", ()):
        yield from _setting(inventory, key, there == "yes", able == "yes", "|".join(value))
    for position, operator in enumerate(inventory.base.operators):
        path: KeyPath = ("base", "operators", position, "name")
        for name, number, group in rows.get("login", ()):
            if name == operator.name:
                yield from _login(path, name, number, group == "yes")
    for (disks,) in rows.get("device", ()):
        device: KeyPath = ("hosts", host, "disk", "device")
        declared = inventory.hosts[host].disk
        listed = ", ".join(disks.split()) or "none"
        problem = f"there is no disk {declared.device if declared else ''}"
        yield Doubt((device,), problem, f"its disks are {listed}; `ls -l /dev/disk/by-id` shows more names")


def _setting(inventory: Inventory, key: str, there: bool, able: bool, value: str) -> Iterator[Doubt]:
    at: tuple[KeyPath, ...] = (("hardening", "sysctl", key),)
    wanted = inventory.hardening.sysctl.get(key, "")
    if not there:
        yield Doubt(
            at,
            f"its kernel has no setting {key}",
            "correct it, or load the kernel module of this setting (/etc/modules-load.d)",
        )
    elif not able and value != wanted:
        yield Doubt(
            at,
            f"its kernel setting {key} is {value} and cannot be changed",
            "remove it, or set it on the machine that this container runs on",
        )


def _login(path: KeyPath, name: str, number: str, group: bool) -> Iterator[Doubt]:
    if number.isdigit() and 0 < int(number) < FIRST_PERSON:
        yield Doubt((path,), f"{name} is a system user there (id {number})", "choose another name")
    elif not number and group:
        yield Doubt(
            (path,), f"{name} is a system group there, so no user can have this name", "choose another name"
        )


def reported(
    inventory: Inventory,
    releases: Mapping[str, str],
    asked: Mapping[str, Rows],
    place: Callable[[tuple[KeyPath, ...]], str],
) -> Iterator[str]:
    """Yield every doubt as `file:line:column: hosts: problem; hint`, in the order of hosts."""
    hosts_of: dict[Doubt, list[str]] = {}
    for host, rows in asked.items():
        for doubt in doubts(inventory, host, releases[host], rows):
            hosts_of.setdefault(doubt, []).append(host)
    for doubt, hosts in hosts_of.items():
        where = place(doubt.at)
        yield f"{f'{where}: ' if where else ''}{', '.join(hosts)}: {doubt.problem}; {doubt.advice}"

"""The page of files, units, packages and ports on hosts, by component."""

from __future__ import annotations

import re
from collections.abc import Iterator

from deploys.component import Component
from deploys.ops.run_state import Change
from deploys.registry import COMPONENTS
from docs.generator.bare_host import Operation, operations
from docs.generator.deployment import inventory
from docs.generator.markdown import code, generated, table
from inventory.model import Inventory

HOW = """
Asked of the components themselves. Files, units and packages: `deploy.apply` of each is evaluated for a
bare Debian 12 host, as for a plan, in the deployment of `docs/generator/deployment.py`, which has every
component: two hosts with bots behind one nginx (the first has a GPU and a data disk), a database,
monitoring, logs, and a certificate by ACME. Rights are those that a file is written with. Ports: what
the components report in `ports_for` and `openings_for`. Files that packages bring or that programs
write while they run are not listed; a path such as `/opt/clawd/releases/DIGEST` stands for one named by
a digest.
"""
UNITS = re.compile(r"^(?:Service|Timer) (\S+)$")
PACKAGES = re.compile(r"^Packages (?!that )((?:[a-z0-9][a-z0-9.+=:~-]*(?: |$))+)$")
FOLDER = re.compile(r"new folder (\d{4}) (\S+)")
UNIT_FILE = re.compile(r"/etc/systemd/system/([^/]+\.(?:service|timer|mount|socket))$")

DIGEST = re.compile(r"\b[0-9a-f]{12,}\b")
IN_WORDS = ("mount ", "show ", "issue a certificate", "obtain a certificate", "first dump", "partition ")
"""How a plan describes what is neither a file with a content of its own nor a folder."""


def page() -> str:
    """Return the page."""
    whole = inventory()
    # The disk's and the containers' parts differ by how a host is declared.
    contained = inventory(runtime={"run_with": "docker"})
    parts = [generated("Files, units and ports on a host", HOW), _ports(whole)]
    for component in COMPONENTS:
        found = [operation for host in whole.hosts for operation in operations(component, whole, host)]
        if component.name == "runtime":
            found += operations(component, contained, "bot1")
        parts.append(_section(component, found))
    return "\n".join(parts)


def _ports(whole: Inventory) -> str:
    rows = sorted(set(_listening(whole)), key=lambda row: (int(row[0].partition("/")[0]), row))
    head = ("port", "component", "purpose", "open to")
    sshd = (
        "The port of SSH (`base.ssh_port`, 22) is always open, to `firewall.management` or to everyone. "
        "Everything else is dropped. A port with a setting of its own is shown with the default.\n"
    )
    return f"## Ports\n\n{sshd}\n{table(head, rows)}"


def _listening(whole: Inventory) -> Iterator[tuple[str, str, str, str]]:
    names = {host.address: name for name, host in whole.hosts.items()}
    for component in COMPONENTS:
        for host in whole.hosts:
            openings = component.openings_for(whole, host)
            for opening in openings:
                to = ", ".join(_role(whole, names.get(source, source)) for source in opening.sources)
                yield f"{opening.port}/{opening.protocol}", component.name, opening.purpose, to or "everyone"
            opened = {opening.port for opening in openings}
            for port in component.ports_for(whole, host):
                if port not in opened:
                    yield f"{port}/tcp", component.name, "", "the host itself"


def _role(whole: Inventory, host: str) -> str:
    return f"hosts with {', '.join(whole.hosts[host].roles)}" if host in whole.hosts else host


def _section(component: Component, found: list[Operation]) -> str:
    changes = {
        DIGEST.sub("DIGEST", change.path): change for operation in found for change in operation.changes
    }
    written = {unit[1] for path in changes if (unit := UNIT_FILE.search(path))}
    units = sorted({name.removesuffix(".service") for name in (*_matches(UNITS, found), *written)})
    packages = sorted({name for names in _matches(PACKAGES, found) for name in names.split()})
    rights = {
        DIGEST.sub("DIGEST", change.path): operation.rights
        for operation in found
        for change in operation.changes
    }
    files = [_file(change, rights[path]) for path, change in sorted(changes.items()) if path.startswith("/")]
    text = f"## {component.name}\n\n{component.summary[:1].upper()}{component.summary[1:]}. "
    text += f"[Its page](../../deploys/{component.name}/README.md).\n"
    for label, names in (("Units", units), ("Packages", packages)):
        if names:
            text += f"\n{label}: {', '.join(map(code, names))}\n"
    if files:
        text += f"\n{table(('path', 'what'), files)}"
    return text


def _matches(pattern: re.Pattern[str], found: list[Operation]) -> Iterator[str]:
    for operation in found:
        if match := pattern.match(operation.name):
            yield match[1].strip()


def _file(change: Change, rights: str) -> tuple[str, str]:
    first = change.diff[0] if change.diff else ""
    if folder := FOLDER.match(first):
        what = f"folder, {folder[1]} {folder[2]}"
    elif first.startswith("new folder from "):
        what = "folder, unpacked"
    elif first.startswith("link "):
        what = f"link to {code(first.rpartition(' → ')[2])}"
    elif first.startswith(IN_WORDS):
        what = first
    else:
        what = ", ".join(filter(None, ("file", rights, "secret" if change.secret else "")))
    return code(DIGEST.sub("DIGEST", change.path)), DIGEST.sub("DIGEST", what)

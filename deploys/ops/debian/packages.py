"""Debian packages by component: a component removes only packages that its own installations brought.

The packages of an installation are those that its own dpkg processes report (`--status-logger`), recorded
while they run. Packages installed by others at the same time never count, even if this program is killed.

Brought packages are marked as installed automatically, and `PROTECTED` keeps `apt autoremove` from removing
those that a component wants. An administrator who needs one for other reasons installs it or marks it as
manual, as any dependency, and it stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.debian import added, apt
from deploys.ops.debian.added import Added, AddedFact
from deploys.ops.debian.apt import Settled
from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact, PackagesFact
from deploys.ops.paths import originals
from deploys.ops.programs import program
from deploys.ops.run_state import Change
from deploys.ops.shell import assignments, script
from inventory.errors import HostError

RECORDS = "/var/lib/clawd/state/packages"
"""Folder with one file per component, of lines with a NAME: `wants` for what it requested, `brought` for what
its installations installed, `marked` for those of them marked as automatic; from before its first
installation, `there` for installed packages, `residual` for removed ones whose configuration was left.
`COMPONENT.log` is dpkg's log of an installation that is not recorded yet."""
ANY = "*"
OBSTACLE = "unmount or rename it, and run again"
PROTECTED = "/etc/apt/apt.conf.d/70clawd-packages"
"""The configuration of apt that names the packages which components want."""


def installed(
    *names: str, component: str | None = None, archive: str | None = None, **arguments: Any
) -> OperationMeta:
    """Install these packages, each `NAME` or `NAME=VERSION`, without recommended ones.

    Waits for cloud-init and for other programs that use apt, finishes an interrupted installation, and reads
    the mirrors' index only when a package is missing and the index is a day old or insufficient. Fails rather
    than remove a package that no component brought. With `component` they are recorded, with all their
    dependencies, as brought by it, for `removed`; also what a failed installation unpacked. `archive` is a
    .deb file of the host from which the only package of `names` is installed. `host.data.apt_options` are
    further arguments of apt-get, such as a proxy for a host without internet.
    """
    arguments.setdefault("name", f"Packages {' '.join(names)}")
    return _installed(tuple(names), component, archive, **arguments)


def removed(
    component: str,
    *,
    keep_configuration: bool = False,
    folders: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    **arguments: Any,
) -> OperationMeta:
    """Remove the packages that `component` brought and nothing else needs.

    A package stays when another component wants it, when it is marked as manual, or when a package that was
    installed later depends on it or recommends it.

    The packages are purged: their configuration in /etc is deleted, and with some of Debian's (PostgreSQL)
    their data. With `keep_configuration` they are only removed, and so are those of which only configuration
    was there before.

    A purge deletes whole `folders` in /etc (nginx), including files that users added: these are set
    aside, and restored afterwards. The plan names them. Each folder has patterns of paths in it that the
    packages and their programs generate. `ANY` stands for all folders directly in /etc that belong only to
    these packages.
    """
    arguments.setdefault("name", f"No packages of {component}")
    return _removed(component, keep_configuration, dict(folders), **arguments)


class WantedFact(Fact):
    """The packages that a component wants, as recorded."""

    def command(self, component: str) -> str:
        """Return a script that prints one name per line."""
        record = assignments(record=f"{RECORDS}/{component}")
        return f"{record}sed -n 's/^wants //p' \"$record\" 2>/dev/null || true"

    @staticmethod
    def default() -> frozenset[str]:
        """Return nothing."""
        return frozenset()

    def process(self, output: list[str]) -> frozenset[str]:
        """Return the names."""
        return frozenset(filter(None, output))


class BroughtFact(Fact):
    """The packages that would be removed with a component; `None` when it has no record."""

    def command(self, component: str) -> str:
        """Return a script that prints `recorded`, and one name per line."""
        return assignments(records=RECORDS, component=component) + _BROUGHT

    def process(self, output: list[str]) -> frozenset[str] | None:
        """Return the names."""
        lines = [line for line in output if line]
        return frozenset(lines[1:]) if lines[:1] == ["recorded"] else None


@operation
def _installed(names: tuple[str, ...], component: str | None, archive: str | None) -> Iterator[StringCommand]:
    present: frozenset[str] = host.get_fact(PackagesFact, packages=names)
    missing = sorted(set(names) - present)
    bare = sorted({name.partition("=")[0] for name in names})
    if not missing and (component is None or set(bare) <= host.get_fact(WantedFact, component=component)):
        return
    if missing:
        record(Change("packages", (f"install {' '.join(missing)}",)))
    else:
        record(Change("packages", (f"note that {component} needs {' '.join(bare)}",)))
    if missing:
        yield Settled()
    yield script(
        _INSTALL,
        **apt.values(host),
        packages=archive if archive and missing else " ".join(missing),
        record=f"{RECORDS}/{component}" if component else "",
        wanted=" ".join(bare),
        protected=PROTECTED,
        **originals.values((component or "").partition("-")[0]),
    )


@operation
def _removed(
    component: str, keep_configuration: bool, folders: Mapping[str, tuple[str, ...]]
) -> Iterator[StringCommand]:
    brought: frozenset[str] | None = host.get_fact(BroughtFact, component=component)
    if brought is None:
        return
    names = " ".join(sorted(brought))
    given = "\n".join("\t".join((folder, *generated)) for folder, generated in folders.items())
    found = Added()
    if names and given and not keep_configuration:
        found = host.get_fact(AddedFact, component=component, packages=names, folders=given)
    if found.obstacles:
        why = "; ".join(found.obstacles)
        raise HostError(f"{host.name}: the packages are not removed: {why}", advice=OBSTACLE)
    change = (f"remove {names}",) if names else (f"forget what {component} needed",)
    record(Change("packages", (*change, *originals.staying(found.files))))
    if names:
        yield Settled()
    yield script(
        _REMOVE,
        **(apt.values(host) | {"options": ""}),
        packages=names,
        record=f"{RECORDS}/{component}",
        purge="" if keep_configuration else "yes",
        protected=PROTECTED,
        folders=given,
        **added.values(component),
    )


INSTALLING = program("deploys/ops/debian/scripts/installing.sh")

_INSTALL = program("deploys/ops/debian/scripts/install.sh")

_BROUGHT = program("deploys/ops/debian/scripts/brought.sh")

_REMOVE = program("deploys/ops/debian/scripts/remove.sh")

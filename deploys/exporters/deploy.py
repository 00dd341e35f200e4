"""The exporters of a host: Debian's packages, listening for the monitoring host alone."""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import deploy

from deploys.database import backups
from deploys.exporters import account, certificates, database, gpu
from deploys.exporters.exporter import (
    ACCOUNT,
    ALL_PACKAGES,
    BLACKBOX_CONFIG,
    CERTIFICATE,
    Exporter,
    blackbox_config,
    defaults_text,
    exporters,
)
from deploys.exporters.settings import ExportersSettings
from deploys.ops import files, packages, services, units
from deploys.ops.facts import PathFact
from deploys.settings import purging, settings_of
from deploys.tls.deploy import internal

MEMORY_MAX = "128M"


@deploy("Exporters")
def apply() -> None:
    """The exporters that this host should have, each showing what it measures; no others."""
    settings = settings_of("exporters", ExportersSettings)
    wanted = exporters(settings)
    kept = {exporter.package for exporter in wanted}
    for package in ALL_PACKAGES:
        if package not in kept:
            _without(package)
    if settings.database:
        database.login()
    for exporter in wanted:
        _with(exporter, settings)
    gpu.measured(settings.root)
    certificates.told()
    if settings.database:
        backups.told()


@deploy("Remove exporters")
def remove() -> None:
    """None of them, nor what they wrote; their login to the database goes with them.

    Their account on the host goes as well, unless measurements that belong to it are kept.
    """
    certificates.absent()
    gpu.absent()
    database.no_login()
    for package in ALL_PACKAGES:
        _without(package)
    kept = any(host.get_fact(PathFact, path=path).kind != "absent" for path in account.DATA)
    if purging() or not kept:
        account.gone()


def _with(exporter: Exporter, settings: ExportersSettings) -> None:
    """The arguments lie there first, so that it never listens where it should not."""
    text = defaults_text(exporter.arguments, exporter.environment)
    files.put(exporter.defaults, text, owner=exporter.owner, group=exporter.owner, mode=exporter.mode)
    files.directory(exporter.drop_in.rsplit("/", 1)[0])
    values = {"after": exporter.after, "memory_max": MEMORY_MAX}
    files.template("exporters/service.conf", exporter.drop_in, values)
    packages.installed(exporter.package, component=exporter.component)
    if BLACKBOX_CONFIG in exporter.reads:
        if settings.trust == "own":
            internal(CERTIFICATE, settings.project, (settings.name,), owner=ACCOUNT)
        else:
            _no_certificate()
        check = f"{exporter.package} --config.check --config.file={{}}"
        files.put(BLACKBOX_CONFIG, blackbox_config(settings), check=check)
    services.converge(exporter.package, inputs="", watch=exporter.watched, ready=shows(exporter))


def _without(package: str) -> None:
    unit = f"{package}.service"
    units.absent(unit, file=False)
    if package == "prometheus-blackbox-exporter":
        _no_certificate()
    files.absent(f"/etc/systemd/system/{unit}.d")
    packages.removed(f"exporters-{package.removeprefix('prometheus-')}")
    files.absent(f"/etc/default/{package}")


def _no_certificate() -> None:
    files.absent(CERTIFICATE)
    files.absent(f"{CERTIFICATE}.d")


def shows(exporter: Exporter) -> str:
    """A shell command that succeeds when the exporter tells what it is there for."""
    program = f"""
import urllib.request
told = urllib.request.urlopen("http://127.0.0.1:{exporter.port}/metrics", timeout=5).read().decode()
assert any(line.startswith("{exporter.shows}") for line in told.splitlines()), "no {exporter.shows}"
"""
    return f"/usr/bin/python3 -c {shlex.quote(program)}"

"""Install the exporters of a host: Debian's packages, reachable for the monitoring host alone."""

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
    CERTIFICATE_FILES,
    WEB_CONFIG,
    Exporter,
    blackbox_config,
    defaults_text,
    exporters,
    needs_certificate,
    web_config,
)
from deploys.exporters.settings import ExportersSettings
from deploys.metrics import FORMER, TEXTFILES
from deploys.ops import services, units
from deploys.ops.debian import packages
from deploys.ops.facts import OsReleaseFact, PathFact
from deploys.ops.paths import files
from deploys.ops.removal import removal
from deploys.ops.services import Service
from deploys.os_releases import release_of
from deploys.settings import purging, settings_of
from deploys.tls.deploy import internal
from deploys.topology.monitoring import BLACKBOX_PORT

MEMORY_MAX = "128M"
_CONTEXT = """
context = ssl.create_default_context(cafile="{2}")
context.check_hostname = False
context.load_cert_chain("{0}", "{1}")
""".strip().format(*CERTIFICATE_FILES)


@deploy("Exporters")
def apply() -> None:
    """Install the exporters that this host needs, and remove others; each must show what it measures."""
    settings = settings_of("exporters", ExportersSettings)
    wanted = exporters(settings, toolkit=has_toolkit(host.get_fact(OsReleaseFact)))
    kept = {exporter.package for exporter in wanted}
    for package in ALL_PACKAGES:
        if package not in kept:
            _without(package)
    if settings.database:
        database.login()
    _certificate(settings)
    files.directory(TEXTFILES)
    for path in FORMER:
        files.absent(path)
    for exporter in wanted:
        _with(exporter, settings)
    gpu.measured(settings.root)
    certificates.reported()
    if settings.database:
        backups.reported()


@removal("exporters")
def remove() -> None:
    """Remove the exporters, what they wrote, and their login to the database.

    Their account on the host is removed as well, unless measurements that belong to it are kept.
    """
    certificates.absent()
    gpu.absent()
    database.no_login()
    for package in ALL_PACKAGES:
        _without(package)
    _no_certificate()
    files.absent(WEB_CONFIG)
    files.absent(TEXTFILES)
    for path in FORMER:
        files.absent(path)
    kept = any(host.get_fact(PathFact, path=path).kind != "absent" for path in account.DATA)
    if purging() or not kept:
        account.gone()


def _with(exporter: Exporter, settings: ExportersSettings) -> None:
    """Install an exporter; its arguments are written first, so that it never listens where it should not."""
    text = defaults_text(exporter.arguments, exporter.environment)
    files.put(exporter.defaults, text, owner=exporter.owner, group=exporter.owner, mode=exporter.mode)
    files.directory(exporter.drop_in.rsplit("/", 1)[0])
    values = {"after": exporter.after, "memory_max": MEMORY_MAX}
    files.template("exporters/service.conf", exporter.drop_in, values)
    packages.installed(exporter.package, component=exporter.component)
    if BLACKBOX_CONFIG in exporter.reads:
        check = f"{exporter.package} --config.check --config.file={{}}"
        files.put(BLACKBOX_CONFIG, blackbox_config(settings), check=check)
    services.converge(Service(exporter.package, watch=exporter.watched, ready=shows(exporter, settings)))


def _certificate(settings: ExportersSettings) -> None:
    """Install the certificate that exporters and Prometheus use, or remove it where nothing needs it."""
    if needs_certificate(settings):
        account.present()
        internal(CERTIFICATE, settings.project, (settings.name,), owner=ACCOUNT)
    else:
        _no_certificate()
    if settings.over_tls:
        files.directory(WEB_CONFIG.rsplit("/", 1)[0])
        files.put(WEB_CONFIG, web_config())
    else:
        files.absent(WEB_CONFIG)


def has_toolkit(release: tuple[str, str]) -> bool:
    """Return whether nginx's exporter of a release, as of os-release, reads a web configuration."""
    known = release_of(*release)
    return known is None or known.exporter_toolkit


def _without(package: str) -> None:
    unit = f"{package}.service"
    units.absent(unit, file=False)
    files.absent(f"/etc/systemd/system/{unit}.d")
    packages.removed(f"exporters-{package.removeprefix('prometheus-')}", folders={"/etc/prometheus": ()})
    files.absent(f"/etc/default/{package}")


def _no_certificate() -> None:
    files.absent(CERTIFICATE)
    files.absent(f"{CERTIFICATE}.d")


def shows(exporter: Exporter, settings: ExportersSettings) -> str:
    """Return a shell command that succeeds when the exporter reports what it measures.

    Over TLS it presents the host's own certificate; the exporter's name is not checked here.
    """
    over_tls = settings.over_tls and exporter.port != BLACKBOX_PORT
    context = _CONTEXT if over_tls else "context = None"
    program = f"""
import ssl, urllib.request
{context}
url = "{"https" if over_tls else "http"}://127.0.0.1:{exporter.port}/metrics"
text = urllib.request.urlopen(url, timeout=5, context=context).read().decode()
assert any(line.startswith("{exporter.shows}") for line in text.splitlines()), "no {exporter.shows}"
"""
    return f"/usr/bin/python3 -c {shlex.quote(program)}"

"""Install Grafana: its package, its settings, and its dashboards, all from files."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand, deploy
from pyinfra.api.operation import OperationMeta

from deploys.grafana import package
from deploys.grafana.config import (
    CERTIFICATE,
    CONFIG,
    DASHBOARDS,
    DATASOURCES,
    ETC,
    GENERATED,
    PASSWORD,
    PROVIDER,
    PROVISIONING,
    datasources,
    provider,
)
from deploys.grafana.dashboards import dashboard_json
from deploys.grafana.panels import boards
from deploys.grafana.settings import GrafanaSettings
from deploys.ops import accounts, services, units
from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact
from deploys.ops.paths import data, files
from deploys.ops.programs import program
from deploys.ops.removal import removal
from deploys.ops.run_state import Change
from deploys.ops.services import Service
from deploys.ops.shell import script
from deploys.runtime import prune
from deploys.settings import purging, settings_of
from deploys.tls.deploy import internal

UNIT = "grafana-server"
ACCOUNT = "grafana"
OWNED: dict[str, Any] = {"owner": "root", "group": ACCOUNT, "mode": "0640"}
"""Owner and mode that every installation of the package gives all files in /etc/grafana."""


@deploy("Grafana")
def apply() -> None:
    """Install Grafana, which shows the dashboards to users with the password.

    Raise `ArtifactError` when the repository's key, or the package, cannot be read.
    """
    settings = settings_of("grafana", GrafanaSettings)
    package.installed(settings)
    if settings.open_to:
        internal(CERTIFICATE, settings.project, (settings.name, "127.0.0.1"), owner=ACCOUNT)
    else:
        _no_certificate()
    files.put(
        PASSWORD,
        settings.admin_password.get_secret_value(),
        secret=True,
        **OWNED,
    )
    files.template("grafana/grafana.ini", CONFIG, values(settings), **OWNED)
    files.put(DATASOURCES, datasources(settings), **OWNED)
    files.put(PROVIDER, provider(), **OWNED)
    files.directory(DASHBOARDS, group=ACCOUNT)
    shown = boards(settings.thresholds)
    for board in shown:
        # Read again every minute: no reason to restart.
        files.put(f"{DASHBOARDS}/{board.uid}.json", dashboard_json(board), **OWNED)
    prune.only(DASHBOARDS, {f"{board.uid}.json" for board in shown})
    services.converge(Service(UNIT, watch=reads(settings), ready=healthy(settings.url), timeout=120))
    _password(settings.url, name="Password of Grafana's admin")


@removal("Grafana")
def remove() -> None:
    """Remove Grafana. Its database (users and their work) stays with its account, unless purging."""
    units.absent(f"{UNIT}.service", file=False)
    package.removed({ETC: GENERATED})
    _no_certificate()
    files.absent(ETC, generated=GENERATED)
    files.absent("/var/log/grafana")
    own = {"/var/lib/grafana": "users and dashboards of Grafana"}
    data.kept_or_purged("grafana", own, unit=f"{UNIT}.service", user=ACCOUNT)
    if purging():
        accounts.absent(ACCOUNT)


def values(settings: GrafanaSettings) -> dict[str, object]:
    """Return the values of the template of grafana.ini."""
    return {
        "open": bool(settings.open_to),
        "port": settings.port,
        "certificate": CERTIFICATE,
        "password": PASSWORD,
        "provisioning": PROVISIONING,
    }


def reads(settings: GrafanaSettings) -> tuple[str, ...]:
    """Return the files that it reads when it starts."""
    pair = (f"{CERTIFICATE}/fullchain.pem", f"{CERTIFICATE}/privkey.pem") if settings.open_to else ()
    return (CONFIG, DATASOURCES, PROVIDER, *pair, *((package.STAMP,) if settings.package else ()))


def healthy(url: str) -> str:
    """Return a shell command that succeeds when Grafana and its database work."""
    return f'/usr/bin/python3 -c {shlex.quote(ASK)} {url}/api/health | grep -q \'"database": *"ok"\''


def _no_certificate() -> None:
    files.absent(CERTIFICATE)
    files.absent(f"{CERTIFICATE}.d")


class GrafanaLoginFact(Fact):
    """Whether Grafana accepts the password on the host; `None` when it cannot be asked."""

    def command(self, url: str) -> str:
        """Return a script that prints the status of an answer."""
        return f"/usr/bin/python3 -c {shlex.quote(ASK)} {url}/api/user {PASSWORD} 2>/dev/null || true"

    def process(self, output: list[str]) -> bool | None:
        """Return whether the status was 200; `None` without any."""
        first = output[0].strip() if output else ""
        return first != "refused" if first else None


@operation
def _set_password(url: str) -> Iterator[StringCommand]:
    if host.get_fact(GrafanaLoginFact, url=url) is False:
        record(Change("password of Grafana's admin", (), secret=True))
        yield script(
            'runuser -u grafana -- "$home/bin/grafana" cli --homepath "$home" --config "$config" '
            'admin reset-admin-password --password-from-stdin < "$password"',
            home="/usr/share/grafana",
            config=CONFIG,
            password=PASSWORD,
        )


def _password(url: str, **arguments: Any) -> OperationMeta:
    """Set the declared password, also later: the one in the settings applies at the first start only."""
    return _set_password(url, **arguments)


ASK = program("deploys/grafana/scripts/ask.py")

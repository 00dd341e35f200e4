"""An exporter of Debian's: a package whose unit reads its arguments from /etc/default. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from deploys.exporters.settings import BLACKBOX, NGINX, NODE, POSTGRES, ExportersSettings
from inventory.rules.nginx import STATUS_PORT

ACCOUNT = "prometheus"
"""Debian's packages of Prometheus share this user."""
TEXTFILES = "/var/lib/prometheus/node-exporter"
BLACKBOX_CONFIG = "/etc/prometheus/blackbox.yml"
CERTIFICATE = "/etc/clawd/monitoring"
"""Folder of this host's certificate; `ca.pem` in it is the authority that the probes check fronts by."""


@dataclass(frozen=True, slots=True)
class Exporter:
    """One exporter. Its unit has the name of its package."""

    package: str
    port: int
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    """Files besides those that every exporter has."""
    after: str = ""
    """A unit that should run before, and is waited for."""
    owner: str = "root"
    mode: str = "0644"
    """Of its arguments' file, as every installation of its package makes them."""
    shows: str = ""
    """A metric that it tells only when it reaches what it measures, or is at work."""

    @property
    def defaults(self) -> str:
        """Where its arguments stand."""
        return f"/etc/default/{self.package}"

    @property
    def drop_in(self) -> str:
        """What is ours about its unit."""
        return f"/etc/systemd/system/{self.package}.service.d/clawd.conf"

    @property
    def component(self) -> str:
        """Under which its package is remembered."""
        return f"exporters-{self.package.removeprefix('prometheus-')}"

    @property
    def watched(self) -> tuple[str, ...]:
        """All that it reads when it starts."""
        return (self.defaults, self.drop_in, *self.reads)


def exporters(settings: ExportersSettings) -> tuple[Exporter, ...]:
    """The exporters of a host, in the order in which they are installed."""
    found = [_node(settings.listen)]
    if settings.nginx:
        found.append(_nginx(settings.listen))
    if settings.database:
        found.append(_postgres(settings.listen))
    if settings.fronts:
        found.append(_blackbox(settings))
    return tuple(found)


ALL_PACKAGES = (
    "prometheus-node-exporter",
    "prometheus-nginx-exporter",
    "prometheus-postgres-exporter",
    "prometheus-blackbox-exporter",
)


def defaults_text(arguments: tuple[str, ...], environment: dict[str, str] | None = None) -> str:
    """A file of /etc/default: systemd takes ARGS apart at spaces, so that no argument may hold one."""
    assert not [argument for argument in arguments if set(argument) & set(" \"'\\$")], arguments
    lines = ["# Written by clawd-provision: changes by hand are undone."]
    lines += [f"{name}='{value}'" for name, value in (environment or {}).items()]
    return "\n".join((*lines, f"ARGS='{' '.join(arguments)}'")) + "\n"


def blackbox_config(settings: ExportersSettings) -> str:
    """blackbox.yml: a module for each front, since each may have a name of its own. JSON is YAML."""
    modules = {module_of(front.host): _module(settings, front.name) for front in settings.fronts}
    return json.dumps({"modules": modules}, indent=2) + "\n"


def module_of(front: str) -> str:
    """The name of the module that probes the nginx of host `front`."""
    return f"front_{front}"


def _module(settings: ExportersSettings, name: str) -> dict[str, object]:
    trust: dict[str, object] = {"server_name": name}
    match settings.trust:
        case "own":
            trust["ca_file"] = f"{CERTIFICATE}/ca.pem"
        case "nobody":
            trust["insecure_skip_verify"] = True
    http = {
        "valid_status_codes": [200],
        "fail_if_not_ssl": True,
        "follow_redirects": False,
        "headers": {"Host": name},
        "tls_config": trust,
    }
    return {"prober": "http", "timeout": "8s", "http": http}


def _node(listen: str) -> Exporter:
    arguments = (
        f"--web.listen-address={listen}:{NODE}",
        f"--collector.textfile.directory={TEXTFILES}",
    )
    return Exporter("prometheus-node-exporter", NODE, arguments, shows="node_memory_MemTotal_bytes")


def _nginx(listen: str) -> Exporter:
    arguments = (
        f"--web.listen-address={listen}:{NGINX}",
        f"--nginx.scrape-uri=http://127.0.0.1:{STATUS_PORT}/nginx_status",
    )
    return Exporter("prometheus-nginx-exporter", NGINX, arguments, after="nginx.service", shows="nginx_up 1")


def _postgres(listen: str) -> Exporter:
    # By its own login over the socket: PostgreSQL asks the kernel who it is, and there is no password.
    source = {"DATA_SOURCE_NAME": f"user={ACCOUNT} host=/run/postgresql dbname=postgres"}
    return Exporter(
        "prometheus-postgres-exporter",
        POSTGRES,
        (f"--web.listen-address={listen}:{POSTGRES}",),
        source,
        after="postgresql.service",
        owner=ACCOUNT,
        mode="0640",
        shows="pg_up 1",
    )


def _blackbox(settings: ExportersSettings) -> Exporter:
    arguments = (f"--web.listen-address=127.0.0.1:{BLACKBOX}", f"--config.file={BLACKBOX_CONFIG}")
    trusted = (f"{CERTIFICATE}/ca.pem",) if settings.trust == "own" else ()
    return Exporter(
        "prometheus-blackbox-exporter",
        BLACKBOX,
        arguments,
        reads=(BLACKBOX_CONFIG, *trusted),
        shows="blackbox_exporter_config_last_reload_successful 1",
    )

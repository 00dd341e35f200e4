"""An exporter from Debian: a package whose unit reads its arguments from /etc/default. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from deploys.exporters.settings import ExportersSettings
from deploys.metrics import SHOWN
from deploys.topology.addresses import bracketed
from deploys.topology.certificates import CERTIFICATE_FOLDERS
from deploys.topology.monitoring import BLACKBOX_PORT, NGINX_PORT, NODE_PORT, POSTGRES_PORT
from inventory.rules.nginx import STATUS_PORT

ACCOUNT = "prometheus"
"""Debian's packages of Prometheus share this user."""
BLACKBOX_CONFIG = "/etc/prometheus/blackbox.yml"
CERTIFICATE = CERTIFICATE_FOLDERS["exporters"]
"""Folder of this host's certificate, by which monitoring host and exporters know each other; `ca.pem` in it
is the authority that the probes check fronts by, too."""
WEB_CONFIG = "/etc/prometheus/clawd-web.yml"
"""TLS of exporters: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md"""
CERTIFICATE_FILES = tuple(f"{CERTIFICATE}/{name}" for name in ("fullchain.pem", "privkey.pem", "ca.pem"))


@dataclass(frozen=True, slots=True)
class Exporter:
    """One exporter. Its unit has the name of its package."""

    package: str
    port: int
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    """Files in addition to those that every exporter has."""
    after: str = ""
    """A unit that has to be started first."""
    owner: str = "root"
    mode: str = "0644"
    """Mode of the file with its arguments, as every installation of its package sets it."""
    shows: str = ""
    """A metric that it reports only when it reaches what it measures, or works."""

    @property
    def defaults(self) -> str:
        """Return the path of the file with its arguments."""
        return f"/etc/default/{self.package}"

    @property
    def drop_in(self) -> str:
        """Return the path of our drop-in for its unit."""
        return f"/etc/systemd/system/{self.package}.service.d/clawd.conf"

    @property
    def component(self) -> str:
        """Return the component under which its package is recorded."""
        return f"exporters-{self.package.removeprefix('prometheus-')}"

    @property
    def watched(self) -> tuple[str, ...]:
        """Return all files that it reads when it starts."""
        return (self.defaults, self.drop_in, *self.reads)


def exporters(settings: ExportersSettings, *, toolkit: bool = True) -> tuple[Exporter, ...]:
    """Return the exporters of a host, in the order in which they are installed.

    `toolkit` says whether nginx's exporter reads `WEB_CONFIG`; older ones have options of their own for TLS,
    and cannot ask the client for a certificate.
    """
    found = [_node(settings)]
    if settings.nginx:
        found.append(_nginx(settings, toolkit=toolkit))
    if settings.database:
        found.append(_postgres(settings))
    if settings.fronts:
        found.append(_blackbox(settings))
    return tuple(found)


def needs_certificate(settings: ExportersSettings) -> bool:
    """Return whether a certificate of this host is needed: as server, as client, or to check fronts."""
    probes = bool(settings.fronts) and settings.trust == "own"
    return settings.over_tls or settings.client or probes


def web_config() -> str:
    """Return clawd-web.yml: exporters answer only clients with a certificate of the project. JSON is YAML."""
    chain, key, authority = CERTIFICATE_FILES
    server = {
        "cert_file": chain,
        "key_file": key,
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca_file": authority,
        "min_version": "TLS13",
    }
    return json.dumps({"tls_server_config": server}, indent=2) + "\n"


ALL_PACKAGES = (
    "prometheus-node-exporter",
    "prometheus-nginx-exporter",
    "prometheus-postgres-exporter",
    "prometheus-blackbox-exporter",
)


def defaults_text(arguments: tuple[str, ...], environment: dict[str, str] | None = None) -> str:
    """Return a file of /etc/default: systemd splits ARGS at spaces, so no argument may contain one."""
    assert not [argument for argument in arguments if set(argument) & set(" \"'\\$")], arguments
    lines = ["# Written by clawd-provision: changes by hand are undone."]
    lines += [f"{name}='{value}'" for name, value in (environment or {}).items()]
    return "\n".join((*lines, f"ARGS='{' '.join(arguments)}'")) + "\n"


def blackbox_config(settings: ExportersSettings) -> str:
    """Return blackbox.yml: a module for each front, since each may have its own name. JSON is YAML."""
    modules = {module_of(front.host): _module(settings, front.name) for front in settings.fronts}
    return json.dumps({"modules": modules}, indent=2) + "\n"


def module_of(front: str) -> str:
    """Return the name of the module that probes the nginx of host `front`."""
    return f"front_{front}"


def _module(settings: ExportersSettings, name: str) -> dict[str, object]:
    trust: dict[str, object] = {"server_name": name}
    match settings.trust:
        case "own":
            trust["ca_file"] = f"{CERTIFICATE}/ca.pem"
        case "unknown":
            trust["insecure_skip_verify"] = True
    http = {
        "valid_status_codes": [200],
        "fail_if_not_ssl": True,
        "follow_redirects": False,
        "headers": {"Host": bracketed(name)},
        "tls_config": trust,
    }
    return {"prober": "http", "timeout": "8s", "http": http}


def _secured(settings: ExportersSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the arguments by which an exporter uses TLS, and the files that it then reads."""
    if not settings.over_tls:
        return (), ()
    return (f"--web.config.file={WEB_CONFIG}",), (WEB_CONFIG, *CERTIFICATE_FILES)


def _node(settings: ExportersSettings) -> Exporter:
    secured, reads = _secured(settings)
    arguments = (
        f"--web.listen-address={settings.listen}:{NODE_PORT}",
        f"--collector.textfile.directory={SHOWN}",
        *secured,
    )
    return Exporter(
        "prometheus-node-exporter", NODE_PORT, arguments, reads=reads, shows="node_memory_MemTotal_bytes"
    )


def _nginx(settings: ExportersSettings, *, toolkit: bool) -> Exporter:
    secured, reads = _secured(settings)
    if secured and not toolkit:
        chain, key, _ = reads = CERTIFICATE_FILES
        secured = ("--web.secured-metrics", f"--web.ssl-server-cert={chain}", f"--web.ssl-server-key={key}")
    arguments = (
        f"--web.listen-address={settings.listen}:{NGINX_PORT}",
        f"--nginx.scrape-uri=http://127.0.0.1:{STATUS_PORT}/nginx_status",
        *secured,
    )
    return Exporter(
        "prometheus-nginx-exporter",
        NGINX_PORT,
        arguments,
        reads=reads,
        after="nginx.service",
        shows="nginx_up 1",
    )


def _postgres(settings: ExportersSettings) -> Exporter:
    secured, reads = _secured(settings)
    # By its own login over the socket: the kernel identifies it to PostgreSQL, and there is no password.
    source = {"DATA_SOURCE_NAME": f"user={ACCOUNT} host=/run/postgresql dbname=postgres"}
    return Exporter(
        "prometheus-postgres-exporter",
        POSTGRES_PORT,
        (f"--web.listen-address={settings.listen}:{POSTGRES_PORT}", *secured),
        source,
        reads=reads,
        after="postgresql.service",
        owner=ACCOUNT,
        mode="0640",
        shows="pg_up 1",
    )


def _blackbox(settings: ExportersSettings) -> Exporter:
    arguments = (f"--web.listen-address=127.0.0.1:{BLACKBOX_PORT}", f"--config.file={BLACKBOX_CONFIG}")
    trusted = (f"{CERTIFICATE}/ca.pem",) if settings.trust == "own" else ()
    return Exporter(
        "prometheus-blackbox-exporter",
        BLACKBOX_PORT,
        arguments,
        reads=(BLACKBOX_CONFIG, *trusted),
        shows="blackbox_exporter_config_last_reload_successful 1",
    )

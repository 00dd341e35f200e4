"""Install Kibana over TLS, on loopback unless networks are declared, with its own token for Elasticsearch."""

from __future__ import annotations

from pyinfra.api import deploy

from deploys.elastic import api
from deploys.elastic import packages as elastic
from deploys.elastic.api import Call, ElasticServer
from deploys.elastic.settings import mebibytes
from deploys.kibana.objects import ADMIN, TOKEN, saved, token
from deploys.kibana.settings import KibanaSettings
from deploys.ops import accounts, services, units
from deploys.ops.paths import data, files
from deploys.ops.removal import removal
from deploys.ops.services import Service
from deploys.settings import settings_of
from deploys.tls.deploy import internal
from deploys.topology.addresses import bracketed
from deploys.topology.certificates import CERTIFICATE_FOLDERS
from deploys.topology.logs import ELASTICSEARCH_PORT, KIBANA_PORT, certificate_names

NAME = "kibana"
ETC = "/etc/kibana"
GENERATED = ("kibana.keystore*", ".kibana.keystore*")
"""Files that its package generates in it."""
CONFIG = f"{ETC}/kibana.yml"
TLS = CERTIFICATE_FOLDERS["kibana"]
CA = f"{TLS}/ca.pem"
DROP_IN = "/etc/systemd/system/kibana.service.d"
SECRETS = "/etc/clawd/kibana"
ENVIRONMENT = f"{SECRETS}/environment"
READS = (
    CONFIG,
    f"{TLS}/fullchain.pem",
    f"{TLS}/privkey.pem",
    CA,
    TOKEN,
    ENVIRONMENT,
    f"{DROP_IN}/clawd.conf",
)
DATA = "/var/lib/kibana"
SERVER = ElasticServer(KIBANA_PORT, CA)
AVAILABLE = api.holds(
    SERVER, Call("GET", "/api/status", ADMIN), 'body["status"]["overall"]["level"] == "available"'
)
"""Succeeds when Kibana serves."""


@deploy("Kibana")
def apply() -> None:
    """Install a Kibana that reads the lines, with initial data views and searches."""
    settings = settings_of(NAME, KibanaSettings)
    elastic.installed(NAME, settings.packages)
    files.directory(ETC, group=NAME, mode="2750")
    internal(TLS, settings.project, certificate_names(settings.address), owner=NAME)
    files.directory("/etc/clawd")
    files.directory(SECRETS, mode="0700")
    files.put(ADMIN, f"elastic:{settings.password.get_secret_value()}\n", mode="0600", secret=True)
    api.stored(ElasticServer(ELASTICSEARCH_PORT, CA), (token(settings.node),), name="Token of Kibana")
    files.put(ENVIRONMENT, environment(settings), mode="0600", secret=True)
    files.template("kibana/kibana.yml", CONFIG, values(settings), group=NAME, mode="0660")
    files.directory(DROP_IN)
    files.template("kibana/service.conf", f"{DROP_IN}/clawd.conf", values(settings))
    files.directory(DATA, owner=NAME, group=NAME, mode="2750")
    elastic.settled_owner(DATA, NAME)
    services.converge(Service(NAME, watch=READS, ready=AVAILABLE, timeout=300))
    api.stored(SERVER, saved(), name="Data views and searches")


@removal("Kibana")
def remove() -> None:
    """Remove Kibana. Its saved objects are in Elasticsearch, and stay there with the lines."""
    units.absent(f"{NAME}.service", file=False)
    elastic.removed(NAME, GENERATED)
    files.absent(ETC, generated=GENERATED)
    for path in (DROP_IN, SECRETS, "/var/log/kibana", "/usr/share/kibana", "/run/kibana"):
        files.absent(path)
    data.kept_or_purged(NAME, {DATA: "Kibana's working files"}, unit=f"{NAME}.service")
    accounts.absent(NAME)


def values(settings: KibanaSettings) -> dict[str, object]:
    """Return the values of the templates."""
    return {
        "node": settings.node,
        "port": KIBANA_PORT,
        "open": bool(settings.sources),
        "public": bracketed(settings.address),
        "elasticsearch": settings.elasticsearch,
        "keys": tuple(settings.keys),
        "heap": mebibytes(settings.heap),
        "tls": TLS,
        "token": TOKEN,
        "environment": ENVIRONMENT,
    }


def environment(settings: KibanaSettings) -> str:
    """Return the file that systemd passes to Kibana only: its keys, in the order of names in kibana.yml."""
    return "".join(
        f"CLAWD_KEY_{number}={key.get_secret_value()}\n"
        for number, key in enumerate(settings.keys.values(), 1)
    )

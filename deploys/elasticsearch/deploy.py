"""Install Elasticsearch: secured before its first start, alone or one of three nodes."""

from __future__ import annotations

from pyinfra import host
from pyinfra.api import deploy

from deploys.elastic import api
from deploys.elastic import packages as elastic
from deploys.elastic.api import ElasticServer
from deploys.elasticsearch.health import as_well_as_before, before_leaving, in_a_cluster
from deploys.elasticsearch.host import (
    FORMED,
    FORMED_NOTE,
    MAP_COUNT,
    SYSCTL,
    HostMemoryFact,
    founded,
    map_count,
)
from deploys.elasticsearch.keystore import KEYSTORE, RECORD, bootstrap_password
from deploys.elasticsearch.objects import ADMIN, READER, WRITER, wanted
from deploys.elasticsearch.settings import ElasticsearchSettings, heap_for
from deploys.ops import accounts, services, units
from deploys.ops.paths import data, files
from deploys.ops.removal import removal
from deploys.ops.services import Service
from deploys.settings import purging, settings_of
from deploys.tls.deploy import internal
from deploys.topology.addresses import bracketed
from deploys.topology.certificates import CERTIFICATE_FOLDERS
from deploys.topology.logs import ELASTICSEARCH_PORT, TRANSPORT_PORT, certificate_names
from inventory.errors import HostError
from inventory.values import MIB

NAME = "elasticsearch"
ETC = "/etc/elasticsearch"
CONFIG = f"{ETC}/elasticsearch.yml"
GENERATED = ("elasticsearch.keystore*", ".elasticsearch.keystore*", "certs/*")
"""Files that its package generates in it."""
JVM = f"{ETC}/jvm.options.d/clawd.options"
TLS = CERTIFICATE_FOLDERS["elasticsearch"]
CA = f"{TLS}/ca.pem"
READS = (CONFIG, JVM, KEYSTORE, f"{TLS}/fullchain.pem", f"{TLS}/privkey.pem")
DROP_IN = "/etc/systemd/system/elasticsearch.service.d"
LOGINS = "/etc/clawd/elasticsearch"
DATA = "/var/lib/elasticsearch"
SERVER = ElasticServer(ELASTICSEARCH_PORT, CA)
SECONDS = 600
"""Longest wait for a node, for the others to join it, and for its copies of shards to be in sync again."""


@deploy("Elasticsearch")
def apply() -> None:
    """Install a node; on the first host also the policies, templates, roles and users.

    Raise `HostError` when the declared heap is more than half of the host's memory.
    """
    settings = settings_of(NAME, ElasticsearchSettings)
    machine = host.get_fact(HostMemoryFact)
    config = files.render("elasticsearch/elasticsearch.yml", values(settings, maps_files=machine.maps_files))
    if not elastic.is_installed(NAME):
        # Its package configures security when it is installed, unless it finds a configuration.
        files.directory(ETC)
        files.put(CONFIG, config, name="Settings before the package")
    elastic.installed(NAME, settings.packages)
    files.directory(ETC, group=NAME, mode="2750")
    files.directory(f"{ETC}/jvm.options.d", group=NAME, mode="2750")
    files.put(CONFIG, config, group=NAME, mode="0660")
    _memory(settings, machine.memory)
    if machine.maps_files:
        files.template("elasticsearch/sysctl.conf", SYSCTL, {"count": MAP_COUNT})
        map_count(machine)
    else:
        files.absent(SYSCTL)
    internal(TLS, settings.project, certificate_names(settings.address), owner=NAME)
    bootstrap_password(settings.password)
    _logins(settings)
    files.directory(DATA, owner=NAME, group=NAME, mode="2750")
    elastic.settled_owner(DATA, NAME)
    files.directory(DROP_IN)
    files.template("elasticsearch/service.conf", f"{DROP_IN}/clawd.conf", {})
    if settings.leads and not settings.alone:
        founded(CONFIG, settings.node, in_a_cluster(SERVER), founded_elsewhere(settings))
    services.converge(
        Service(
            NAME, watch=READS, before=before_leaving(SERVER), ready=as_well_as_before(SERVER), timeout=SECONDS
        )
    )
    if settings.leads:
        files.put(FORMED, FORMED_NOTE)
        api.stored(SERVER, wanted(settings), name="Policies, templates, roles and users")


@removal("Elasticsearch")
def remove() -> None:
    """Remove Elasticsearch and its configuration. The lines stay, unless purging."""
    units.absent(f"{NAME}.service", file=False)
    elastic.removed(NAME, GENERATED)
    files.absent(ETC, generated=GENERATED)
    for path in (DROP_IN, LOGINS, "/var/log/elasticsearch", "/usr/share/elasticsearch", SYSCTL, RECORD):
        files.absent(path)
    data.kept_or_purged(NAME, {DATA: "log lines"}, unit=f"{NAME}.service")
    if purging():
        files.absent(FORMED)
    accounts.absent(NAME)


def values(settings: ElasticsearchSettings, *, maps_files: bool) -> dict[str, object]:
    """Return the values of the template of elasticsearch.yml."""
    return {
        "project": settings.project,
        "node": settings.node,
        "address": settings.address,
        "alone": settings.alone,
        "nodes": [{"seed": f"{bracketed(node.address)}:{TRANSPORT_PORT}"} for node in settings.nodes],
        "http_port": ELASTICSEARCH_PORT,
        "transport_port": TRANSPORT_PORT,
        "maps_files": maps_files,
    }


def founded_elsewhere(settings: ElasticsearchSettings) -> str:
    """Return a shell command that succeeds when one of the other nodes belongs to a cluster."""
    others = (node.address for node in settings.nodes if node.name != settings.node)
    return " || ".join(in_a_cluster(ElasticServer(SERVER.port, SERVER.ca, address)) for address in others)


def _memory(settings: ElasticsearchSettings, memory: int) -> None:
    try:
        heap = heap_for(memory, settings.heap)
    except ValueError as error:
        raise HostError(
            f"{host.name}: `logs.elasticsearch_heap` {error}",
            advice="lower it, or leave it out for a quarter; the index needs the other half for its pages",
        ) from error
    files.template("elasticsearch/jvm.options", JVM, {"heap": heap // MIB}, group=NAME, mode="0660")


def _logins(settings: ElasticsearchSettings) -> None:
    """Write the logins for the calls from this host. Every node checks its health as `elastic`."""
    files.directory("/etc/clawd")
    files.directory(LOGINS, mode="0700")
    files.put(ADMIN, login("elastic", settings.password.get_secret_value()), mode="0600", secret=True)
    if not settings.leads:
        return
    writer = login("clawd_logstash", settings.writer_password.get_secret_value())
    files.put(WRITER, writer, mode="0600", secret=True)
    if settings.reader_password is not None:
        reader = login("clawd", settings.reader_password.get_secret_value())
        files.put(READER, reader, mode="0600", secret=True)
    else:
        files.absent(READER)


def login(user: str, password: str) -> str:
    """Return the content of a file with a login."""
    return f"{user}:{password}\n"

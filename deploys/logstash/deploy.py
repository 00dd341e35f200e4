"""Install Logstash: it takes lines from Filebeat over mutual TLS, parses them, and adds them to streams."""

from __future__ import annotations

import re
import shlex

from pyinfra.api import deploy

from deploys.elastic import packages as elastic
from deploys.elastic.settings import mebibytes
from deploys.logstash.settings import QUEUE, LogstashSettings
from deploys.ops import accounts, services, units
from deploys.ops.paths import data, files
from deploys.ops.programs import program
from deploys.ops.removal import removal
from deploys.ops.services import Service
from deploys.ops.shell import checking
from deploys.settings import settings_of
from deploys.tls.deploy import internal
from deploys.topology.certificates import CERTIFICATE_FOLDERS
from deploys.topology.logs import BEATS_PORT, LOGSTASH_API_PORT, certificate_names, filebeat_subject
from inventory.values import MIB

NAME = "logstash"
ETC = "/etc/logstash"
SETTINGS = f"{ETC}/logstash.yml"
PIPELINES = f"{ETC}/pipelines.yml"
PIPELINE = f"{ETC}/conf.d/clawd.conf"
TLS = CERTIFICATE_FOLDERS["logstash"]
DROP_IN = "/etc/systemd/system/logstash.service.d"
SECRETS = "/etc/clawd/logstash"
ENVIRONMENT = f"{SECRETS}/environment"
READS = (
    SETTINGS,
    PIPELINES,
    PIPELINE,
    f"{TLS}/fullchain.pem",
    f"{TLS}/privkey.pem",
    f"{TLS}/ca.pem",
    ENVIRONMENT,
    f"{DROP_IN}/clawd.conf",
)
DATA = "/var/lib/logstash"


@deploy("Logstash")
def apply() -> None:
    """Install a Logstash that takes lines from every Filebeat with a certificate of our authority."""
    settings = settings_of(NAME, LogstashSettings)
    elastic.installed(NAME, settings.packages)
    files.directory(f"{ETC}/conf.d")
    files.template("logstash/logstash.yml", SETTINGS, values(settings))
    files.template("logstash/pipelines.yml", PIPELINES, values(settings))
    internal(TLS, settings.project, certificate_names(settings.address), owner=NAME)
    files.template("logstash/clawd.conf", PIPELINE, values(settings), check=ACCEPTED)
    files.directory("/etc/clawd")
    files.directory(SECRETS, mode="0700")
    files.put(ENVIRONMENT, environment(settings), mode="0600", secret=True)
    files.directory(DROP_IN)
    files.template("logstash/service.conf", f"{DROP_IN}/clawd.conf", values(settings))
    files.directory(DATA, owner=NAME, group=NAME)
    elastic.settled_owner(DATA, NAME)
    services.converge(Service(NAME, watch=READS, ready=TAKES_LINES, timeout=300))


@removal("Logstash")
def remove() -> None:
    """Remove Logstash. Lines that Elasticsearch has not taken stay in its queue, unless purging."""
    units.absent(f"{NAME}.service", file=False)
    elastic.removed(NAME)
    for path in (DROP_IN, ETC, SECRETS, "/var/log/logstash", "/usr/share/logstash"):
        files.absent(path)
    data.kept_or_purged(NAME, {DATA: "log lines that Elasticsearch has not taken"}, unit=f"{NAME}.service")
    accounts.absent(NAME)


def values(settings: LogstashSettings) -> dict[str, object]:
    """Return the values of the templates."""
    return {
        "node": settings.node,
        "elasticsearch": settings.elasticsearch,
        "time_zone": settings.time_zone,
        "heap": mebibytes(settings.heap),
        "queue": QUEUE // MIB,
        "beats_port": BEATS_PORT,
        "api_port": LOGSTASH_API_PORT,
        "pipeline": PIPELINE,
        "tls": TLS,
        "subject_prefix": re.escape(filebeat_subject("")),
        "lines": [f"{node} clawd.{dataset}" for node, sends in settings.senders.items() for dataset in sends],
        "environment": ENVIRONMENT,
    }


def environment(settings: LogstashSettings) -> str:
    """Return the file from which systemd passes the password to Logstash only."""
    return f"CLAWD_ELASTICSEARCH_PASSWORD={settings.password.get_secret_value()}\n"


ACCEPTED = checking(program("deploys/logstash/scripts/accepted.sh"))
_TAKES_LINES = f"""
import json, socket, urllib.request
asked = "http://127.0.0.1:{LOGSTASH_API_PORT}/_node/pipelines/clawd"
with urllib.request.urlopen(asked, timeout=5) as answer:
    assert "clawd" in json.load(answer)["pipelines"], "the pipeline does not run"
socket.create_connection(("127.0.0.1", {BEATS_PORT}), timeout=5).close()
"""
TAKES_LINES = f"/usr/bin/python3 -c {shlex.quote(_TAKES_LINES)}"
"""Succeeds when the pipeline runs and Filebeat's port is open."""

"""Install Filebeat: it sends the lines of journal and nginx to Logstash over mutual TLS."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import deploy

from deploys.elastic import packages as elastic
from deploys.elastic.datasets import Dataset
from deploys.filebeat.settings import FilebeatSettings
from deploys.ops import services, units
from deploys.ops.paths import data, files
from deploys.ops.removal import removal
from deploys.ops.services import Service
from deploys.runtime.journal import NAMESPACE, MachineIdFact
from deploys.settings import settings_of
from deploys.tls.deploy import internal
from deploys.topology.certificates import CERTIFICATE_FOLDERS
from deploys.topology.logs import certificate_names, filebeat_subject

NAME = "filebeat"
ETC = "/etc/filebeat"
CONFIG = f"{ETC}/filebeat.yml"
TLS = CERTIFICATE_FOLDERS["filebeat"]
READS = (CONFIG, f"{TLS}/fullchain.pem", f"{TLS}/privkey.pem", f"{TLS}/ca.pem")
DATA = "/var/lib/filebeat"


@dataclass(frozen=True, slots=True)
class Input:
    """The source of the lines of one data set: a unit or names in the journal, or a file."""

    dataset: Dataset
    type: str = "journald"
    unit: str = ""
    namespace: str = ""
    """Namespace of the journal; the host's own when empty."""
    identifiers: tuple[str, ...] = ()
    path: str = ""


INPUTS = (
    Input("bot", unit="clawd-bot.service", namespace=NAMESPACE),
    Input("engine", unit="clawd-engine.service"),
    Input("nginx_access", "filestream", path="/var/log/nginx/access.log"),
    Input("nginx_error", "filestream", path="/var/log/nginx/error.log"),
    # Since OpenSSH 9.8, in Debian 13 and Ubuntu 26.04, a program of its own logs sessions.
    Input("audit", identifiers=("sshd", "sshd-session", "sudo", "su", "login")),
)


@deploy("Filebeat")
def apply() -> None:
    """Install a Filebeat that sends the host's log lines."""
    settings = settings_of(NAME, FilebeatSettings)
    elastic.installed(NAME, settings.packages)
    subject = filebeat_subject(settings.node)
    internal(TLS, settings.project, certificate_names(settings.address), owner="root", subject=subject)
    rendered = values(settings, host.get_fact(MachineIdFact))
    files.template("filebeat/filebeat.yml", CONFIG, rendered, mode="0600", check=ACCEPTED)
    services.converge(Service(NAME, watch=READS))


@removal("Filebeat")
def remove() -> None:
    """Remove Filebeat. Its read positions stay, unless purging: nothing is sent twice later."""
    units.absent(f"{NAME}.service", file=False)
    elastic.removed(NAME)
    for path in (ETC, "/var/log/filebeat", "/usr/share/filebeat"):
        files.absent(path)
    data.kept_or_purged(NAME, {DATA: "how far Filebeat has read"}, unit=f"{NAME}.service")


def values(settings: FilebeatSettings, machine: str) -> dict[str, object]:
    """Return the values of the template."""
    return {
        "node": settings.node,
        "inputs": [item for item in INPUTS if item.dataset in settings.datasets],
        "journals": f"/var/log/journal/{machine}",
        "logstash": settings.logstash,
        "tls": TLS,
    }


ACCEPTED = "filebeat test config -c {}"

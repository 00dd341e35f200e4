"""Report the expiry of services' certificates, which only `up` renews, in the node exporter's text files.

The key of their authority never leaves the laptop, so a host can only report in time that `up` has to be run.
The certificate of nginx has a program of its own, see deploys/tls/renewal.py.
"""

from __future__ import annotations

from deploys.database.deploy import TLS as DATABASE
from deploys.elasticsearch.deploy import TLS as ELASTICSEARCH
from deploys.exporters.exporter import CERTIFICATE as MONITORING
from deploys.exporters.gpu import COMPILES
from deploys.filebeat.deploy import TLS as FILEBEAT
from deploys.grafana.config import CERTIFICATE as GRAFANA
from deploys.kibana.deploy import TLS as KIBANA
from deploys.logstash.deploy import TLS as LOGSTASH
from deploys.metrics import TEXTFILES
from deploys.nginx.deploy import INTERNAL as NGINX
from deploys.ops import services, units
from deploys.ops.paths import files
from deploys.ops.services import Service
from deploys.runtime.settings import INTERNAL as BOT
from deploys.tls.renewal import METRICS as NGINX_METRICS
from deploys.tls.renewal import PROGRAM as NGINX_PROGRAM

FOLDERS = {
    "database": DATABASE,
    "elasticsearch": ELASTICSEARCH,
    "exporters": MONITORING,
    "filebeat": FILEBEAT,
    "grafana": GRAFANA,
    "kibana": KIBANA,
    "logstash": LOGSTASH,
    "nginx": NGINX,
    "runtime": BOT,
}
"""Those of every component that uses `deploys.tls.deploy.internal`; a host has some of them."""
METRIC = "clawd_certificate_not_after_seconds"
FOLDER = "/usr/local/lib/clawd"
PROGRAM = f"{FOLDER}/certificate-metrics"
OUTPUT = f"{TEXTFILES}/clawd_certificates.prom"
TIMER, SERVICE = "clawd-certificate-metrics.timer", "clawd-certificate-metrics.service"
UNITS = "/etc/systemd/system"
FILES = (PROGRAM, f"{UNITS}/{SERVICE}", f"{UNITS}/{TIMER}")
VALUES = {"program": PROGRAM, "output": OUTPUT, "folder": TEXTFILES, "folders": FOLDERS}

# nginx's program writes the expiry only where the folder exists: it runs once here, later by its timer.
READY = (
    f"test -f {OUTPUT} && {{ [ ! -x {NGINX_PROGRAM} ] || [ -f {NGINX_METRICS} ] || {NGINX_PROGRAM} tell; }}"
)


def reported() -> None:
    """Write every hour when the certificates expire."""
    files.directory(FOLDER)
    files.template("exporters/certificate-metrics", PROGRAM, {}, check=COMPILES)
    for unit in (SERVICE, TIMER):
        files.template(f"exporters/{unit}", f"{UNITS}/{unit}", VALUES)
    services.converge(Service(TIMER, watch=FILES, ready=READY))


def absent() -> None:
    """Remove timer, program and what it wrote."""
    units.absent(TIMER)
    units.absent(SERVICE)
    files.absent(PROGRAM)
    files.absent(OUTPUT)

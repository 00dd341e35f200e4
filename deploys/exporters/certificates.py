"""Report the expiry of services' certificates, which only `up` renews, in the node exporter's text files.

The key of their authority never leaves the laptop, so a host can only report in time that `up` has to be run.
The certificate of nginx has a program of its own, see deploys/tls/renewal.py.
"""

from __future__ import annotations

from deploys.exporters.gpu import COMPILES
from deploys.metrics import TEXTFILES
from deploys.ops import services, units
from deploys.ops.paths import files
from deploys.ops.services import Service
from deploys.tls.renewal import METRICS as NGINX_METRICS
from deploys.tls.renewal import PROGRAM as NGINX_PROGRAM
from deploys.topology.certificates import CERTIFICATE_FOLDERS

METRIC = "clawd_certificate_not_after_seconds"
FOLDER = "/usr/local/lib/clawd"
PROGRAM = f"{FOLDER}/certificate-metrics"
OUTPUT = f"{TEXTFILES}/clawd_certificates.prom"
TIMER, SERVICE = "clawd-certificate-metrics.timer", "clawd-certificate-metrics.service"
UNITS = "/etc/systemd/system"
FILES = (PROGRAM, f"{UNITS}/{SERVICE}", f"{UNITS}/{TIMER}")
VALUES = {"program": PROGRAM, "output": OUTPUT, "folder": TEXTFILES, "folders": CERTIFICATE_FOLDERS}

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

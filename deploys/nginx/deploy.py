"""nginx with one self-contained configuration, reloaded only when that or its certificate differs."""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import deploy

from deploys.nginx.settings import NginxSettings
from deploys.ops import files, packages, services, units
from deploys.ops.facts import PathFact
from deploys.settings import settings_of

CONFIG = "/etc/nginx/nginx.conf"
DROP_IN = "/etc/systemd/system/nginx.service.d/clawd.conf"
CERTIFICATE = "/etc/clawd/tls/fullchain.pem"
PRIVATE_KEY = "/etc/clawd/tls/privkey.pem"
READS = (CONFIG, CERTIFICATE, PRIVATE_KEY)
ACME_FOLDER = "/var/lib/clawd/acme"
STATUS_PORT = 8090


@deploy("nginx")
def apply() -> None:
    """nginx serving the webhooks, the console and the health check over TLS, and nothing else."""
    settings = settings_of("nginx", NginxSettings)
    packages.installed("nginx", "logrotate")
    files.directory(ACME_FOLDER)
    files.absent("/etc/nginx/sites-enabled/default")
    files.directory(DROP_IN.rsplit("/", 1)[0])
    files.template("nginx/service.conf", DROP_IN, {})
    ipv6 = host.get_fact(PathFact, path="/proc/net/if_inet6").kind == "file"
    files.template("nginx/nginx.conf", CONFIG, values(settings, ipv6=ipv6), check="nginx -t -q -c {}")
    services.converge(
        "nginx",
        inputs="",
        watch=READS,
        reload=True,
        ready=serves_its_certificate(settings.https_port),
    )


@deploy("Remove nginx")
def remove() -> None:
    """No nginx running or started at boot; Debian's package stays."""
    units.absent("nginx.service", file=False)
    files.absent(DROP_IN)


def values(settings: NginxSettings, *, ipv6: bool) -> dict[str, object]:
    """What the template of nginx.conf is rendered with. A burst is two seconds' worth of requests."""
    return {
        **settings.model_dump(),
        "burst": 2 * settings.requests_per_second,
        "status_port": STATUS_PORT,
        "ipv6": ipv6,
    }


def serves_its_certificate(port: int) -> str:
    """A shell command that succeeds when a TLS handshake shows the certificate that lies on the disk."""
    program = f"""
import ssl
end = "-----END CERTIFICATE-----"
leaf = open("{CERTIFICATE}").read().split(end)[0] + end
served = ssl.get_server_certificate(("127.0.0.1", {port}), timeout=5)
assert ssl.PEM_cert_to_DER_cert(served) == ssl.PEM_cert_to_DER_cert(leaf), "nginx serves another certificate"
"""
    return f"/usr/bin/python3 -c {shlex.quote(program)}"

"""nginx with one self-contained configuration, reloaded only when that or its certificate changes."""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import deploy

from deploys.nginx.settings import NginxSettings
from deploys.ops import services, units
from deploys.ops.debian import packages
from deploys.ops.facts import OsReleaseFact, PathFact
from deploys.ops.paths import files
from deploys.ops.programs import program
from deploys.ops.removal import removal
from deploys.ops.services import Service
from deploys.ops.shell import checking
from deploys.os_releases import release_of
from deploys.settings import settings_of
from deploys.tls.deploy import internal
from deploys.topology.addresses import bracketed
from deploys.topology.certificates import CERTIFICATE_FOLDERS, INTERNAL_BOT
from inventory.rules.nginx import STATUS_PORT

CONFIG = "/etc/nginx/nginx.conf"
FOLDER = "/etc/nginx/clawd"
UPSTREAMS = f"{FOLDER}/upstreams.conf"
PAGE = f"{FOLDER}/maintenance.html"
PROGRAM = "/usr/local/lib/clawd/upstream"
STATE = "/run/clawd-upstream"
DROP_IN = "/etc/systemd/system/nginx.service.d/clawd.conf"
CERTIFICATE = "/etc/clawd/tls/fullchain.pem"
PRIVATE_KEY = "/etc/clawd/tls/privkey.pem"
INTERNAL = CERTIFICATE_FOLDERS["nginx"]
"""Folder of the certificate that nginx shows to bots of other hosts."""
INTERNAL_FILES = tuple(f"{INTERNAL}/{name}" for name in ("fullchain.pem", "privkey.pem", "ca.pem"))
LOGROTATE = "/etc/logrotate.d/nginx"
LOG_SIZE, LOGS_KEPT = "50M", 14
"""The size at which a log is rotated, and how many old ones are kept; all but the newest are compressed."""
UNITS = "/etc/systemd/system"
LOG_UNITS = ("clawd-nginx-logs.service", "clawd-nginx-logs.timer")
LOG_FILES = (LOGROTATE, *(f"{UNITS}/{unit}" for unit in LOG_UNITS))
ACME_FOLDER = "/var/lib/clawd/acme"


@deploy("nginx")
def apply() -> None:
    """Install nginx, which serves webhooks, console and health check over TLS, and nothing else."""
    settings = settings_of("nginx", NginxSettings)
    packages.installed("nginx", "logrotate", component="nginx")
    files.directory(ACME_FOLDER)
    files.displaced("/etc/nginx/sites-enabled/default")
    files.directory(DROP_IN.rsplit("/", 1)[0])
    files.template("nginx/service.conf", DROP_IN, {})
    files.directory(FOLDER)
    files.directory(PROGRAM.rsplit("/", 1)[0])
    files.template("nginx/upstream.py", PROGRAM, {}, mode="0755", check=_IS_PYTHON)
    files.template("nginx/maintenance.html", PAGE, {})
    if settings.bots_over_tls:
        internal(INTERNAL, settings.project, (settings.name,), owner="root")
    ipv6 = host.get_fact(PathFact, path="/proc/net/if_inet6").kind == "file"
    rendered = values(
        settings, ipv6=ipv6, rejects_handshakes=rejects_handshakes(host.get_fact(OsReleaseFact))
    )
    # First the bots, which the other file refers to; each is checked together with the present other one.
    files.template("nginx/upstreams.conf", UPSTREAMS, rendered, check=_WITH_THE_REST)
    files.template("nginx/nginx.conf", CONFIG, rendered, check="nginx -t -q -c {}")
    services.converge(
        Service(
            "nginx", watch=reads(settings), reload=True, ready=serves_its_certificate(settings.https_port)
        )
    )
    if not settings.bots_over_tls:
        _no_internal_certificate()
    _logs()


def _logs() -> None:
    """Rotate nginx's logs by size as well as daily: strangers decide how much it writes."""
    rotation = {"size": LOG_SIZE, "kept": LOGS_KEPT}
    files.template("nginx/logrotate.conf", LOGROTATE, rotation, check="logrotate --debug {} 2>&1")
    for unit in LOG_UNITS:
        files.template(f"nginx/{unit}", f"{UNITS}/{unit}", {"config": LOGROTATE})
    services.converge(Service(LOG_UNITS[1], watch=LOG_FILES))


_IS_PYTHON = "python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' {}"
_WITH_THE_REST = checking(
    program("deploys/nginx/scripts/with_the_rest.sh"), upstreams=UPSTREAMS, config=CONFIG
)


@removal("nginx")
def remove() -> None:
    """Remove nginx and its files; the access logs are removed with the package.

    Sites and settings that users or other packages added to /etc/nginx stay.
    """
    for unit in reversed(LOG_UNITS):
        units.absent(unit)
    units.absent("nginx.service", file=False)
    packages.removed("nginx", folders={"/etc/nginx": ()})
    for path in (LOGROTATE, DROP_IN.rsplit("/", 1)[0], FOLDER, PROGRAM, STATE, ACME_FOLDER):
        files.absent(path)
    _no_internal_certificate()


def reads(settings: NginxSettings) -> tuple[str, ...]:
    """Return the files that nginx reads when it loads its configuration."""
    own = (CONFIG, UPSTREAMS, CERTIFICATE, PRIVATE_KEY)
    return (*own, *INTERNAL_FILES) if settings.bots_over_tls else own


def _no_internal_certificate() -> None:
    files.absent(INTERNAL)
    files.absent(f"{INTERNAL}.d")


def rejects_handshakes(release: tuple[str, str]) -> bool:
    """Return whether nginx of a release (of os-release) can refuse a TLS handshake: since 1.19.4."""
    known = release_of(*release)
    return known is None or tuple(map(int, known.nginx.split("."))) > (1, 19)


def values(settings: NginxSettings, *, ipv6: bool, rejects_handshakes: bool = True) -> dict[str, object]:
    """Return the values for the templates of nginx's configuration."""
    return {
        **settings.model_dump(),
        "names": [bracketed(name) for name in settings.names],
        "rejects_handshakes": rejects_handshakes,
        "status_port": STATUS_PORT,
        "ipv6": ipv6,
        "internal": INTERNAL,
        "bot_name": INTERNAL_BOT,
    }


def serves_its_certificate(port: int) -> str:
    """Return a shell command that succeeds when nginx presents the certificate that is on the disk."""
    program = f"""
import ssl
end = "-----END CERTIFICATE-----"
leaf = open("{CERTIFICATE}").read().split(end)[0] + end
served = ssl.get_server_certificate(("127.0.0.1", {port}), timeout=5)
assert ssl.PEM_cert_to_DER_cert(served) == ssl.PEM_cert_to_DER_cert(leaf), "nginx serves another certificate"
"""
    return f"/usr/bin/python3 -c {shlex.quote(program)}"

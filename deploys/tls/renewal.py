"""The program by which a host obtains and renews its certificate, and exports its expiry as a metric.

lego, from the distribution (4.9 in Debian 12 and 13), is the ACME client: one program that needs no Python
environment and supports about a hundred DNS providers. Our own program decides when to renew, by the fraction
of the lifetime that is left; lego's own `renew` counts days.
"""

from __future__ import annotations

import json
from typing import Any

from deploys.metrics import TEXTFILES
from deploys.ops import services, units
from deploys.ops.debian import packages
from deploys.ops.paths import files
from deploys.ops.services import Service
from deploys.tls.settings import AcmeSettings, TlsSettings

PROGRAM = "/usr/local/lib/clawd/certificate"
FOLDER = "/etc/clawd/acme"
CONFIG = f"{FOLDER}/config.json"
ENVIRONMENT = f"{FOLDER}/environment.json"
HOOK = f"{FOLDER}/dns-hook"
SERVER_AUTHORITY = f"{FOLDER}/authority.pem"
WEBROOT = "/var/lib/clawd/acme"
LEGO = "/var/lib/clawd/lego"
LOCK = "/var/lib/clawd/state/tls.lock"
METRICS = f"{TEXTFILES}/clawd_tls.prom"
UNITS = ("clawd-tls.service", "clawd-tls.timer")
READ_BY_NGINX = (
    "/etc/nginx/nginx.conf",
    "/etc/nginx/clawd/upstreams.conf",
    "/etc/clawd/tls/fullchain.pem",
    "/etc/clawd/tls/privkey.pem",
    "/etc/clawd/nginx-internal/fullchain.pem",
    "/etc/clawd/nginx-internal/privkey.pem",
    "/etc/clawd/nginx-internal/ca.pem",
)
"""Files in nginx's stamp (deploys/nginx/deploy.py): a renewal on the host is no difference for `up`."""
OBTAIN = f"exec {PROGRAM} obtain"

_IS_PYTHON = "python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' {}"


def program(settings: TlsSettings) -> None:
    """Install the program and its settings; for ACME also lego, and the files that answer challenges."""
    acme = settings.acme
    if acme:
        packages.installed("lego", component="tls")
        files.directory(WEBROOT)
    files.directory(PROGRAM.rsplit("/", 1)[0])
    files.template("tls/certificate.py", PROGRAM, {}, mode="0755", check=_IS_PYTHON)
    files.directory(FOLDER)
    _file(SERVER_AUTHORITY, acme.authority.read_bytes() if acme and acme.authority else None)
    _file(HOOK, acme.hook.read_bytes() if acme and acme.hook else None, mode="0700")
    secrets = {name: value.get_secret_value() for name, value in acme.environment.items()} if acme else {}
    text = json.dumps(secrets, indent=1, sort_keys=True).encode()
    _file(ENVIRONMENT, text if secrets else None, mode="0600", secret=True)
    files.put(CONFIG, json.dumps(config(settings), indent=1) + "\n")
    if not acme:
        packages.removed("tls")
        files.absent(LEGO)


def timer() -> None:
    """Install the timer that checks every hour whether a renewal is due."""
    for unit in UNITS:
        files.template(f"tls/{unit}", f"/etc/systemd/system/{unit}", {}, check="systemd-analyze verify {}")
    paths = tuple(f"/etc/systemd/system/{unit}" for unit in UNITS)
    services.converge(Service("clawd-tls.timer", watch=paths))


def absent() -> None:
    """Remove program, timer and lego, with its account at the authority."""
    for unit in reversed(UNITS):
        units.absent(unit)
    packages.removed("tls")
    for path in (PROGRAM, FOLDER, LEGO, LOCK, METRICS):
        files.absent(path)


def config(settings: TlsSettings) -> dict[str, Any]:
    """Return the program's settings, which contain no secret."""
    given: dict[str, Any] = {"mode": settings.mode}
    if settings.acme:
        given |= {"names": settings.names, "renew_fraction": settings.renew_fraction, **_acme(settings.acme)}
    return given


def _acme(acme: AcmeSettings) -> dict[str, Any]:
    return {
        "server": acme.server,
        "email": acme.email,
        "challenge": acme.challenge,
        "http_port": acme.http_port,
        "https_port": acme.https_port,
        "webroot": WEBROOT,
        "provider": acme.provider,
        "hook": HOOK if acme.hook else None,
        "resolvers": acme.resolvers,
        "check_propagation": acme.check_propagation,
        "authority": SERVER_AUTHORITY if acme.authority else None,
        "watched": READ_BY_NGINX,
    }


def _file(path: str, content: bytes | None, *, mode: str = "0644", secret: bool = False) -> None:
    if content is None:
        files.absent(path)
    else:
        files.put(path, content, mode=mode, secret=secret)

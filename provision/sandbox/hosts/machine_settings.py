"""Settings that hosts take over from this machine: package sources, proxy, certificates and name servers.

With these, apt and TLS work on a host as they do on this machine.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path

from provision.sandbox.commands import run

_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_OWN_CERTIFICATES = Path("/usr/local/share/ca-certificates")
_RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))


@dataclass(frozen=True, slots=True)
class MachineSettings:
    """The settings of this machine for its hosts.

    `archive` and `security` are the URLs of its Debian mirror, `None` without one; `apt_proxy` maps `http`
    and `https` to a proxy; `own_certificates` maps file names to PEM text, `certificates` is the whole
    bundle.
    """

    archive: str | None
    security: str | None
    apt_proxy: dict[str, str]
    name_servers: tuple[str, ...]
    own_certificates: dict[str, str]
    certificates: str | None


def read_machine(gateway: IPv4Address) -> MachineSettings:
    """Return the settings of this machine. `gateway` is its address for the hosts."""
    archive, security = mirrors(_index_targets())
    own = sorted(_OWN_CERTIFICATES.rglob("*.crt")) if _OWN_CERTIFICATES.is_dir() else []
    return MachineSettings(
        archive=archive,
        security=security,
        apt_proxy=reachable(proxies(run(["apt-config", "dump"]).stdout) or _proxies_of(os.environ), gateway),
        name_servers=name_servers(*(path.read_text() for path in _RESOLVERS if path.exists())),
        own_certificates={path.name: path.read_text() for path in own},
        certificates=_CERTIFICATES.read_text() if _CERTIFICATES.exists() else None,
    )


def _index_targets() -> str:
    wanted = "$(ORIGIN)|$(LABEL)|$(REPO_URI)"
    return run(["apt-get", "indextargets", "--format", wanted, "Created-By: Packages"]).stdout


def mirrors(targets: str) -> tuple[str | None, str | None]:
    """Return the mirrors of Debian and of its security updates from `ORIGIN|LABEL|REPO_URI` lines.

    Both are `None` unless both exist, because a local mirror cannot be combined with a public one.
    """
    found: dict[str, str] = {}
    for line in targets.splitlines():
        origin, label, address = line.split("|", 2)
        if origin == "Debian":
            found.setdefault(label, address.rstrip("/"))
    archive, security = found.get("Debian"), found.get("Debian-Security")
    return (archive, security) if archive and security else (None, None)


def proxies(apt_config: str) -> dict[str, str]:
    """Return the proxies in the output of `apt-config dump`."""
    lines = re.findall(r'^Acquire::(https?)::Proxy "([^"]+)";$', apt_config, re.MULTILINE | re.IGNORECASE)
    return {scheme.lower(): proxy for scheme, proxy in lines if proxy.upper() != "DIRECT"}


def _proxies_of(environment: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    names = {"http": ("http_proxy", "HTTP_PROXY"), "https": ("https_proxy", "HTTPS_PROXY")}
    found = {
        scheme: next((environment[n] for n in named if environment.get(n)), "")
        for scheme, named in names.items()
    }
    return {scheme: proxy for scheme, proxy in found.items() if proxy}


def reachable(proxy: dict[str, str], gateway: IPv4Address) -> dict[str, str]:
    """Return the proxies with this machine's address instead of loopback, which a host cannot reach."""
    return {
        scheme: re.sub(r"(?<=://)(localhost|127\.[\d.]+|\[::1\])", str(gateway), address)
        for scheme, address in proxy.items()
    }


def name_servers(*resolvers: str) -> tuple[str, ...]:
    """Return the name servers that a host can reach, from the first `resolv.conf` that has any."""
    for text in resolvers:
        found = re.findall(r"^\s*nameserver\s+([0-9.]+)\s*$", text, re.MULTILINE)
        usable = tuple(server for server in found if not ip_address(server).is_loopback)
        if usable:
            return usable
    return ()

"""Which certificate a host should have."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator

from deploys.component import ComponentSettings
from deploys.topology.addresses import canonical
from inventory.model import Inventory
from inventory.sections.tls import LETS_ENCRYPT
from inventory.types import Directory, HostAndPort, Mail

CURRENT = "/etc/clawd/tls"


class AcmeSettings(ComponentSettings):
    """How a host obtains its certificate from an ACME authority."""

    server: Directory = LETS_ENCRYPT
    authority: Path | None = Field(None, description="PEM file on the laptop by which `server` is verified.")
    email: Mail
    challenge: Literal["http-01", "dns-01"] = "http-01"
    http_port: int = Field(80, description="Port on which challenges are answered while nginx does not run.")
    https_port: int = Field(443, description="Port on which the certificate that nginx serves is checked.")
    provider: str = "exec"
    hook: Path | None = None
    environment: dict[str, SecretStr] = Field({})
    resolvers: tuple[HostAndPort, ...] = ()
    check_propagation: bool = True


class ProvidedSettings(ComponentSettings):
    """A certificate from elsewhere, in PEM."""

    certificate: SecretStr
    key: SecretStr


class TlsSettings(ComponentSettings):
    """The certificate of one host; the project names its authority."""

    project: str = "clawd"
    mode: Literal["acme", "own-ca", "self-signed", "provided"] = "own-ca"
    names: tuple[str, ...] = Field(min_length=1, description="DNS names in ASCII, and IP addresses.")
    lifetime_days: int = 90
    renew_fraction: float = 0.33
    subject: str = Field("", description="Common name; the first of `names` when empty.")
    client: bool = Field(False, description="Whether it is also presented to servers, as a client.")
    acme: AcmeSettings | None = Field(None, description="Required in mode acme.")
    provided: ProvidedSettings | None = Field(None, description="Required in mode provided.")

    @model_validator(mode="after")
    def _complete(self) -> TlsSettings:
        for mode, needed in (("acme", self.acme), ("provided", self.provided)):
            if (self.mode == mode) != (needed is not None):
                raise ValueError(f"`{mode}` belongs to mode {mode}, which cannot do without it")
        return self


def settings_for(inventory: Inventory, host: str) -> TlsSettings | None:
    """Return the certificate of `host`, for its own address when no name is declared; only nginx has one."""
    tls = inventory.tls
    if "nginx" not in inventory.hosts[host].roles:
        return None
    return TlsSettings(
        project=inventory.project,
        mode=tls.mode,
        names=tuple(canonical(name) for name in tls.names or (inventory.hosts[host].address,)),
        lifetime_days=tls.lifetime_days,
        renew_fraction=tls.renew_fraction,
        acme=_acme(inventory) if tls.mode == "acme" else None,
        provided=(
            ProvidedSettings(certificate=tls.provided.certificate, key=tls.provided.key)
            if tls.mode == "provided" and tls.provided
            else None
        ),
    )


def _acme(inventory: Inventory) -> AcmeSettings:
    acme = inventory.tls.acme
    return AcmeSettings(
        server=acme.server,
        authority=acme.authority,
        email=acme.email or "",
        challenge=acme.challenge,
        http_port=inventory.nginx.http_port,
        https_port=inventory.nginx.https_port,
        provider=acme.dns.provider,
        hook=acme.dns.hook,
        environment=acme.dns.environment,
        resolvers=acme.dns.resolvers,
        check_propagation=acme.dns.check_propagation,
    )

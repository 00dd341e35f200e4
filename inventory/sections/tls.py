"""The certificate of nginx, as declared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from inventory.declared import CertificateName, Declared, Directory, DnsProvider, HostAndPort, Mail

EnvironmentName = Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")]
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


class Dns(Declared):
    """How the challenge DNS-01 is answered."""

    provider: DnsProvider = Field(
        "exec",
        description="A DNS provider of lego (https://go-acme.github.io/lego/dns), or `exec` for `hook`.",
    )
    hook: Path | None = Field(
        None,
        description="With `exec`: a program, named by its file on the laptop, that the host calls with "
        "`present` or `cleanup`, the record's name and its value.",
    )
    environment: dict[EnvironmentName, SecretStr] = Field(
        {}, description="What the provider or the hook reads."
    )
    resolvers: tuple[HostAndPort, ...] = Field(
        (), description="Name servers, `ADDRESS:PORT`, that are asked for the record; the host's when empty."
    )
    check_propagation: bool = Field(
        True, description="Whether the host waits until it sees the record itself."
    )


class Acme(Declared):
    """An authority that issues by the protocol ACME (RFC 8555)."""

    server: Directory = Field(LETS_ENCRYPT, description="Address of its directory.")
    authority: Path | None = Field(
        None, description="PEM file on the laptop with the authority of a server of one's own."
    )
    email: Mail | None = Field(None, description="Of the account; required in mode acme.")
    challenge: Literal["http-01", "dns-01"] = Field(
        "http-01", description="Answered on port 80, or by a record in the DNS."
    )
    dns: Dns = Field(Dns(), description="For dns-01.")


class Provided(Declared):
    """A certificate from elsewhere."""

    certificate: SecretStr = Field(description="The chain in PEM, the host's own certificate first.")
    key: SecretStr = Field(description="Its private key in PEM, without a passphrase.")


class Tls(Declared):
    """The certificate of nginx."""

    mode: Literal["acme", "own-ca", "self-signed", "provided"] = Field(
        "own-ca",
        description="From an authority by ACME, signed by the project's own authority, by itself, or given.",
    )
    names: tuple[CertificateName, ...] = Field(
        (),
        description="Names and addresses in the certificate; the host's address when empty. nginx answers to "
        "these and to the host's addresses, and to no others.",
    )
    lifetime_days: Annotated[int, Field(ge=1, le=825)] = Field(
        90, description="Of a certificate that this program signs."
    )
    renew_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.33, description="Renewed when less than this part of the lifetime is left."
    )
    acme: Acme = Field(Acme(), description="For mode acme.")
    provided: Provided | None = Field(None, description="For mode provided.")

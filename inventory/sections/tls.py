"""The section `tls` of an inventory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from inventory.types import CertificateName, Declared, Directory, DnsProvider, HostAndPort, Mail

EnvironmentName = Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")]
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


class Dns(Declared):
    """The response to the challenge DNS-01."""

    provider: DnsProvider = Field(
        "exec",
        description="DNS provider of lego (https://go-acme.github.io/lego/dns), or `exec` to run `hook`.",
    )
    hook: Path | None = Field(
        None,
        description="Path of a program on the laptop for `exec`; the host runs it with `present` or "
        "`cleanup`, the name of the record and its value.",
    )
    environment: dict[EnvironmentName, SecretStr] = Field(
        {}, description="Environment variables of the provider or the hook."
    )
    resolvers: tuple[HostAndPort, ...] = Field(
        (), description="Name servers that are queried for the record, `ADDRESS:PORT`; the host's when empty."
    )
    check_propagation: bool = Field(
        True, description="Whether the host waits until it can resolve the record itself."
    )


class Acme(Declared):
    """A certificate authority with the protocol ACME (RFC 8555)."""

    server: Directory = Field(LETS_ENCRYPT, description="URL of the ACME directory.")
    authority: Path | None = Field(
        None,
        description="Path of a PEM file on the laptop with the certificate authority of a private ACME "
        "server.",
    )
    email: Mail | None = Field(None, description="Mail address of the account; required in mode acme.")
    challenge: Literal["http-01", "dns-01"] = Field(
        "http-01", description="Kind of challenge: `http-01` on port 80, or `dns-01` by a DNS record."
    )
    dns: Dns = Field(Dns(), description="Settings for dns-01.")


class Provided(Declared):
    """A certificate that the user provides."""

    certificate: SecretStr = Field(description="Certificate chain in PEM, the host's own certificate first.")
    key: SecretStr = Field(description="Private key of the certificate in PEM, without a passphrase.")


class Tls(Declared):
    """The certificate of nginx."""

    mode: Literal["acme", "own-ca", "self-signed", "provided"] = Field(
        "own-ca",
        description="Origin of the certificate: `acme` from an ACME authority, `own-ca` signed by the "
        "project's own authority, `self-signed`, or `provided` by the user.",
    )
    names: tuple[CertificateName, ...] = Field(
        (),
        description="Names and addresses in the certificate; the host's address when empty. nginx refuses "
        "requests for other names than these and the host's addresses.",
    )
    lifetime_days: Annotated[int, Field(ge=1, le=825)] = Field(
        90, description="Lifetime of a certificate that this program signs, in days."
    )
    renew_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.33, description="Remaining fraction of the lifetime at which the certificate is renewed."
    )
    acme: Acme = Field(Acme(), description="Settings for mode acme.")
    provided: Provided | None = Field(None, description="Certificate and key for mode provided.")

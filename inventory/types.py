"""The base class of declared values, and the types of single values.

Each kind of value has one type here, for inventories and for the settings of components alike. The types are
tested against the programs that read such values on hosts.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from inventory import addresses, dns_providers, values
from inventory.values import Checked

Port = Annotated[int, Field(ge=1, le=65535)]
HostName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
ProjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
"""It becomes part of the name of a certificate authority, of at most 64 characters (RFC 5280,
`ub-common-name`)."""
MODEL_NAME = r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$"
ModelName = Annotated[str, Field(pattern=MODEL_NAME)]
"""It becomes part of the name of a systemd unit, and of the name of a credential."""
PlatformId = Annotated[str, Field(pattern=r"^[a-z]{1,20}:[^\s:]{1,128}$")]
Login = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}$")]
OperatorName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]


def _without_scope(network: IPv6Network) -> IPv6Network:
    if getattr(network.network_address, "scope_id", None) is not None:
        raise ValueError("a network has no scope")
    return network


Network = IPv4Network | Annotated[IPv6Network, AfterValidator(_without_scope)]
Size = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}[KMG]$")]
"""Bytes: a number with K, M or G (powers of 1024), as systemd writes them."""
LogSize = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}[kmg]$")]
BodySize = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}[km]$")]
"""A size in nginx's notation; 0, which would mean no limit, is not allowed."""
TimeOfDay = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
Duration = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,4}[smhd]$")]
"""A duration in fail2ban's notation."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

Line = Annotated[str, Checked(values.check_line)]
"""A text without line breaks and control characters."""
Text = Annotated[str, Checked(values.check_text)]
"""A text of any number of lines, without control characters."""
TimeZone = Annotated[str, Checked(values.check_time_zone)]
PackageName = Annotated[str, Checked(values.check_package)]
PublicKey = Annotated[str, Checked(values.check_public_key)]
HostFolder = Annotated[str, Checked(values.check_folder)]
"""A folder of a host that this program has for itself; for Docker's see `DockerFolder`."""
DockerFolder = Annotated[str, Checked(values.check_docker_folder)]
Device = Annotated[str, Checked(values.check_device)]
SysctlKey = Annotated[str, Checked(values.check_sysctl_key)]

HostAddress = Annotated[str, Checked(addresses.check_host)]
"""A host name or an IP address."""
SshHost = Annotated[str, Checked(addresses.check_ssh_host)]
"""A host name, an IP address, or the name of a host in `~/.ssh/config`."""
HostAndPort = Annotated[str, Checked(addresses.check_host_and_port)]
CertificateName = Annotated[str, Checked(addresses.check_certificate_name)]
Endpoint = Annotated[str, Checked(addresses.check_endpoint)]
"""Base URL of an OpenAI-compatible server, ending before /chat/completions; a query is allowed."""
ServerUrl = Annotated[str, Checked(addresses.check_server)]
"""Base URL of an HTTP server; paths are appended."""
Download = Annotated[str, Checked(addresses.check_download)]
"""URL of one file; a query is allowed."""
DnsProvider = Annotated[str, Checked(dns_providers.check_dns_provider)]
Directory = Annotated[str, Checked(addresses.check_directory)]
"""URL of an ACME directory."""
RepositoryUrl = Annotated[str, Checked(addresses.check_repository)]
"""URL of a package repository; paths are appended. Every user of the host can read it."""
Mirror = Annotated[str, Checked(addresses.check_site)]
"""URL of a registry mirror, without a path, which dockerd does not accept."""
Proxy = Annotated[str, Checked(addresses.check_proxy)]
Unproxied = Annotated[str, Checked(addresses.check_unproxied)]
RegistryUser = Annotated[str, Checked(values.check_registry_user)]
Registry = Annotated[str, Checked(addresses.check_registry)]
Image = Annotated[str, Checked(addresses.check_image)]
Mail = Annotated[str, Checked(addresses.check_mail)]
DatabaseUrl = Annotated[str, Checked(addresses.check_database_url)]


def _in_words(value: object) -> object:
    """Return a number as its digits, and runs of spaces and tabs as one space, as the kernel shows them."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return re.sub(r"[ \t]+", " ", value).strip(" ") if isinstance(value, str) else value


SysctlValue = Annotated[
    str,
    BeforeValidator(_in_words),
    Checked(values.check_sysctl_value),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}]}),
]
"""The value of a kernel setting; a whole number needs no quotes."""


class Declared(BaseModel):
    """A value of the inventory: frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

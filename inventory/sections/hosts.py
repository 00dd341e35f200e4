"""The section `hosts` of an inventory: how each is reached, and what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from inventory.sections.disk import Disk
from inventory.types import Declared, HostAddress, HostName, Login, Port, PublicKey, Size, SshHost

HostRole = Literal["runtime", "nginx", "database", "monitoring", "logs"]
"""The services of a host: `runtime` is model and bot, `nginx` TLS and webhooks, `database` PostgreSQL for
several runtime hosts, `monitoring` Prometheus, Alertmanager and Grafana, `logs` Elasticsearch, Logstash and
Kibana."""
DEFAULT_ROLES: tuple[HostRole, ...] = ("runtime", "nginx")


class Bastion(Declared):
    """A jump host: a host of this file by its name, or another by its address."""

    host: HostName | None = Field(
        None, description="Name of a host of this file, whose address, user, port and keys are used."
    )
    address: SshHost | None = Field(
        None, description="Name or address of a jump host that is not in this file."
    )
    user: Login | None = Field(
        None, description="Login on the jump host; by default that of the host behind it."
    )
    port: Port = Field(22, description="SSH port of the jump host.")
    ssh_key: Path | None = Field(
        None,
        description="Path of the private key, or of the public key of one in the SSH agent; by default that "
        "of the host behind it.",
    )
    ssh_key_password: SecretStr | None = Field(
        None,
        description="Passphrase of the private key; without it the SSH agent must have the key, or the "
        "passphrase is prompted for.",
    )
    host_key: PublicKey | None = Field(
        None, description="Public host key of the jump host, `ssh-ed25519 AAAA…`."
    )


class Host(Declared):
    """One server."""

    address: SshHost = Field(
        description="Host name or IP address for SSH, or a `Host` entry of ~/.ssh/config."
    )
    user: Login = Field(
        "root", description="SSH login, with sudo unless it is root; that of ~/.ssh/config when absent."
    )
    port: Port = Field(22, description="SSH port; that of ~/.ssh/config when absent.")
    sudo_password: SecretStr | None = Field(
        None, description="Password of the login for sudo; prompted for when absent and required."
    )
    ssh_key: Path | None = Field(
        None,
        description="Path of the private key, or of the public key of one in the SSH agent; by default the "
        "keys of ~/.ssh/config, the SSH agent and ~/.ssh.",
    )
    ssh_key_password: SecretStr | None = Field(
        None,
        description="Passphrase of the private key; without it the SSH agent must have the key, or the "
        "passphrase is prompted for.",
    )
    host_key: PublicKey | None = Field(
        None,
        description="Public host key, `ssh-ed25519 AAAA…`; without it ~/.ssh/known_hosts must contain the "
        "key.",
    )
    bastion: Bastion | None = Field(None, description="Jump host through which the host is reached.")
    internal_address: HostAddress | None = Field(
        None, description="Address for the other hosts of this file; `address` when absent."
    )
    cores: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        None,
        description="Number of processor cores, for checks without a connection; read from the host when "
        "absent.",
    )
    memory: Size | None = Field(
        None,
        description="Size of the memory, such as 8G, for checks without a connection; read from the host "
        "when absent.",
    )
    gpu_memory: Size | None = Field(
        None,
        description="Memory of all GPUs together, such as 48G; the model is placed there unless `gpu` is "
        "none.",
    )
    disk: Disk | None = Field(None, description="Data disk for models, database and logs.")
    gpu: Literal["auto", "none", "required"] = Field(
        "none",
        description="Whether to install the NVIDIA driver and an engine for the GPU: `auto` if a GPU is "
        "found, `required` fails without a GPU, `none` never.",
    )
    roles: tuple[HostRole, ...] = Field(
        DEFAULT_ROLES, min_length=1, description="Services that run on the host."
    )
    internet: bool = Field(
        True,
        description="Whether the host can reach package mirrors; if false, apt connects through the laptop.",
    )

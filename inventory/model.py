"""The model of an inventory: what the user declares, as typed and frozen values.

Every section has a module of its name in `inventory.sections`. `inventory.load` turns YAML into these models
and reports mistakes with their position. A field's description is its documentation: the JSON schema for
editors and the reference in the docs are generated from it.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from inventory.sections.access import Access
from inventory.sections.base import Base
from inventory.sections.bot import Bot
from inventory.sections.channels import Channels
from inventory.sections.database import Database
from inventory.sections.docker import Docker
from inventory.sections.firewall import Firewall
from inventory.sections.hardening import Hardening
from inventory.sections.hosts import Bastion, Host, HostRole
from inventory.sections.logs import Logs
from inventory.sections.models import Models, Routes
from inventory.sections.monitoring import Monitoring
from inventory.sections.nginx import Nginx
from inventory.sections.nvidia import Nvidia
from inventory.sections.policy import ContentPolicy
from inventory.sections.rollout import Rollout
from inventory.sections.runtime import Runtime
from inventory.sections.tls import Tls
from inventory.types import Declared, HostName, ProjectName


class Inventory(Declared):
    """A whole inventory file."""

    project: ProjectName = Field(
        "clawd", description="Name of the deployment in lock, journal and certificates."
    )
    known_hosts: Path | None = Field(
        None, description="Path of a file with host keys, in addition to ~/.ssh/known_hosts."
    )
    hosts: dict[HostName, Host] = Field(min_length=1, description="Servers, by name.")
    base: Base = Field(Base(), description="Settings of every host.")
    firewall: Firewall = Field(Firewall(), description="Firewall of every host.")
    tls: Tls = Field(Tls(), description="Certificate of nginx.")
    models: Models = Field(description="Language models that answer.")
    routes: Routes = Field(Routes(), description="Shares of conversations of the further models.")
    channels: Channels = Field(Channels(), description="Channels through which people use the bot.")
    access: Access = Field(Access(), description="Who may use the bot, for what, and how much.")
    bot: Bot = Field(Bot(), description="Settings of the bot.")
    policy: ContentPolicy | None = Field(None, description="What may be asked and said.")
    runtime: Runtime = Field(Runtime(), description="How engine and bot run on hosts.")
    rollout: Rollout = Field(Rollout(), description="How changes are rolled out to several runtime hosts.")
    nginx: Nginx = Field(Nginx(), description="Reverse proxy in front of the bots.")
    database: Database | None = Field(None, description="Database that several runtime hosts share.")
    docker: Docker = Field(Docker(), description="Docker engine on hosts that need it.")
    nvidia: Nvidia = Field(Nvidia(), description="Drivers of NVIDIA GPUs.")
    hardening: Hardening = Field(
        Hardening(), description="Hardening of hosts, in addition to SSH keys and firewall."
    )
    monitoring: Monitoring = Field(Monitoring(), description="Metrics, alerts and dashboards.")
    logs: Logs = Field(Logs(), description="Collection and storage of log lines.")

    def internal(self, host: str) -> str:
        """Return the address by which the other hosts reach `host`."""
        declared = self.hosts[host]
        return declared.internal_address or declared.address

    def reached(self, host: str) -> Host:
        """Return the declaration of `host` with a jump host of this file expanded to its settings."""
        declared = self.hosts[host]
        if declared.bastion is None or declared.bastion.host is None:
            return declared
        jump = self.hosts[declared.bastion.host]
        written_out = Bastion(
            address=jump.address,
            user=jump.user,
            port=jump.port,
            ssh_key=jump.ssh_key,
            ssh_key_password=jump.ssh_key_password,
            host_key=jump.host_key,
        )
        return declared.model_copy(update={"bastion": written_out})

    def with_role(self, role: HostRole) -> dict[str, Host]:
        """Return the hosts that have `role`, in file order."""
        return {name: host for name, host in self.hosts.items() if role in host.roles}

"""What the user declares, as typed and frozen values.

These models describe an inventory file after loading; `inventory.load` turns YAML into them
and reports mistakes with their place. A field's description is its documentation: the JSON
schema for editors and the reference in the docs are generated from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from inventory.declared import (
    Declared,
    Digest,
    Download,
    Endpoint,
    HostAddress,
    Line,
    Login,
    Name,
    Network,
    OperatorName,
    PackageName,
    Port,
    ProjectName,
    PublicKey,
    Repository,
    Server,
    Size,
    SshHost,
    Text,
    TimeZone,
)
from inventory.sections.database import Database
from inventory.sections.disk import Disk
from inventory.sections.docker import Docker
from inventory.sections.hardening import Hardening
from inventory.sections.logs import Logs
from inventory.sections.monitoring import Monitoring
from inventory.sections.nginx import Nginx
from inventory.sections.nvidia import Nvidia
from inventory.sections.tls import Tls

__all__ = ["Declared", "Name", "Network", "Port"]

Role = Literal["runtime", "nginx", "database", "monitoring", "logs"]
"""runtime: model and bot. nginx: TLS and webhooks. database: PostgreSQL for several runtime hosts.
monitoring: Prometheus, Alertmanager, Grafana. logs: Elasticsearch, Logstash, Kibana."""
DEFAULT_ROLES: tuple[Role, ...] = ("runtime", "nginx")


class Bastion(Declared):
    """A jump host in front of a server: one of this file by its name, or another by its address."""

    host: Name | None = Field(
        None, description="A host of this file; address, user, port and keys are those declared there."
    )
    address: SshHost | None = Field(
        None, description="Name or address of a jump host that is not in this file."
    )
    user: Login | None = Field(None, description="Login there; the host's own user by default.")
    port: Port = Field(22, description="SSH port.")
    ssh_key: Path | None = Field(
        None,
        description="Private key file, or public key of one in the agent; the host's own by default.",
    )
    ssh_key_password: SecretStr | None = Field(
        None, description="Passphrase of that file; else the agent must hold the key, or it is asked for."
    )
    host_key: PublicKey | None = Field(None, description="Its public host key, `ssh-ed25519 AAAA…`.")


class Host(Declared):
    """One server."""

    address: SshHost = Field(description="Name or IP address to reach it by, or a `Host` of ~/.ssh/config.")
    user: Login = Field(
        "root", description="Login; sudo is used when it is not root. That of ~/.ssh/config when absent."
    )
    port: Port = Field(22, description="SSH port; that of ~/.ssh/config when absent.")
    sudo_password: SecretStr | None = Field(
        None, description="What sudo asks the login for; asked for on the terminal when absent."
    )
    ssh_key: Path | None = Field(
        None,
        description="Private key file, or public key of one in the agent; by default those of "
        "~/.ssh/config, the agent and ~/.ssh.",
    )
    ssh_key_password: SecretStr | None = Field(
        None, description="Passphrase of that file; else the agent must hold the key, or it is asked for."
    )
    host_key: PublicKey | None = Field(
        None,
        description="Public host key (`ssh-ed25519 AAAA…`); else ~/.ssh/known_hosts must know it.",
    )
    bastion: Bastion | None = Field(None, description="Jump host.")
    internal_address: HostAddress | None = Field(
        None, description="Address by which the other hosts of this file reach it; `address` when absent."
    )
    cores: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        None,
        description="Processor cores it has, to check before it is reached; asked of the host when absent.",
    )
    memory: Size | None = Field(
        None, description="Memory it has, such as 8G, to check before it is reached; asked when absent."
    )
    gpu_memory: Size | None = Field(
        None,
        description="Memory of its GPUs, such as 48G: the model is placed there, unless `gpu` is none.",
    )
    disk: Disk | None = Field(None, description="A data disk for models, database and logs.")
    gpu: Literal["auto", "none", "required"] = Field(
        "none",
        description="NVIDIA driver, and an engine that computes on the GPU: where one is found (`auto`), not "
        "at all, or else it is an error.",
    )
    roles: tuple[Role, ...] = Field(DEFAULT_ROLES, min_length=1, description="What this server does.")
    internet: bool = Field(
        True,
        description="Whether it reaches package mirrors itself; when false, apt goes through the laptop.",
    )


class Operator(Declared):
    """A person's or a team's login on every host, with sudo."""

    name: OperatorName = Field(description="Login name.")
    keys: tuple[PublicKey, ...] = Field(min_length=1, description="Their SSH public keys.")


class Base(Declared):
    """What every host gets: packages, logins, clock, journal, sshd."""

    time_zone: TimeZone = Field("Etc/UTC", description="IANA zone name, e.g. Asia/Shanghai.")
    packages: tuple[PackageName, ...] = Field((), description="Additional Debian packages.")
    upgrade: Literal["never", "security", "all"] = Field(
        "security", description="Which updates of the distribution's packages `up` installs."
    )
    mirrors: tuple[Repository, ...] = Field(
        (),
        description="Package mirrors in private networks, which hosts without internet may reach through the "
        "laptop; public ones of their apt sources need no entry.",
    )
    operators: tuple[Operator, ...] = Field((), description="Logins with sudo.")
    journal_max: Size = Field("500M", description="Most disk journald may use.")
    ssh_port: Port | None = Field(
        None, description="Port sshd listens on, beside the one in use; only that when absent."
    )


class OpenPort(Declared):
    """A port that the firewall lets in."""

    port: Port = Field(description="Port number.")
    protocol: Literal["tcp", "udp"] = Field("tcp", description="Transport protocol.")
    from_: tuple[Network, ...] = Field((), alias="from", description="Only from these; all when empty.")


class Firewall(Declared):
    """nftables: everything but the declared ports is dropped."""

    enabled: bool = Field(True, description="Whether nftables is managed at all.")
    open: tuple[OpenPort, ...] = Field((), description="Ports beyond those the components need.")
    management: tuple[Network, ...] = Field((), description="Networks that may use SSH; all when empty.")


class Deadlines(Declared):
    """How long a model may take before the bot asks the other one."""

    first_token_seconds: Annotated[int, Field(ge=1, le=1800)] | None = Field(
        None,
        description="Longest wait for the first token of an answer, reasoning included. "
        "By default 30 where a fallback can answer instead (60 with llama-cpp), else 240.",
    )
    token_gap_seconds: Annotated[int, Field(ge=1, le=1800)] = Field(
        60, description="Longest pause between two tokens; what there is of the answer is sent then."
    )


class LocalModel(Deadlines):
    """A GGUF file served by clawd-engine on the runtime hosts."""

    engine: Literal["llama-cpp"] = Field("llama-cpp", description="clawd-engine on the runtime hosts.")
    path: Path = Field(
        description="GGUF file on the laptop, relative to this file; with `url` only its name is used."
    )
    url: Download | None = Field(None, description="Fetched by the host from here instead of pushed.")
    sha256: Digest | None = Field(None, description="Digest the file must have; required with `url`.")
    context_size: Annotated[int, Field(ge=256, le=1_048_576)] = Field(
        4096, description="Tokens of one conversation."
    )
    parallel: Annotated[int, Field(ge=1, le=64)] = Field(4, description="Conversations decoded together.")
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="Compute threads; the host's cores by default."
    )
    temperature: Annotated[float, Field(ge=0, le=2)] = Field(
        0.3, description="Freedom in answering; 0 answers the same every time."
    )
    gpu_layers: Annotated[int, Field(ge=0, le=10_000)] | None = Field(
        None,
        description="Layers that the GPU computes where a host has one (`gpu`), counting the output as one; "
        "all by default, 0 for none. The others are computed by the processor.",
    )
    memory_max: Size = Field("2G", description="Most memory the engine may use.")


class RemoteModel(Deadlines):
    """A server that speaks the OpenAI chat protocol (vLLM, a provider)."""

    engine: Literal["openai-compatible"] = Field(description="A server elsewhere.")
    endpoint: Endpoint = Field(description="Base address, ending before /chat/completions; a query is kept.")
    api_key: SecretStr | None = Field(None, description="Sent as bearer token; to Azure as `api-key`.")
    model: Line = Field("default", description="Name sent in the request.")
    context_size: Annotated[int, Field(ge=256)] = Field(8192, description="Tokens of one conversation.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        None, description="Freedom in answering; the server's own choice when absent."
    )


Model = Annotated[LocalModel | RemoteModel, Field(discriminator="engine")]


class Models(Declared):
    """The language models that answer."""

    default: Model = Field(description="Answers unless it cannot.")
    fallback: Model | None = Field(None, description="Used while the default cannot answer.")


class Telegram(Declared):
    """A Telegram bot."""

    token: SecretStr = Field(description="From BotFather.")
    mode: Literal["webhook", "polling"] = Field(
        "webhook", description="Telegram calls nginx, or the bot asks Telegram."
    )
    secret_token: SecretStr | None = Field(
        None,
        description="Checked on every webhook call, 16 characters at least; required in webhook mode.",
    )
    api_base: Server = Field("https://api.telegram.org", description="Address of the Bot API.")


class Feishu(Declared):
    """A Feishu (Lark) app with a bot."""

    app_id: str = Field(pattern=r"^cli_[A-Za-z0-9_]+$", description="`cli_…`, from the developer console.")
    app_secret: SecretStr = Field(description="Of the app, from the developer console.")
    encrypt_key: SecretStr = Field(
        description="Events are encrypted and signed with it; 16 characters at least."
    )
    verification_token: SecretStr = Field(description="Every event carries it.")
    api_base: Server = Field("https://open.feishu.cn", description="Address of the open platform.")


class Console(Declared):
    """The console channel: `clawd-provision chat`, over HTTPS with a signed token."""

    jwt_secret: SecretStr = Field(
        description="At least 32 bytes; signs the tokens of `clawd-provision chat`."
    )


class Channels(Declared):
    """How people reach the bot."""

    telegram: Telegram | None = Field(None, description="A Telegram bot.")
    feishu: Feishu | None = Field(None, description="A Feishu app.")
    console: Console | None = Field(None, description="`clawd-provision chat`.")


class Bot(Declared):
    """clawd-bot, the process that talks to people."""

    system_prompt: Text = Field(
        "You are a helpful assistant.", description="Instruction before every conversation."
    )
    language: Literal["auto", "en", "zh"] = Field("auto", description="Language of the bot's own messages.")
    max_reply_tokens: Annotated[int, Field(ge=16)] = Field(512, description="Longest reply.")
    rate_limit_per_minute: Annotated[int, Field(ge=1)] = Field(
        30, description="Messages a user may send a minute."
    )
    memory_max: Size = Field("400M", description="Most memory the bot may use.")
    port: Port = Field(8080, description="Port of the bot's HTTP server on its own host, behind nginx.")
    internal_port: Port = Field(
        8444, description="Port on which nginx and monitoring of other hosts reach the bot, over TLS."
    )


class Runtime(Declared):
    """How engine and bot run on a host."""

    run_with: Literal["systemd", "docker"] = Field(
        "systemd", description="Their own environment, or a container; systemd supervises both."
    )


class Rollout(Declared):
    """How a change reaches several runtime hosts that serve already: batch after batch."""

    batch_percent: Annotated[int, Field(ge=1, le=100)] = Field(
        25, description="Part of the runtime hosts that change at a time; at least one."
    )
    drain_seconds: Annotated[int, Field(ge=0, le=600)] = Field(
        30, description="Longest wait for requests that are under way before a host changes."
    )


class Inventory(Declared):
    """A whole inventory file."""

    project: ProjectName = Field(
        "clawd", description="Names the deployment in lock, journal and certificates."
    )
    known_hosts: Path | None = Field(None, description="File of host keys, besides ~/.ssh/known_hosts.")
    hosts: dict[Name, Host] = Field(min_length=1, description="The servers, by name.")
    base: Base = Field(Base(), description="What every host gets.")
    firewall: Firewall = Field(Firewall(), description="Who may connect.")
    tls: Tls = Field(Tls(), description="The certificate of nginx.")
    models: Models = Field(description="The language models that answer.")
    channels: Channels = Field(Channels(), description="How people reach the bot.")
    bot: Bot = Field(Bot(), description="The bot.")
    runtime: Runtime = Field(Runtime(), description="How they run.")
    rollout: Rollout = Field(Rollout(), description="How changes reach several runtime hosts.")
    nginx: Nginx = Field(Nginx(), description="The front door.")
    database: Database | None = Field(None, description="What several runtime hosts share.")
    docker: Docker = Field(Docker(), description="The Docker engine, where something needs it.")
    nvidia: Nvidia = Field(Nvidia(), description="Drivers of NVIDIA GPUs.")
    hardening: Hardening = Field(Hardening(), description="Beyond SSH keys and firewall.")
    monitoring: Monitoring = Field(Monitoring(), description="Metrics, alerts and dashboards.")
    logs: Logs = Field(Logs(), description="Where log lines are gathered and kept.")

    def internal(self, host: str) -> str:
        """The address by which the other hosts reach `host`."""
        declared = self.hosts[host]
        return declared.internal_address or declared.address

    def reached(self, host: str) -> Host:
        """How `host` is reached: its declaration, with a jump host of this file written out."""
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

    def with_role(self, role: Role) -> dict[str, Host]:
        """The hosts that have `role`, in file order."""
        return {name: host for name, host in self.hosts.items() if role in host.roles}

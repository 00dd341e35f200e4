"""The model of an inventory: what the user declares, as typed and frozen values.

`inventory.load` turns YAML into these models and reports mistakes with their position. A field's description
is its documentation: the JSON schema for editors and the reference in the docs are generated from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from inventory.sections.database import Database
from inventory.sections.disk import Disk
from inventory.sections.docker import Docker
from inventory.sections.hardening import Hardening
from inventory.sections.logs import Logs
from inventory.sections.monitoring import Monitoring
from inventory.sections.nginx import Nginx
from inventory.sections.nvidia import Nvidia
from inventory.sections.tls import Tls
from inventory.types import (
    Declared,
    Digest,
    Download,
    Endpoint,
    HostAddress,
    HostName,
    Line,
    Login,
    Network,
    OperatorName,
    PackageName,
    Port,
    ProjectName,
    PublicKey,
    RepositoryUrl,
    ServerUrl,
    Size,
    SshHost,
    Text,
    TimeZone,
)

__all__ = ["Declared", "HostName", "Network", "Port"]

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


class Operator(Declared):
    """A login with sudo on every host, for a person or a team."""

    name: OperatorName = Field(description="Login name.")
    keys: tuple[PublicKey, ...] = Field(min_length=1, description="SSH public keys of the login.")


class Base(Declared):
    """Settings of every host: packages, logins, clock, journal, sshd."""

    time_zone: TimeZone = Field("Etc/UTC", description="IANA name of the time zone, such as Asia/Shanghai.")
    packages: tuple[PackageName, ...] = Field((), description="Additional Debian packages.")
    upgrade: Literal["never", "security", "all"] = Field(
        "security", description="Updates of the distribution's packages that `up` installs."
    )
    mirrors: tuple[RepositoryUrl, ...] = Field(
        (),
        description="Package mirrors in private networks that hosts without internet access may reach "
        "through the laptop; public mirrors of their apt sources need no entry.",
    )
    operators: tuple[Operator, ...] = Field((), description="Logins with sudo for people.")
    journal_max: Size = Field("500M", description="Maximum disk space of the systemd journal.")
    ssh_port: Port | None = Field(
        None, description="Additional port on which sshd listens; only the current one when absent."
    )


class OpenPort(Declared):
    """A port that the firewall opens."""

    port: Port = Field(description="Port number.")
    protocol: Literal["tcp", "udp"] = Field("tcp", description="Transport protocol.")
    from_: tuple[Network, ...] = Field(
        (), alias="from", description="Networks that may use the port; all when empty."
    )


class Firewall(Declared):
    """The firewall (nftables), which drops traffic to all ports that are not declared or needed."""

    enabled: bool = Field(True, description="Whether the firewall is managed.")
    open: tuple[OpenPort, ...] = Field((), description="Open ports in addition to those of the components.")
    management: tuple[Network, ...] = Field((), description="Networks that may use SSH; all when empty.")


class Deadlines(Declared):
    """Time limits of a model, after which the bot uses the fallback."""

    first_token_seconds: Annotated[int, Field(ge=1, le=1800)] | None = Field(
        None,
        description="Maximum time until the first token of an answer, including reasoning, in seconds. "
        "By default 30 with a fallback (60 for a llama-cpp model), else 240.",
    )
    token_gap_seconds: Annotated[int, Field(ge=1, le=1800)] = Field(
        60,
        description="Maximum pause between two tokens, in seconds; after it the incomplete answer is sent.",
    )


class LocalModel(Deadlines):
    """A GGUF file served by clawd-engine on the runtime hosts."""

    engine: Literal["llama-cpp"] = Field(
        "llama-cpp", description="Kind of model: a GGUF file served by clawd-engine on the runtime hosts."
    )
    path: Path = Field(
        description="Path of the GGUF file on the laptop, relative to this file; with `url` only its name is "
        "used."
    )
    url: Download | None = Field(
        None, description="URL from which the host downloads the file, instead of a push from the laptop."
    )
    sha256: Digest | None = Field(None, description="SHA-256 digest of the file; required with `url`.")
    context_size: Annotated[int, Field(ge=256, le=1_048_576)] = Field(
        4096, description="Context of one conversation, in tokens."
    )
    parallel: Annotated[int, Field(ge=1, le=64)] = Field(
        4, description="Number of conversations that are decoded at the same time."
    )
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="Number of compute threads; the host's cores by default."
    )
    temperature: Annotated[float, Field(ge=0, le=2)] = Field(
        0.3, description="Sampling temperature; 0 gives the same answer every time."
    )
    gpu_layers: Annotated[int, Field(ge=0, le=10_000)] | None = Field(
        None,
        description="Number of layers that the GPU of a host computes (see `gpu`), the output being one; "
        "all by default. The processor computes the others.",
    )
    memory_max: Size = Field("2G", description="Maximum memory of the engine.")


class RemoteModel(Deadlines):
    """A server that speaks the OpenAI chat protocol (vLLM, a provider)."""

    engine: Literal["openai-compatible"] = Field(description="Kind of model: a remote server.")
    endpoint: Endpoint = Field(description="Base URL, ending before /chat/completions; a query is kept.")
    api_key: SecretStr | None = Field(
        None, description="API key, sent as bearer token or, to Azure, as `api-key`."
    )
    model: Line = Field("default", description="Name of the model in requests.")
    context_size: Annotated[int, Field(ge=256)] = Field(
        8192, description="Context of one conversation, in tokens."
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        None, description="Sampling temperature; the server's default when absent."
    )


DeclaredModel = Annotated[LocalModel | RemoteModel, Field(discriminator="engine")]


class Models(Declared):
    """The language models that answer."""

    default: DeclaredModel = Field(description="Model that normally answers.")
    fallback: DeclaredModel | None = Field(None, description="Model that answers while the default cannot.")


class Telegram(Declared):
    """A Telegram bot."""

    token: SecretStr = Field(description="Bot token from BotFather.")
    mode: Literal["webhook", "polling"] = Field(
        "webhook",
        description="How messages arrive: `webhook` if Telegram calls nginx, `polling` if the bot polls "
        "Telegram.",
    )
    secret_token: SecretStr | None = Field(
        None,
        description="Secret of webhook calls, at least 16 characters; required in webhook mode.",
    )
    api_base: ServerUrl = Field("https://api.telegram.org", description="Base URL of the Bot API.")


class Feishu(Declared):
    """A Feishu (Lark) app with a bot."""

    app_id: str = Field(
        pattern=r"^cli_[A-Za-z0-9_]+$", description="App id from the developer console, `cli_…`."
    )
    app_secret: SecretStr = Field(description="App secret from the developer console.")
    encrypt_key: SecretStr = Field(
        description="Encrypt key, which encrypts and signs events; at least 16 characters."
    )
    verification_token: SecretStr = Field(description="Verification token, which every event carries.")
    api_base: ServerUrl = Field("https://open.feishu.cn", description="Base URL of the open platform.")


class Console(Declared):
    """The channel of `clawd-provision chat`, over HTTPS with a signed token."""

    jwt_secret: SecretStr = Field(
        description="Secret that signs the tokens of `clawd-provision chat`; at least 32 bytes."
    )


class Channels(Declared):
    """The channels through which people use the bot."""

    telegram: Telegram | None = Field(None, description="Telegram bot.")
    feishu: Feishu | None = Field(None, description="Feishu app.")
    console: Console | None = Field(None, description="Channel of `clawd-provision chat`.")


class Bot(Declared):
    """clawd-bot, the process that talks to people."""

    system_prompt: Text = Field(
        "You are a helpful assistant.", description="System prompt of every conversation."
    )
    language: Literal["auto", "en", "zh"] = Field("auto", description="Language of the bot's own messages.")
    max_reply_tokens: Annotated[int, Field(ge=16)] = Field(
        512, description="Maximum length of a reply, in tokens."
    )
    rate_limit_per_minute: Annotated[int, Field(ge=1)] = Field(
        30, description="Messages that a user may send per minute."
    )
    memory_max: Size = Field("400M", description="Maximum memory of the bot.")
    port: Port = Field(8080, description="Port of the bot's HTTP server, behind nginx on the same host.")
    internal_port: Port = Field(
        8444, description="Port for nginx and monitoring on other hosts, over mutual TLS."
    )


class Runtime(Declared):
    """How engine and bot run on hosts."""

    run_with: Literal["systemd", "docker"] = Field(
        "systemd",
        description="Whether engine and bot run in a Python environment (`systemd`) or in containers "
        "(`docker`); systemd supervises both.",
    )


class Rollout(Declared):
    """How a change is rolled out to several runtime hosts, batch by batch."""

    batch_percent: Annotated[int, Field(ge=1, le=100)] = Field(
        25, description="Share of the runtime hosts in a batch, in percent; at least one host."
    )
    drain_seconds: Annotated[int, Field(ge=0, le=600)] = Field(
        30, description="Maximum wait for requests in progress before a host is changed, in seconds."
    )


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
    channels: Channels = Field(Channels(), description="Channels through which people use the bot.")
    bot: Bot = Field(Bot(), description="Settings of the bot.")
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

"""What the user declares, as typed and frozen values.

These models describe an inventory file after loading; `inventory.load` turns YAML into them
and reports mistakes with their place. A field's description is its documentation: the JSON
schema for editors and the reference in the docs are generated from it.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Network = IPv4Network | IPv6Network
Role = Literal["runtime", "nginx"]
ALL_ROLES: tuple[Role, ...] = ("runtime", "nginx")


class Declared(BaseModel):
    """A value of the inventory: frozen, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Bastion(Declared):
    address: str = Field(description="Name or address of the jump host.")
    user: str | None = Field(None, description="Login there; the host's own user by default.")
    port: Port = 22
    host_key: str | None = Field(None, description="Its public host key, `ssh-ed25519 AAAA…`.")


class Host(Declared):
    """One server."""

    address: str = Field(description="Name or IP address to reach it by.")
    user: str = Field("root", description="Login; sudo is used when it is not root.")
    port: Port = Field(22, description="SSH port.")
    ssh_key: Path | None = Field(None, description="Private key file; agent and ~/.ssh by default.")
    host_key: str | None = Field(
        None,
        description="Public host key (`ssh-ed25519 AAAA…`); else ~/.ssh/known_hosts must know it.",
    )
    bastion: Bastion | None = Field(None, description="Jump host.")
    roles: tuple[Role, ...] = Field(ALL_ROLES, min_length=1, description="What this server does.")
    internet: bool = Field(
        True,
        description="Whether it reaches package mirrors itself; when false, apt goes through the laptop.",
    )


class Operator(Declared):
    """A person's or a team's login on every host, with sudo."""

    name: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
    keys: tuple[str, ...] = Field(min_length=1, description="Their SSH public keys.")


class Base(Declared):
    time_zone: str = Field("Etc/UTC", description="IANA zone name, e.g. Asia/Shanghai.")
    packages: tuple[str, ...] = Field((), description="Additional Debian packages.")
    operators: tuple[Operator, ...] = ()
    journal_max: str = Field("500M", pattern=r"^\d+[KMG]$", description="Most disk journald may use.")
    ssh_port: Port = Field(22, description="Port sshd listens on.")


class OpenPort(Declared):
    port: Port
    protocol: Literal["tcp", "udp"] = "tcp"
    from_: tuple[Network, ...] = Field((), alias="from", description="Only from these; all when empty.")


class Firewall(Declared):
    enabled: bool = True
    open: tuple[OpenPort, ...] = Field((), description="Ports beyond those the components need.")
    management: tuple[Network, ...] = Field((), description="Networks that may use SSH; all when empty.")


class Tls(Declared):
    mode: Literal["own-ca", "self-signed"] = Field(
        "own-ca", description="Signed by the project's own authority, or by itself."
    )
    names: tuple[str, ...] = Field((), description="Names and addresses in the certificate; the host's address when empty.")
    lifetime_days: Annotated[int, Field(ge=1, le=825)] = 90
    renew_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.33, description="Renewed when less than this part of the lifetime is left."
    )


class LocalModel(Declared):
    """A GGUF file served by clawd-engine on the runtime hosts."""

    engine: Literal["llama-cpp"] = "llama-cpp"
    path: Path = Field(description="GGUF file on the laptop (relative to this file), or where it lies on the host when `url` or neither applies.")
    url: str | None = Field(None, description="Fetched by the host from here instead of pushed.")
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="Digest the file must have; required with `url`."
    )
    context_size: Annotated[int, Field(ge=256)] = Field(4096, description="Tokens of one conversation.")
    parallel: Annotated[int, Field(ge=1, le=64)] = Field(4, description="Conversations decoded together.")
    threads: Annotated[int, Field(ge=1)] | None = Field(None, description="Compute threads; the host's cores by default.")
    memory_max: str = Field("2G", pattern=r"^\d+[KMG]$", description="Most memory the engine may use.")


class RemoteModel(Declared):
    """A server that speaks the OpenAI chat protocol (vLLM, a provider)."""

    engine: Literal["openai-compatible"]
    endpoint: str = Field(pattern=r"^https?://", description="Base address, ending before /chat/completions.")
    api_key: SecretStr | None = None
    model: str = Field("default", description="Name sent in the request.")


Model = Annotated[LocalModel | RemoteModel, Field(discriminator="engine")]


class Models(Declared):
    default: Model
    fallback: Model | None = Field(None, description="Used while the default cannot answer.")


class Telegram(Declared):
    token: SecretStr = Field(description="From BotFather.")
    mode: Literal["webhook", "polling"] = "webhook"
    secret_token: SecretStr | None = Field(None, description="Checked on every webhook call; required in webhook mode.")
    api_base: str = Field("https://api.telegram.org", pattern=r"^https?://")


class Feishu(Declared):
    app_id: str
    app_secret: SecretStr
    encrypt_key: SecretStr = Field(description="Events are encrypted and signed with it.")
    verification_token: SecretStr
    api_base: str = Field("https://open.feishu.cn", pattern=r"^https?://")


class Console(Declared):
    jwt_secret: SecretStr = Field(description="At least 32 bytes; signs the tokens of `clawd-provision chat`.")


class Channels(Declared):
    """How people reach the bot."""

    telegram: Telegram | None = None
    feishu: Feishu | None = None
    console: Console | None = None


class Bot(Declared):
    system_prompt: str = Field("You are a helpful assistant.", description="Instruction before every conversation.")
    language: Literal["auto", "en", "zh"] = Field("auto", description="Language of the bot's own messages.")
    max_reply_tokens: Annotated[int, Field(ge=16)] = 512
    rate_limit_per_minute: Annotated[int, Field(ge=1)] = Field(30, description="Messages a user may send a minute.")
    memory_max: str = Field("400M", pattern=r"^\d+[KMG]$")
    port: Port = Field(8080, description="Port of the bot's HTTP server, behind nginx.")


class Nginx(Declared):
    https_port: Port = 443
    http_port: Port = Field(80, description="Answers with a redirect to HTTPS.")
    requests_per_second: Annotated[int, Field(ge=1)] = Field(20, description="Per client address.")
    max_body: str = Field("1m", pattern=r"^\d+[km]$")


class Runtime(Declared):
    run_with: Literal["systemd"] = "systemd"


class Inventory(Declared):
    """A whole inventory file."""

    project: Name = Field("clawd", description="Names the deployment in lock, journal and certificates.")
    known_hosts: Path | None = Field(None, description="File of host keys, besides ~/.ssh/known_hosts.")
    hosts: dict[Name, Host] = Field(min_length=1)
    base: Base = Base()
    firewall: Firewall = Firewall()
    tls: Tls = Tls()
    models: Models
    channels: Channels = Channels()
    bot: Bot = Bot()
    runtime: Runtime = Runtime()
    nginx: Nginx = Nginx()

    def with_role(self, role: Role) -> dict[str, Host]:
        """The hosts that have `role`, in file order."""
        return {name: host for name, host in self.hosts.items() if role in host.roles}

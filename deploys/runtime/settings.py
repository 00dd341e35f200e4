"""Settings of a host's engine and bot."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from deploys.component import MACHINE_ROOT, ComponentSettings, Need, Opening
from deploys.resources import HostResources
from deploys.runtime.alerts import AlertsChannelSettings, alerts_channel, alerts_credentials
from deploys.runtime.console import console_secret, has_page
from deploys.topology.addresses import canonical
from deploys.topology.bots import fronts_of, public_url, serves_other_hosts, webhook_registrar
from deploys.topology.certificates import AUTHORITY, CERTIFICATE_FOLDERS
from deploys.topology.database import database_url
from deploys.topology.engines import computes_on_gpu, further_models, local_model
from deploys.topology.monitoring import watched_from
from inventory.model import Inventory
from inventory.model_files.footprint import of_model, states_disk, states_memory
from inventory.sections.access import Access
from inventory.sections.channels import Channels
from inventory.sections.docker import Docker
from inventory.sections.models import Leaving, LocalModel, RemoteModel
from inventory.sections.policy import ContentPolicy
from inventory.types import Image, Line, Registry, RegistryUser, Size, Text
from inventory.values import size_in_bytes

ENGINE_SOCKET = "/run/clawd-engine/engine.sock"
ENGINE_STATES = "/var/lib/clawd-engine"
"""Folder in which the engine keeps states of conversations."""
FURTHER_SOCKETS = "/run/clawd-engines"
"""Folder with a folder for each engine of a further model."""
ENGINE_ENDPOINT = f"unix:{ENGINE_SOCKET}"
CERTIFICATE = "/etc/clawd/tls/fullchain.pem"
INTERNAL = CERTIFICATE_FOLDERS["runtime"]
"""Folder of the certificate that the bot presents to other hosts: a link into `<folder>.d`."""
RELEASE = 160 << 20
"""Approximate bytes of a release on the disk."""
JOURNAL_MAX = "200M"
"""Size limit of the bot's own journal on the disk; the oldest lines are deleted first."""


class EngineGpu(ComponentSettings):
    """How the engine of a host computes on its GPUs, if any are found."""

    branch: int = 580
    cuda: str | None = Field(None, description="CUDA version; chosen by release and GPUs when absent.")
    layers: int | None = Field(None, description="Layers that GPUs compute; all when absent.")
    root: str = MACHINE_ROOT


class EngineStates(ComponentSettings):
    """Bytes and days for which an engine keeps states of conversations."""

    memory: int
    disk: int
    days: int


class EngineSettings(ComponentSettings):
    """The clawd-engine of one host."""

    model_name: Line
    context_size: int
    parallel: int
    threads: int | None
    memory_max: Size
    memory_needed: int | None = Field(None, description="Bytes that it will use; unknown without its file.")
    embeddings: bool = Field(False, description="It serves embeddings, too.")
    states: EngineStates | None = Field(None, description="What it keeps of conversations without a slot.")
    gpu: EngineGpu | None = Field(None, description="How it computes on GPUs, where the host has any.")


class LeavingSettings(ComponentSettings):
    """What may be sent to a model; `None`: everything."""

    channels: tuple[str, ...] | None = None
    users: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    redact: tuple[str, ...] = ()
    marks: bool = Field(False, description="Answers name the model.")


class MarginSettings(ComponentSettings):
    """How much worse than the default a model with a share may be."""

    window_seconds: float
    least: int
    errors: float
    cut: float
    slower: float


class RouteSettings(ComponentSettings):
    """The shares of the models, as the bot reads them while it runs."""

    version: int = 1
    shares: dict[str, int] = Field({}, description="Percentages of conversations.")
    judge: MarginSettings | None = Field(None, description="By default the bot's own margins.")


class EndpointSettings(ComponentSettings):
    """A server of the OpenAI chat protocol that the bot uses."""

    endpoint: str = Field(description="`unix:PATH` or an address ending before /chat/completions.")
    model: Line
    context_size: int
    temperature: float | None
    first_token_seconds: int | None = Field(None, description="By default the bot's own choice.")
    token_gap_seconds: int = 60
    answers_at_once: int = Field(32, description="Conversations that it answers at the same time.")
    policy: LeavingSettings = Field(LeavingSettings(), description="What may be sent to it.")
    needs_key: bool = Field(False, description="Whether `credentials` has an API key for it.")


class TelegramSettings(ComponentSettings):
    """The Telegram channel, without its secrets."""

    mode: Literal["webhook", "polling"]
    api_base: str
    upload_certificate: str | None = Field(
        description="Certificate to upload to Telegram; `None` when none is needed, or nginx runs elsewhere."
    )
    registers_webhook: bool = Field(description="Telegram knows one webhook, so one host registers it.")


class FeishuSettings(ComponentSettings):
    """The Feishu channel, without its secrets."""

    app_id: str
    api_base: str


class LoginSettings(ComponentSettings):
    """A login at a registry."""

    registry: str = Field(description="HOST[:PORT], or docker.io.")
    user: RegistryUser
    password: SecretStr


class ContainerSettings(ComponentSettings):
    """How engine and bot run in containers."""

    base_image: Image | None = Field(None, description="Image with Python, by name; else made on the host.")
    registry: Registry | None = Field(None, description="Registry by which hosts share images; else none.")
    login: LoginSettings | None = Field(None, description="At the registry; else what the host has.")


class InternalSettings(ComponentSettings):
    """Where hosts of this project reach the bot, over TLS with certificates on both sides."""

    host: str = Field(description="The address to bind.")
    port: int
    name: str = Field(description="Name of this host in its certificate.")


class FormerSettings(ComponentSettings):
    """A former listener of the bot, kept until every nginx uses the current one."""

    host: str = Field(description="The address to bind.")
    port: int
    tls: bool
    sources: tuple[str, ...] = Field((), description="Addresses of the hosts that it is open to.")


class RuntimeSettings(ComponentSettings):
    """The engine (when the host serves a model itself) and the bot of one host."""

    port: int = Field(description="Port of plain HTTP on loopback.")
    internal: InternalSettings | None = Field(None, description="Listener for other hosts, where needed.")
    former: tuple[FormerSettings, ...] = Field((), description="Only while listeners of hosts change.")
    public_url: str | None
    system_prompt: Text
    language: Literal["auto", "en", "zh"]
    max_reply_tokens: int
    rate_limit_per_minute: int
    memory_max: Size
    engine: EngineSettings | None
    further: dict[str, EngineSettings] = Field({}, description="Engines of further models, by name.")
    models: dict[str, EndpointSettings]
    routes: RouteSettings = Field(RouteSettings(), description="Shares of conversations.")
    telegram: TelegramSettings | None = None
    feishu: FeishuSettings | None = None
    console: bool = Field(False, description="Also without a declared console: `verify` asks through it.")
    page: bool = Field(False, description="Whether the console serves the page in the browser.")
    alerts: AlertsChannelSettings | None = Field(None, description="Recipients of Alertmanager's alerts.")
    project: str = Field("clawd", description="Names the authority of the database's certificate.")
    database: str | None = Field(
        None, description="URL of the database that several bots share, without its password; else its own."
    )
    credentials: dict[str, SecretStr] = Field(description="Secret values by credential name.")
    policy: ContentPolicy | None = Field(
        None, description="Word lists and rules; the files are read when applied."
    )
    access: Access = Field(Access(), description="Who may use the bot.")
    time_zone: str = Field("Etc/UTC", description="Zone of the days of quotas.")
    container: ContainerSettings | None = Field(None, description="In containers; else in their own files.")


def settings_for(inventory: Inventory, host: str) -> RuntimeSettings | None:
    """Return what `host` runs; `None` without the role `runtime`."""
    if "runtime" not in inventory.hosts[host].roles:
        return None
    bot, channels = inventory.bot, inventory.channels
    return RuntimeSettings(
        port=bot.port,
        internal=internal_listener(inventory, host),
        public_url=public_url(inventory, host),
        system_prompt=bot.system_prompt,
        language=bot.language,
        max_reply_tokens=bot.max_reply_tokens,
        rate_limit_per_minute=bot.rate_limit_per_minute,
        memory_max=bot.memory_max,
        engine=_engine(inventory, host),
        further={name: _engine_settings(model) for name, model in further_models(inventory, host).items()},
        models=_endpoints(inventory, host),
        routes=RouteSettings(
            version=inventory.routes.version,
            shares=inventory.routes.shares,
            judge=MarginSettings(**inventory.routes.judge.model_dump()),
        ),
        telegram=_telegram(inventory, host),
        feishu=(
            FeishuSettings(app_id=channels.feishu.app_id, api_base=channels.feishu.api_base)
            if channels.feishu
            else None
        ),
        console=console_secret(inventory) is not None,
        page=has_page(inventory),
        alerts=alerts_channel(inventory),
        project=inventory.project,
        database=database_url(inventory, host),
        credentials={
            **_channel_credentials(channels, console_secret(inventory)),
            **_model_credentials(inventory),
            **alerts_credentials(inventory),
            **_policy_credentials(inventory.policy),
            **({"database-password": inventory.database.password} if inventory.database else {}),
        },
        policy=inventory.policy,
        access=inventory.access,
        time_zone=inventory.base.time_zone,
        container=_container(inventory),
    )


def openings_for(inventory: Inventory, host: str) -> tuple[Opening, ...]:
    """Return the bot's port, open to other hosts whose nginx uses it, and to the monitoring host."""
    proxies = tuple(inventory.internal(front) for front in fronts_of(inventory, host) if front != host)
    watcher = watched_from(inventory, host) if "runtime" in inventory.hosts[host].roles else ()
    found = (("bot, from nginx", proxies), ("bot, from monitoring", watcher))
    return tuple(
        Opening(port=inventory.bot.internal_port, sources=sources, purpose=purpose)
        for purpose, sources in found
        if sources
    )


def needs_for(inventory: Inventory, host: str, _resources: HostResources) -> tuple[Need, ...]:
    """Return the resources of the bot and three releases. The engine's memory is a need of the model."""
    if "runtime" not in inventory.hosts[host].roles:
        return ()
    limit = inventory.bot.memory_max
    model = local_model(inventory)
    states = states_disk(model) if model is not None else 0
    kept = (Need("states of conversations", disk=states, path=ENGINE_STATES, how="the model's states.disk"),)
    how = f"its limit (bot.memory_max {limit}); three releases of {RELEASE >> 20} MiB"
    return (
        Need("bot", memory=size_in_bytes(limit), disk=3 * RELEASE, path="/opt/clawd", how=how),
        Need("journal of the bot", disk=size_in_bytes(JOURNAL_MAX), path="/var/log", how=JOURNAL_MAX),
        *(kept if states else ()),
    )


def ports_for(inventory: Inventory, host: str) -> tuple[int, ...]:
    """Return the bot's ports: on loopback, and for other hosts where there is one."""
    if "runtime" not in inventory.hosts[host].roles:
        return ()
    internal = internal_listener(inventory, host)
    return (inventory.bot.port, *((internal.port,) if internal else ()))


def internal_listener(inventory: Inventory, host: str) -> InternalSettings | None:
    """Return where the bot of `host` listens for other hosts; `None` when no other host needs to reach it.

    It binds every address, because the one in the inventory may be a name, or an address that only a router
    in between knows. The firewall lets in the nginx and monitoring hosts, and the listener accepts only
    certificates of the project. Where the host is reached by IPv6, `::` is bound, which covers both families.
    """
    if not serves_other_hosts(inventory, host):
        return None
    return internal_at(inventory, host, inventory.bot.internal_port)


def internal_at(inventory: Inventory, host: str, port: int) -> InternalSettings:
    """Return a listener of the bot of `host` for other hosts, at `port`."""
    address = inventory.internal(host)
    everywhere = "::" if ":" in address else "0.0.0.0"  # noqa: S104
    return InternalSettings(host=everywhere, port=port, name=canonical(address))


def _container(inventory: Inventory) -> ContainerSettings | None:
    if inventory.runtime.run_with != "docker":
        return None
    docker = inventory.docker
    return ContainerSettings(
        base_image=docker.base_image, registry=docker.registry, login=_registry_login(docker)
    )


def _registry_login(docker: Docker) -> LoginSettings | None:
    login, registry = docker.registry_login, docker.logged_in_at
    if login is None or registry is None:
        return None
    return LoginSettings(registry=registry, user=login.user, password=login.password)


def _engine(inventory: Inventory, host: str) -> EngineSettings | None:
    model = local_model(inventory)
    if model is None:
        return None
    return _engine_settings(model).model_copy(
        update={"states": _states(model, disk=states_disk(model)), "gpu": engine_gpu(inventory, host)}
    )


def _engine_settings(model: LocalModel) -> EngineSettings:
    needed = of_model(model)
    return EngineSettings(
        model_name=model.path.stem,
        context_size=model.context_size,
        parallel=model.parallel,
        threads=model.threads,
        memory_max=model.memory_max,
        memory_needed=needed.total if needed else None,
        embeddings=model.embeddings,
        states=_states(model),
    )


def _states(model: LocalModel, *, disk: int = 0) -> EngineStates | None:
    """Return what an engine keeps; only that of the host's first model uses the disk."""
    if model.states == "none":
        return None
    return EngineStates(memory=states_memory(model), disk=disk, days=model.states.days)


def engine_gpu(inventory: Inventory, host: str) -> EngineGpu | None:
    """Return how the engine of `host` computes on GPUs; `None` where it uses only processors."""
    model = local_model(inventory)
    if model is None or not computes_on_gpu(inventory, host):
        return None
    return EngineGpu(branch=inventory.nvidia.branch, cuda=inventory.nvidia.cuda, layers=model.gpu_layers)


def further_socket(name: str) -> str:
    """Return the socket of the engine of the further model `name`."""
    return f"{FURTHER_SOCKETS}/{name}/engine.sock"


def _endpoints(inventory: Inventory, host: str) -> dict[str, EndpointSettings]:
    further = further_models(inventory, host)
    return {
        name: _endpoint(model, f"unix:{further_socket(name)}" if name in further else ENGINE_ENDPOINT)
        for name, model in inventory.models.named().items()
    }


def _endpoint(model: LocalModel | RemoteModel, socket: str) -> EndpointSettings:
    if isinstance(model, LocalModel):
        return EndpointSettings(
            endpoint=socket,
            model=model.path.stem,
            context_size=model.context_size,
            temperature=model.temperature,
            first_token_seconds=model.first_token_seconds,
            token_gap_seconds=model.token_gap_seconds,
            # As many as the engine decodes in parallel, and one more, ready for the next free slot. The rest
            # wait in the bot, which serves people in turn; the engine would in the order of arrival.
            answers_at_once=model.parallel + 1,
        )
    return EndpointSettings(
        endpoint=model.endpoint.rstrip("/"),
        model=model.model,
        context_size=model.context_size,
        temperature=model.temperature,
        first_token_seconds=model.first_token_seconds,
        token_gap_seconds=model.token_gap_seconds,
        answers_at_once=model.answers_at_once,
        policy=_policy(model.leaving),
        needs_key=model.api_key is not None,
    )


def _policy(leaving: Leaving | None) -> LeavingSettings:
    if leaving is None:
        return LeavingSettings()
    return LeavingSettings(
        channels=leaving.channels,
        users=leaving.users,
        groups=leaving.groups,
        redact=leaving.redact,
        marks=leaving.mark,
    )


def _telegram(inventory: Inventory, host: str) -> TelegramSettings | None:
    telegram = inventory.channels.telegram
    if telegram is None:
        return None
    return TelegramSettings(
        mode=telegram.mode,
        api_base=telegram.api_base.rstrip("/"),
        upload_certificate=_upload(inventory, host) if telegram.mode == "webhook" else None,
        registers_webhook=host == webhook_registrar(inventory),
    )


def _upload(inventory: Inventory, host: str) -> str | None:
    """Return the certificate to upload to Telegram; `None` when none is needed.

    It is nginx's own, or the project's authority where nginx also runs on other hosts. Telegram already knows
    public authorities.
    """
    if inventory.tls.mode in ("acme", "provided"):
        return None
    fronts = inventory.with_role("nginx")
    if inventory.tls.mode == "self-signed" or list(fronts) == [host]:
        return CERTIFICATE if host in fronts else None
    return AUTHORITY if fronts else None


def _channel_credentials(channels: Channels, console: SecretStr | None) -> dict[str, SecretStr]:
    found: dict[str, SecretStr | None] = {}
    if channels.telegram:
        found["telegram-token"] = channels.telegram.token
        found["telegram-secret-token"] = channels.telegram.secret_token
    if channels.feishu:
        found["feishu-app-secret"] = channels.feishu.app_secret
        found["feishu-encrypt-key"] = channels.feishu.encrypt_key
        found["feishu-verification-token"] = channels.feishu.verification_token
    found["console-jwt-secret"] = console
    return {name: value for name, value in found.items() if value is not None}


def _model_credentials(inventory: Inventory) -> dict[str, SecretStr]:
    return {
        f"model-{name}-api-key": model.api_key
        for name, model in inventory.models.named().items()
        if isinstance(model, RemoteModel) and model.api_key is not None
    }


def _policy_credentials(policy: ContentPolicy | None) -> dict[str, SecretStr]:
    if policy is None or policy.classifier is None or policy.classifier.api_key is None:
        return {}
    return {"classifier-api-key": policy.classifier.api_key}

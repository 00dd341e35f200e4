"""The settings of the bot in bot.json, without secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from clawd_runtime.bot.channels.base import ChannelSettings
from clawd_runtime.bot.channels.registry import CHANNELS, channel_class
from clawd_runtime.bot.models.remote_policy import Redaction, RemotePolicy
from clawd_runtime.errors import SettingsError

BotLanguage = Literal["auto", "en", "zh"]
SHORTEST_PROMPT_TOKENS = 128


class SettingsSection(BaseModel):
    """A section of bot.json: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Listen(SettingsSection):
    """The address on which an HTTP server listens."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080


class Further(Listen):
    """An additional listener, for clients that do not know the other addresses yet."""

    tls: bool


class PolicySettings(SettingsSection):
    """What may be sent to a model (`models.remote_policy.RemotePolicy`); by default everything."""

    channels: frozenset[str] | None = None
    users: frozenset[str] | None = None
    groups: frozenset[str] | None = None
    redact: tuple[Redaction, ...] = ()
    marks: bool = False

    def policy(self) -> RemotePolicy:
        """Return it as the models use it."""
        return RemotePolicy(self.channels, self.users, self.groups, self.redact, self.marks)


class ModelEndpoint(SettingsSection):
    """A server of the OpenAI chat protocol.

    `endpoint` is `unix:/path/of.sock`, or the base address that ends before `/chat/completions`; a query of
    that address is kept. `context_size` is in tokens, prompt and answer together. `first_token_seconds` is
    the timeout for the first token, reasoning included; `answering` chooses the default: less if another
    model can answer instead. `token_gap_seconds` is the timeout for each further token. `answers_at_once` is
    how many conversations use it at the same time, `answers_at_once` of the bot by default. `policy` says who
    may be answered by it. `needs_key` says that its API key is a credential, and that the model is not used
    before the bot has started with it.
    """

    endpoint: Annotated[str, Field(pattern=r"^(unix:/.+|https?://.+)$")]
    model: Annotated[str, Field(min_length=1)]
    context_size: Annotated[int, Field(ge=256)] = 4096
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    first_token_seconds: Annotated[float, Field(ge=1, le=1800)] | None = None
    token_gap_seconds: Annotated[float, Field(ge=1, le=1800)] = 60.0
    answers_at_once: Annotated[int, Field(ge=1, le=512)] | None = None
    policy: PolicySettings = PolicySettings()
    needs_key: bool = False


class BotModels(SettingsSection):
    """The model that answers, and the one that answers while the first cannot.

    Instead of them, `routes` is the file of the table of routes, which names the models and is read again
    when it changes.
    """

    default: ModelEndpoint | None = None
    fallback: ModelEndpoint | None = None
    routes: Path | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> BotModels:
        if (self.default is None) is (self.routes is None):
            raise ValueError("must have either `default` or `routes`")
        if self.routes is not None and self.fallback is not None:
            raise ValueError("`fallback` is in the table of routes")
        return self


class BotSettings(SettingsSection):
    """The whole file. `channels` has the validated settings of every configured channel."""

    listen: Listen = Listen()
    """Plain HTTP, for programs on the same host."""
    internal: Listen | None = None
    """The same over mutual TLS, for other hosts of the deployment."""
    further: tuple[Further, ...] = ()
    """Additional listeners, with TLS and the certificate of `internal` or without."""
    database: Annotated[str, Field(pattern=r"^(sqlite:////?.+|postgresql\+psycopg://.*/.+)$")]
    system_prompt: str = "You are a helpful assistant."
    language: BotLanguage = "auto"
    max_reply_tokens: Annotated[int, Field(ge=16)] = 512
    rate_limit_per_minute: Annotated[int, Field(ge=1)] = 30
    answers_at_once: Annotated[int, Field(ge=1, le=512)] = 32
    models: BotModels
    public_url: Annotated[str, Field(pattern=r"^https?://[^/].*$")] | None = None
    policy: Path | None = None
    """The file with word lists and rules (`policy/file.py`), read again when it changes."""
    access: Path | None = None
    """The file of who may use the bot (`access/file.py`), read again when it changes; else everybody may."""
    channels: dict[str, ChannelSettings] = Field(default_factory=dict)

    @field_validator("database")
    @classmethod
    def _without_a_password(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.password is not None or "password" in parse_qs(parts.query):
            raise ValueError("must not contain a password; use the credential database-password")
        return value

    @field_validator("public_url")
    @classmethod
    def _without_final_slash(cls, value: str | None) -> str | None:
        return value.rstrip("/") if value else value

    @field_validator("channels", mode="before")
    @classmethod
    def _each_by_its_channel(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError('must be an object, such as {"console": {}}')
        unknown = sorted(set(value) - set(CHANNELS))
        if unknown:
            raise ValueError(f"unknown channel {', '.join(unknown)}; known channels: {', '.join(CHANNELS)}")
        return {
            name: part if isinstance(part, ChannelSettings) else _validate_channel(name, part)
            for name, part in value.items()
        }


def _validate_channel(name: str, part: Any) -> ChannelSettings:
    try:
        return channel_class(name).Settings.model_validate(part)
    except ValidationError as error:
        raise ValueError("; ".join(problems_of(error, prefix=(name,)))) from None


def load_settings(path: Path) -> BotSettings:
    """Return the settings in bot.json; raise `SettingsError`, naming the file and every invalid field."""
    try:
        raw = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except ValueError as error:
        place = f":{error.lineno}:{error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise SettingsError(f"{path}{place}: not JSON") from None
    try:
        settings = BotSettings.model_validate(raw)
    except ValidationError as error:
        raise SettingsError("\n".join(f"{path}: {problem}" for problem in problems_of(error))) from None
    problems = tuple(_contradictions(settings))
    if problems:
        raise SettingsError("\n".join(f"{path}: {problem}" for problem in problems))
    return settings


def _contradictions(settings: BotSettings) -> list[str]:
    found = []
    models = {"default": settings.models.default, "fallback": settings.models.fallback}
    for name, model in models.items():
        if model and model.context_size < settings.max_reply_tokens + SHORTEST_PROMPT_TOKENS:
            found.append(
                f"models.{name}.context_size: {model.context_size} leaves no room for a question next to "
                f"max_reply_tokens {settings.max_reply_tokens}; raise context_size or lower max_reply_tokens"
            )
    if settings.internal is None and any(place.tls for place in settings.further):
        found.append("further: tls requires `internal`, whose certificate it uses")
    if alerts := settings.channels.get("alerts"):
        for channel in ("telegram", "feishu"):
            if getattr(alerts, f"{channel}_chat") is not None and channel not in settings.channels:
                found.append(
                    f"channels.alerts.{channel}_chat: requires channels.{channel}, which is not configured"
                )
    return found


def problems_of(error: ValidationError, prefix: tuple[str, ...] = ()) -> list[str]:
    """Return each invalid field with its problem; without values, which may be secret."""
    return [
        f"{'.'.join(map(str, prefix + problem['loc'])) or 'the whole'}: "
        f"{problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors(include_url=False, include_input=False)
    ]

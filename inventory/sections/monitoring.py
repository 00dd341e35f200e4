"""Monitoring, as declared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_core import PydanticCustomError

from inventory.declared import Declared, Network, Port, Repository, Size

Seconds = Annotated[float, Field(gt=0, le=3600)]
Percent = Annotated[float, Field(gt=0, le=100)]
Interval = Annotated[int, Field(ge=1, le=600)]


def _is_a_chat(number: int) -> int:
    if number == 0:
        raise PydanticCustomError(
            "checked",
            "{problem}; {advice}",
            {
                "problem": "0 is the id of no chat",
                "advice": "write the chat's own id; groups have negative ones",
            },
        )
    return number


TelegramChat = Annotated[int, Field(gt=-(1 << 52), lt=1 << 52), AfterValidator(_is_a_chat)]
"""At most 52 significant bits: https://core.telegram.org/bots/api#chat."""


class Thresholds(Declared):
    """Beyond these an alert fires."""

    request_seconds: Seconds = Field(1.5, description="99 of 100 HTTP requests are answered within this.")
    handling_seconds: Seconds = Field(
        0.9, description="95 of 100 messages have their answer ready within this; more on slow hosts."
    )
    response_seconds: Seconds = Field(0.8, description="The engine begins an answer within this, on average.")
    model_load_seconds: Seconds = Field(30, description="Loading the model takes no longer.")
    memory_percent: Percent = Field(75, description="Memory in use, of a host and of what a bot may have.")
    error_percent: Percent = Field(0.5, description="Requests and messages that fail.")
    sessions: Annotated[int, Field(ge=1)] = Field(500, description="Messages that wait in one bot.")
    disk_percent: Percent = Field(85, description="Disk space in use.")
    certificate_days: Annotated[int, Field(ge=1, le=90)] = Field(
        10, description="Days that a certificate of nginx holds at least."
    )
    gpu_celsius: Annotated[int, Field(ge=40, le=120)] = Field(85, description="Temperature of a GPU.")


class Alerts(Declared):
    """Who is told of alerts, by the bots."""

    token: SecretStr = Field(description="Shared by Alertmanager and the bots; 16 characters at least.")
    telegram_chat: TelegramChat | None = Field(
        None, description="Id of a Telegram chat; groups have negative ones."
    )
    feishu_chat: str | None = Field(
        None, pattern=r"^oc_[A-Za-z0-9_]+$", description="`oc_…`, id of a Feishu group the app is in."
    )
    feishu_webhook: SecretStr | None = Field(
        None, description="Address of a custom bot of a Feishu group, beside or instead of the app."
    )
    feishu_webhook_secret: SecretStr | None = Field(
        None, description="Of the custom bot, when it verifies signatures."
    )
    language: Literal["en", "zh"] | None = Field(
        None, description="Language of alerts; the bot's by default, or English when that is `auto`."
    )
    group_wait: Interval = Field(
        30, description="Seconds in which alerts that belong together are gathered into one message."
    )
    group_interval: Interval = Field(
        300, description="Seconds after which more of the same group, or its end, is told."
    )


class Grafana(Declared):
    """Dashboards. Grafana comes from its own repository, a mirror of that, or a package file."""

    admin_password: SecretStr = Field(description="Of the login `admin`; 12 characters at least.")
    port: Port = Field(3000, description="Port of its web pages.")
    open_to: tuple[Network, ...] = Field(
        (), description="Networks that reach it, by HTTPS; when empty, only the host itself (SSH tunnel)."
    )
    repository: Repository = Field("https://apt.grafana.com", description="Package repository, or a mirror.")
    key: Path | None = Field(
        None, description="The repository's public key (a file); required unless `package` is given."
    )
    package: Path | None = Field(None, description="Grafana's .deb on the laptop, instead of a repository.")


class Monitoring(Declared):
    """Prometheus, Alertmanager and Grafana, on the host with the role monitoring."""

    scrape_interval: Interval = Field(15, description="Seconds between two measurements.")
    evaluation_interval: Interval = Field(15, description="Seconds between two looks at the alert rules.")
    window: Annotated[int, Field(ge=10, le=3600)] = Field(
        300, description="Seconds over which rates and quantiles are formed."
    )
    sustained: Annotated[int, Field(ge=0, le=3600)] = Field(
        300, description="Seconds for which a threshold is exceeded before an alert fires."
    )
    retention_size: Size = Field(
        "4G", description="Most disk that measurements may use; the oldest go first."
    )
    thresholds: Thresholds = Field(Thresholds(), description="Beyond these an alert fires.")
    alerts: Alerts | None = Field(None, description="Who is told; when absent, alerts are only shown.")
    grafana: Grafana | None = Field(None, description="Dashboards; none when absent.")

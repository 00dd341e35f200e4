"""The section `monitoring` of an inventory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_core import PydanticCustomError

from inventory.types import Declared, Network, Port, RepositoryUrl, Size

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
    """Limits that trigger an alert."""

    request_seconds: Seconds = Field(
        1.5, description="99th percentile of the response time of HTTP requests, in seconds."
    )
    handling_seconds: Seconds = Field(
        0.9,
        description="95th percentile of the time until the answer to a message is ready, in seconds; use "
        "more on slow hosts.",
    )
    response_seconds: Seconds = Field(
        0.8, description="Average time until the engine begins an answer, in seconds."
    )
    model_load_seconds: Seconds = Field(30, description="Time to load the model, in seconds.")
    memory_percent: Percent = Field(
        75, description="Memory use of a host, and of a bot relative to its limit, in percent."
    )
    error_percent: Percent = Field(0.5, description="Failed requests and messages, in percent.")
    sessions: Annotated[int, Field(ge=1)] = Field(500, description="Number of messages waiting in one bot.")
    disk_percent: Percent = Field(85, description="Disk use, in percent.")
    certificate_days: Annotated[int, Field(ge=1, le=90)] = Field(
        10, description="Minimum remaining validity of a certificate of nginx, in days."
    )
    gpu_celsius: Annotated[int, Field(ge=40, le=120)] = Field(
        85, description="Temperature of a GPU, in degrees Celsius."
    )


class Alerts(Declared):
    """Recipients of alerts, which the bots send."""

    token: SecretStr = Field(
        description="Secret shared by Alertmanager and the bots; at least 16 characters."
    )
    telegram_chat: TelegramChat | None = Field(
        None, description="Id of a Telegram chat; ids of groups are negative."
    )
    feishu_chat: str | None = Field(
        None,
        pattern=r"^oc_[A-Za-z0-9_]+$",
        description="Id of a Feishu group that the app is in, `oc_…`.",
    )
    feishu_webhook: SecretStr | None = Field(
        None, description="URL of a custom bot of a Feishu group, in addition to or instead of the app."
    )
    feishu_webhook_secret: SecretStr | None = Field(
        None, description="Secret of the custom bot, if it verifies signatures."
    )
    language: Literal["en", "zh"] | None = Field(
        None, description="Language of alerts; by default the bot's, or English if that is `auto`."
    )
    group_wait: Interval = Field(
        30, description="Time in which alerts of a group are collected into the first message, in seconds."
    )
    group_interval: Interval = Field(
        300, description="Minimum time between two messages about the same group, in seconds."
    )


class Grafana(Declared):
    """Dashboards. Grafana is installed from its repository, a mirror, or a package file."""

    admin_password: SecretStr = Field(description="Password of the login `admin`; at least 12 characters.")
    port: Port = Field(3000, description="Port of the web interface.")
    open_to: tuple[Network, ...] = Field(
        (),
        description="Networks that may use the web interface over HTTPS; when empty, only the host itself "
        "(SSH tunnel).",
    )
    repository: RepositoryUrl = Field(
        "https://apt.grafana.com", description="URL of the package repository or a mirror."
    )
    key: Path | None = Field(
        None, description="Path of the repository's public key; required unless `package` is given."
    )
    package: Path | None = Field(
        None, description="Path of Grafana's .deb on the laptop, instead of a repository."
    )


class Monitoring(Declared):
    """Prometheus, Alertmanager and Grafana on the host with the role monitoring."""

    scrape_interval: Interval = Field(15, description="Time between two scrapes of a metric, in seconds.")
    evaluation_interval: Interval = Field(
        15, description="Time between two evaluations of the alert rules, in seconds."
    )
    window: Annotated[int, Field(ge=10, le=3600)] = Field(
        300, description="Period over which rates and quantiles are computed, in seconds."
    )
    sustained: Annotated[int, Field(ge=0, le=3600)] = Field(
        300, description="Time for which a threshold must be exceeded before an alert fires, in seconds."
    )
    retention_size: Size = Field(
        "4G", description="Maximum disk space of metrics; the oldest are deleted first."
    )
    thresholds: Thresholds = Field(Thresholds(), description="Limits that trigger an alert.")
    alerts: Alerts | None = Field(
        None, description="Recipients of alerts; when absent, alerts are only displayed."
    )
    grafana: Grafana | None = Field(None, description="Dashboards; none when absent.")

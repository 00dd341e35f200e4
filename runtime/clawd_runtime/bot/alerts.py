"""Notifications of Prometheus' Alertmanager: parsing, text for chats, and an id to detect duplicates.

Source: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config (version 4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

AlertLanguage = Literal["en", "zh"]
AlertStatus = Literal["firing", "resolved"]
MOST_ALERTS = 20
"""Number of alerts of one notification that are listed; the others are only counted."""
MOST_RECEIVED = 10_000
LONGEST_LABEL = 200
LONGEST_SUMMARY = 1000


class Alert(BaseModel):
    """One alert. `fingerprint` identifies its labels, `startsAt` this occurrence of it."""

    model_config = ConfigDict(frozen=True, strict=True)

    status: AlertStatus
    labels: dict[str, str]
    annotations: dict[str, str] = Field(default_factory=dict)
    starts_at: str = Field(alias="startsAt", max_length=100)
    fingerprint: str = Field(max_length=100)


class Notification(BaseModel):
    """A POST of Alertmanager about one group of alerts. Newer versions may add fields, not change these."""

    model_config = ConfigDict(frozen=True, strict=True)

    version: Literal["4"]
    group_key: str = Field(alias="groupKey", min_length=1)
    status: AlertStatus
    alerts: tuple[Alert, ...] = Field(min_length=1, max_length=MOST_RECEIVED, fail_fast=True, strict=False)
    truncated: int = Field(0, alias="truncatedAlerts", ge=0, lt=2**31)


@dataclass(frozen=True, slots=True)
class _Words:
    firing: str
    resolved: str
    more: str


_WORDS: dict[AlertLanguage, _Words] = {
    "en": _Words("🔥 Alert", "✅ Resolved", "… and {count} more"),
    "zh": _Words("🔥 告警", "✅ 已恢复", "……另有 {count} 条"),
}


def event_id(notification: Notification) -> str:
    """Return an id that is equal for repetitions of a notification, also from another Alertmanager.

    Alertmanager repeats firing alerts every few hours, and retries a POST that it could not confirm.
    """
    alerts = sorted((alert.fingerprint, alert.status, alert.starts_at) for alert in notification.alerts)
    seed = "\0".join((notification.group_key, *("\0".join(each) for each in alerts)))
    return hashlib.sha256(seed.encode()).hexdigest()[:40]


def text_of(notification: Notification, language: AlertLanguage) -> str:
    """Return the notification as text: firing alerts first, each with its host and summary."""
    ordered = sorted(notification.alerts, key=lambda alert: (alert.status == "resolved", alert.starts_at))
    lines = [_line(alert, language) for alert in ordered[:MOST_ALERTS]]
    left = len(ordered) - len(lines) + notification.truncated
    return "\n\n".join((*lines, *_rest(left, language)))


def _line(alert: Alert, language: AlertLanguage) -> str:
    words = _WORDS[language]
    state = words.firing if alert.status == "firing" else words.resolved
    labels, annotations = alert.labels, alert.annotations
    place = _shortened(labels.get("host") or labels.get("instance", ""))
    summary = annotations.get(f"summary_{language}") or annotations.get("summary", "")
    details = _shortened(summary, LONGEST_SUMMARY)
    severity, name = (_shortened(labels.get(label, "-")) for label in ("severity", "alertname"))
    title = f"{state} [{severity}] {name}"
    return "\n".join(filter(None, (f"{title} · {place}" if place else title, details)))


def _shortened(text: str, longest: int = LONGEST_LABEL) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"


def _rest(count: int, language: AlertLanguage) -> Sequence[str]:
    return (_WORDS[language].more.format(count=count),) if count > 0 else ()

"""The text of notifications, and their event ids."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from clawd_runtime.bot.alerts import MOST_ALERTS, Notification, event_id, text_of


def alert(name: str = "HighLatency", status: str = "firing", **changes: Any) -> dict[str, Any]:
    return {
        "status": status,
        "labels": {"alertname": name, "severity": "warning", "host": "bot1", "instance": "10.0.0.1:8080"},
        "annotations": {"summary_en": f"{name} is high", "summary_zh": f"{name} 过高"},
        "startsAt": "2026-11-22T10:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://127.0.0.1:9090/graph",
        "fingerprint": f"f-{name}",
        **changes,
    }


def notification(*alerts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a notification in Alertmanager's form."""
    return {
        "version": "4",
        "groupKey": '{}:{alertname="HighLatency"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "bot",
        "groupLabels": {"alertname": "HighLatency"},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://monitoring:9093",
        "alerts": list(alerts or (alert(),)),
        **changes,
    }


def read(*alerts: dict[str, Any], **changes: Any) -> Notification:
    return Notification.model_validate(notification(*alerts, **changes))


def test_repeated_notification_has_same_event_id() -> None:
    first = event_id(read(alert("A"), alert("B")))
    assert first == event_id(read(alert("B"), alert("A"), receiver="another", externalURL="http://x"))


@pytest.mark.parametrize(
    "other",
    [
        read(alert("A")),
        read(alert("A"), alert("B", "resolved")),
        read(alert("A"), alert("B", startsAt="2026-11-22T11:00:00Z")),
        read(alert("A"), alert("B"), groupKey="another"),
    ],
    ids=["an alert fewer", "one resolved", "firing again", "another group"],
)
def test_changed_notification_has_new_event_id(other: Notification) -> None:
    assert event_id(other) != event_id(read(alert("A"), alert("B")))


def test_text_in_both_languages_with_state() -> None:
    both = read(alert("Gone", "resolved"), alert("Here"))
    assert text_of(both, "en") == (
        "🔥 Alert [warning] Here · bot1\nHere is high\n\n✅ Resolved [warning] Gone · bot1\nGone is high"
    )
    assert text_of(both, "zh").startswith("🔥 告警 [warning] Here · bot1\nHere 过高")


def test_alert_without_our_labels_is_shown() -> None:
    bare = alert("Theirs", labels={"alertname": "Theirs"}, annotations={"summary": "look"})
    assert text_of(read(bare), "zh") == "🔥 告警 [-] Theirs\nlook"


def test_alerts_beyond_the_limit_are_counted() -> None:
    flood = read(*(alert(f"A{number}") for number in range(MOST_ALERTS + 5)), truncatedAlerts=7)
    assert text_of(flood, "en").endswith("… and 12 more")


@pytest.mark.parametrize(
    "wrong", [{"version": "3"}, {"alerts": []}, {"groupKey": ""}, {"status": "maybe"}], ids=str
)
def test_invalid_notification_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read(**wrong)

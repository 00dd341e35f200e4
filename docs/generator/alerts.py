"""The page of alerts, from the rules that Prometheus is given."""

from __future__ import annotations

from deploys.prometheus.rules import AlertRule, rules
from deploys.prometheus.settings import settings_for
from docs.generator.deployment import inventory
from docs.generator.markdown import block, code, generated

HOW = """
The rules of `deploys/prometheus/rules.py` with the default thresholds (`monitoring.thresholds` in
[settings](settings.md)). `{{ … }}` in a summary is filled in by Prometheus. The summary is sent in the
language of `monitoring.alerts.language`.
"""


def page() -> str:
    """Return the page."""
    settings = settings_for(inventory(), "watch1")
    assert settings is not None
    return "\n".join((generated("Alerts", HOW), *map(_alert, rules(settings))))


def _alert(rule: AlertRule) -> str:
    after = f"after {rule.sustained} s" if rule.sustained else "at once"
    return (
        f"## {rule.name}\n\n"
        f"Severity {code(rule.severity)}, fires {after}.\n\n{block(rule.expr, 'promql')}\n"
        f"- English: {code(rule.en)}\n- Chinese: {code(rule.zh)}\n"
    )

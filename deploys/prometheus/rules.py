"""The alert rules as values, and the file that Prometheus reads. Pure.

A ratio or a quantile of nothing is no alert: `> 0` leaves out divisors without traffic, and a quantile over
buckets that did not grow is NaN, which is never greater than anything.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Literal

from ruamel.yaml import YAML

from deploys.database.settings import MOST_HOURS
from deploys.prometheus.settings import PrometheusSettings
from deploys.topology.certificates import LEAST_DAYS

HOUSEKEEPING = "/healthz|/readyz|/metrics|/engine/metrics"
"""Paths of the bot that programs request all the time, and that are answered at once."""
_REQUESTS = f'job="clawd-bot",path!~"{HOUSEKEEPING}"'
FAILED = "failed|model_failed|poison"
"""Outcomes of messages that got no answer because of an internal error."""


@dataclass(frozen=True, slots=True)
class AlertRule:
    """An alert: fires when `expr` has held for `sustained` seconds. Summaries are Prometheus templates."""

    name: str
    expr: str
    sustained: int
    en: str
    zh: str
    severity: Literal["warning", "critical"] = "warning"


def rules(settings: PrometheusSettings) -> tuple[AlertRule, ...]:
    """Return every rule, those of the bot first."""
    return (*_latency(settings), *_errors(settings), *_room(settings), *_kept(settings), *_down(settings))


def rules_text(alerts: tuple[AlertRule, ...], interval: int) -> str:
    """Return the rules file."""
    listed = [
        {
            "alert": rule.name,
            "expr": rule.expr,
            "for": f"{rule.sustained}s",
            "labels": {"severity": rule.severity},
            "annotations": {"summary_en": rule.en, "summary_zh": rule.zh},
        }
        for rule in alerts
    ]
    return yaml_text({"groups": [{"name": "clawd", "interval": f"{interval}s", "rules": listed}]})


def yaml_text(value: Any) -> str:
    """Return `value` as YAML, under a line that names the program that wrote it."""
    yaml = YAML()
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(value, stream)
    return f"# Written by clawd-provision: changes by hand are undone.\n{stream.getvalue()}"


def _quantile(quantile: float, histogram: str, labels: str, window: int) -> str:
    buckets = f"sum by (le, host) (rate({histogram}_bucket{{{labels}}}[{window}s]))"
    return f"histogram_quantile({quantile}, {buckets})"


def _latency(settings: PrometheusSettings) -> tuple[AlertRule, ...]:
    limits, window, sustained = settings.thresholds, settings.window, settings.sustained
    requests = _quantile(0.99, "http_request_duration_seconds", _REQUESTS, window)
    messages = _quantile(0.95, "clawd_handling_seconds", 'job="clawd-bot"', window)
    waited = (
        f"rate(clawd_engine_queue_seconds_sum[{window}s]) + rate(clawd_engine_prefill_seconds_sum[{window}s])"
    )
    started = f"(rate(clawd_engine_prefill_seconds_count[{window}s]) > 0)"
    return (
        AlertRule(
            "HighLatency",
            f"{requests} > {limits.request_seconds:g}",
            sustained,
            "P99 of HTTP requests is {{ $value | humanizeDuration }}, "
            f"more than {limits.request_seconds:g} s.",
            f"HTTP 请求 P99 延迟为 {{{{ $value | humanizeDuration }}}}，超过 {limits.request_seconds:g} 秒。",
        ),
        AlertRule(
            "SlowMessages",
            f"{messages} > {limits.handling_seconds:g}",
            sustained,
            "P95 from a message to its answer is {{ $value | humanizeDuration }}, "
            f"more than {limits.handling_seconds:g} s.",
            f"消息处理 P95 延迟为 {{{{ $value | humanizeDuration }}}}，超过 {limits.handling_seconds:g} 秒。",
        ),
        AlertRule(
            "SlowModel",
            f"({waited}) / {started} > {limits.response_seconds:g}",
            sustained,
            "The model begins its answers after {{ $value | humanizeDuration }} on average, "
            f"more than {limits.response_seconds:g} s.",
            f"模型平均首字延迟为 {{{{ $value | humanizeDuration }}}}，超过 {limits.response_seconds:g} 秒。",
        ),
        AlertRule(
            "SlowModelLoad",
            f"clawd_engine_model_load_seconds > {limits.model_load_seconds:g}",
            0,
            "Loading the model took {{ $value | humanizeDuration }}, "
            f"more than {limits.model_load_seconds:g} s.",
            f"模型加载耗时 {{{{ $value | humanizeDuration }}}}，超过 {limits.model_load_seconds:g} 秒。",
        ),
    )


def _errors(settings: PrometheusSettings) -> tuple[AlertRule, ...]:
    limit, window, sustained = settings.thresholds.error_percent, settings.window, settings.sustained
    failed = (
        f'sum by (host) (rate(http_request_duration_seconds_count{{{_REQUESTS},status=~"5.."}}[{window}s]))'
    )
    total = f"(sum by (host) (rate(http_request_duration_seconds_count{{{_REQUESTS}}}[{window}s])) > 0)"
    lost = f'sum by (host) (rate(clawd_messages_total{{outcome=~"{FAILED}"}}[{window}s]))'
    dealt = f'(sum by (host) (rate(clawd_messages_total{{channel!="alerts"}}[{window}s])) > 0)'
    return (
        AlertRule(
            "RequestErrors",
            f"100 * {failed} / {total} > {limit:g}",
            sustained,
            f'{{{{ $value | printf "%.2f" }}}} % of HTTP requests fail, more than {limit:g} %.',
            f'HTTP 请求错误率为 {{{{ $value | printf "%.2f" }}}} %，超过 {limit:g} %。',
        ),
        AlertRule(
            "MessageErrors",
            f"100 * {lost} / {dealt} > {limit:g}",
            sustained,
            f'{{{{ $value | printf "%.2f" }}}} % of messages get no answer, more than {limit:g} %.',
            f'{{{{ $value | printf "%.2f" }}}} % 的消息未能得到回答，超过 {limit:g} %。',
        ),
        AlertRule(
            "MessageGivenUp",
            f'sum by (host, channel) (increase(clawd_messages_total{{outcome="poison"}}[{window}s])) > 0',
            0,
            "The bot gave a message of {{ $labels.channel }} up: it ended three times while answering it. "
            "Its log names the message.",
            "机器人在处理 {{ $labels.channel }} 的一条消息时三次异常退出，已放弃该消息；详见机器人日志。",
        ),
        AlertRule(
            "ModelDown",
            "clawd_model_usable == 0",
            sustained,
            "The model {{ $labels.model }} does not answer; the bot uses the fallback, if there is one.",
            "模型 {{ $labels.model }} 无法应答；如已配置备用模型，机器人正在使用备用模型。",
        ),
        AlertRule(
            "PolicyInvalid",
            "clawd_policy_valid == 0",
            0,
            "The bot cannot use its policy file and keeps the last policy; its log names the mistakes.",
            "机器人无法使用策略文件，仍沿用上一份策略；具体错误见机器人日志。",
        ),
        AlertRule(
            "DeliveriesFail",
            f'delta(clawd_outbox_depth{{state=~"dead|doubtful"}}[{window}s]) > 0',
            0,
            "Answers could not be delivered, or not surely ({{ $labels.state }}).",
            "有回答未能送达或无法确认送达（{{ $labels.state }}）。",
        ),
        AlertRule(
            "AlertsNotTold",
            f"rate(alertmanager_notifications_failed_total[{window}s]) > 0",
            sustained,
            "Alertmanager cannot send its alerts to the bot.",
            "Alertmanager 无法将告警发送给机器人。",
        ),
    )


def _room(settings: PrometheusSettings) -> tuple[AlertRule, ...]:
    limits, sustained = settings.thresholds, settings.sustained
    bot = int(settings.bot_memory * limits.memory_percent / 100)
    days = limits.certificate_days
    return (
        AlertRule(
            "MemoryHigh",
            "100 * (1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)"
            f" > {limits.memory_percent:g}",
            sustained,
            f'{{{{ $value | printf "%.0f" }}}} % of memory is in use, more than {limits.memory_percent:g} %.',
            f'内存占用率为 {{{{ $value | printf "%.0f" }}}} %，超过 {limits.memory_percent:g} %。',
        ),
        AlertRule(
            "BotMemoryHigh",
            f'process_resident_memory_bytes{{job="clawd-bot"}} > {bot}',
            sustained,
            "The bot uses {{ $value | humanize1024 }}B of memory, "
            f"more than {limits.memory_percent:g} % of what it may.",
            f"机器人占用内存 {{{{ $value | humanize1024 }}}}B,超过其上限的 {limits.memory_percent:g} %。",
        ),
        AlertRule(
            "DiskFull",
            '100 * (1 - node_filesystem_avail_bytes{fstype!~"tmpfs|ramfs|fuse.*|iso9660"}'
            ' / node_filesystem_size_bytes{fstype!~"tmpfs|ramfs|fuse.*|iso9660"})'
            f" > {limits.disk_percent:g}",
            sustained,
            '{{ $labels.mountpoint }} is {{ $value | printf "%.0f" }} % full.',
            '{{ $labels.mountpoint }} 已使用 {{ $value | printf "%.0f" }} %。',
        ),
        AlertRule(
            "TooManySessions",
            f"clawd_inbox_depth > {limits.sessions}",
            sustained,
            f"{{{{ $value }}}} messages wait for an answer, more than {limits.sessions}.",
            f"有 {{{{ $value }}}} 条消息等待回答，超过 {limits.sessions} 条。",
        ),
        AlertRule(
            "CertificateExpires",
            f"(probe_ssl_earliest_cert_expiry - time()) / 86400 < {days}",
            sustained,
            'The certificate ends in {{ $value | printf "%.1f" }} days.',
            '证书将在 {{ $value | printf "%.1f" }} 天后到期。',
        ),
        AlertRule(
            "CertificateNotRenewed",
            "clawd_tls_renewal_failed > 0",
            sustained,
            "The last attempt at a new certificate failed; `journalctl -u clawd-tls` on the host shows why.",
            "最近一次证书续期失败；原因见主机上的 `journalctl -u clawd-tls`。",
        ),
        AlertRule(
            "ServiceCertificateExpires",
            f"(clawd_certificate_not_after_seconds - time()) / 86400 < {LEAST_DAYS}",
            sustained,
            'The certificate of {{ $labels.service }} ends in {{ $value | printf "%.1f" }} days: '
            "run `clawd-provision up`, which renews it.",
            '{{ $labels.service }} 的证书将在 {{ $value | printf "%.1f" }} 天后到期：'
            "请运行 `clawd-provision up` 进行续期。",
        ),
        AlertRule(
            "GpuHot",
            f"clawd_gpu_temperature_celsius > {limits.gpu_celsius}",
            sustained,
            "GPU {{ $labels.gpu }} has {{ $value }} °C.",
            "GPU {{ $labels.gpu }} 温度为 {{ $value }} °C。",
        ),
    )


def _kept(settings: PrometheusSettings) -> tuple[AlertRule, ...]:
    return (
        AlertRule(
            "BackupFailed",
            "clawd_database_backup_success == 0",
            settings.sustained,
            "The last backup of the database failed: see `journalctl -u clawd-database-backup` there.",
            "最近一次数据库备份失败；原因见主机上的 `journalctl -u clawd-database-backup`。",
            "critical",
        ),
        AlertRule(
            "BackupOld",
            f"time() - clawd_database_backup_last_success_timestamp_seconds > {MOST_HOURS * 3600}",
            settings.sustained,
            "The newest backup of the database is {{ $value | humanizeDuration }} old, "
            f"more than {MOST_HOURS} hours.",
            f"最新的数据库备份已有 {{{{ $value | humanizeDuration }}}}，超过 {MOST_HOURS} 小时。",
            "critical",
        ),
    )


def _down(settings: PrometheusSettings) -> tuple[AlertRule, ...]:
    soon = settings.sustained // 5
    return (
        _outage("BotDown", 'up{job="clawd-bot"} == 0', soon, "The bot does not answer.", "机器人没有响应。"),
        _outage(
            "EngineDown",
            'up{job=~"clawd-engine(@.*)?"} == 0',
            soon,
            "The engine does not answer.",
            "模型引擎没有响应。",
        ),
        _outage("HostDown", 'up{job="node"} == 0', soon, "The host does not answer.", "主机没有响应。"),
        _outage(
            "FrontDown",
            "probe_success == 0",
            soon,
            "The front does not answer by HTTPS, or not with a certificate that holds.",
            "HTTPS 入口没有响应，或证书无效。",
        ),
        _outage("NginxDown", "nginx_up == 0", soon, "nginx does not answer.", "nginx 没有响应。"),
        _outage("DatabaseDown", "pg_up == 0", soon, "PostgreSQL does not answer.", "PostgreSQL 没有响应。"),
        _outage("GpuGone", "clawd_gpu_up == 0", soon, "nvidia-smi does not answer.", "nvidia-smi 没有响应。"),
        AlertRule(
            "NotMeasured",
            'up{job!~"clawd-.*|node"} == 0',
            settings.sustained,
            "{{ $labels.job }} cannot be measured.",
            "无法采集 {{ $labels.job }} 的指标。",
        ),
    )


def _outage(name: str, expr: str, sustained: int, en: str, zh: str) -> AlertRule:
    return AlertRule(name, expr, sustained, en, zh, "critical")

"""Contents of the dashboards, as values: what the alert rules evaluate, and more. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from deploys.prometheus.rules import FAILED, HOUSEKEEPING
from inventory.sections.monitoring import Thresholds

RATE = "$__rate_interval"
"""Grafana's own window: at least four measurements, more when a long time is shown."""
REQUESTS = f'job="clawd-bot",path!~"{HOUSEKEEPING}"'


@dataclass(frozen=True, slots=True)
class Query:
    """One line of a panel, or one for each series; `legend` names it, with `{{label}}`."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A diagram over time, in a unit of Grafana's. `limit` is drawn as a line: an alert fires beyond it."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a common title."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard; `uid` never changes, since links contain it."""

    uid: str
    title: str
    rows: tuple[Row, ...] = field(default=())


def boards(limits: Thresholds) -> tuple[Board, ...]:
    """Return every dashboard."""
    return (
        Board(
            "clawd-bots",
            "Clawd bots",
            (_messages(limits), _requests(limits), _model(limits), _queues(limits)),
        ),
        Board("clawd-hosts", "Clawd hosts", (_host(limits), _services(limits), _gpu(limits))),
    )


def _quantiles(histogram: str, labels: str) -> tuple[Query, ...]:
    buckets = f"sum by (le, host) (rate({histogram}_bucket{{{labels}}}[{RATE}]))"
    return tuple(
        Query(f"histogram_quantile({quantile}, {buckets})", f"P{quantile * 100:g} {{{{host}}}}")
        for quantile in (0.5, 0.95, 0.99)
    )


def _messages(limits: Thresholds) -> Row:
    failed = f'sum by (host) (rate(clawd_messages_total{{outcome=~"{FAILED}"}}[{RATE}]))'
    dealt = f"sum by (host) (rate(clawd_messages_total[{RATE}]))"
    by_outcome = f"sum by (channel, outcome) (rate(clawd_messages_total[{RATE}]))"
    return Row(
        "Messages",
        (
            Panel(
                "From a message to its answer",
                "s",
                _quantiles("clawd_handling_seconds", 'job="clawd-bot"'),
                limits.handling_seconds,
            ),
            Panel("Messages", "cps", (Query(by_outcome, "{{channel}} {{outcome}}"),)),
            Panel(
                "Messages without an answer",
                "percent",
                (Query(f"100 * {failed} / ({dealt} > 0)", "{{host}}"),),
                limits.error_percent,
            ),
        ),
    )


def _requests(limits: Thresholds) -> Row:
    count = "http_request_duration_seconds_count"
    failed = f'sum by (host) (rate({count}{{{REQUESTS},status=~"5.."}}[{RATE}]))'
    total = f"sum by (host) (rate({count}{{{REQUESTS}}}[{RATE}]))"
    by_status = f"sum by (path, status) (rate({count}{{{REQUESTS}}}[{RATE}]))"
    return Row(
        "HTTP",
        (
            Panel(
                "Time until an answer begins",
                "s",
                _quantiles("http_request_duration_seconds", REQUESTS),
                limits.request_seconds,
            ),
            Panel("Requests", "reqps", (Query(by_status, "{{path}} {{status}}"),)),
            Panel(
                "Requests that fail",
                "percent",
                (Query(f"100 * {failed} / ({total} > 0)", "{{host}}"),),
                limits.error_percent,
            ),
        ),
    )


def _model(limits: Thresholds) -> Row:
    waited = f"rate(clawd_engine_queue_seconds_sum[{RATE}]) + rate(clawd_engine_prefill_seconds_sum[{RATE}])"
    started = f"(rate(clawd_engine_prefill_seconds_count[{RATE}]) > 0)"
    return Row(
        "Model",
        (
            Panel(
                "Until an answer begins",
                "s",
                (Query(f"({waited}) / {started}", "{{host}}"),),
                limits.response_seconds,
            ),
            Panel(
                "Tokens",
                "cps",
                (
                    Query(f"rate(clawd_engine_completion_tokens_total[{RATE}])", "written {{host}}"),
                    Query(f"rate(clawd_engine_prefill_tokens_total[{RATE}])", "read {{host}}"),
                    Query(
                        f"rate(clawd_engine_prompt_tokens_reused_total[{RATE}])", "not read again {{host}}"
                    ),
                ),
            ),
            Panel(
                "Loading the model",
                "s",
                (Query("clawd_engine_model_load_seconds", "{{host}}"),),
                limits.model_load_seconds,
            ),
        ),
    )


def _queues(limits: Thresholds) -> Row:
    return Row(
        "Queues",
        (
            Panel("Messages that wait", "short", (Query("clawd_inbox_depth", "{{host}}"),), limits.sessions),
            Panel(
                "To be sent, or not delivered",
                "short",
                (Query("clawd_outbox_depth", "{{state}} {{host}}"),),
            ),
            Panel(
                "Memory of the bot",
                "bytes",
                (Query('process_resident_memory_bytes{job="clawd-bot"}', "{{host}}"),),
            ),
        ),
    )


def _host(limits: Thresholds) -> Row:
    disks = 'fstype!~"tmpfs|ramfs|fuse.*|iso9660"'
    free = f"node_filesystem_avail_bytes{{{disks}}} / node_filesystem_size_bytes{{{disks}}}"
    busy = f'100 * (1 - avg by (host) (rate(node_cpu_seconds_total{{mode="idle"}}[{RATE}])))'
    memory = "100 * (1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)"
    return Row(
        "Hosts",
        (
            Panel("Memory in use", "percent", (Query(memory, "{{host}}"),), limits.memory_percent),
            Panel("Processors busy", "percent", (Query(busy, "{{host}}"),)),
            Panel(
                "Disks in use",
                "percent",
                (Query(f"100 * (1 - {free})", "{{host}} {{mountpoint}}"),),
                limits.disk_percent,
            ),
        ),
    )


def _services(limits: Thresholds) -> Row:
    return Row(
        "Services",
        (
            Panel(
                "Answering",
                "short",
                (Query("up", "{{job}} {{host}}"), Query("probe_success", "front {{host}}")),
            ),
            Panel(
                "Days until certificates end",
                "short",
                (Query("(probe_ssl_earliest_cert_expiry - time()) / 86400", "{{host}}"),),
                limits.certificate_days,
            ),
            Panel(
                "Connections",
                "short",
                (
                    Query("nginx_connections_active", "nginx {{host}}"),
                    Query("sum by (host) (pg_stat_activity_count)", "PostgreSQL {{host}}"),
                ),
            ),
        ),
    )


def _gpu(limits: Thresholds) -> Row:
    used = "100 * clawd_gpu_memory_used_bytes / clawd_gpu_memory_total_bytes"
    return Row(
        "GPUs",
        (
            Panel(
                "Temperature",
                "celsius",
                (Query("clawd_gpu_temperature_celsius", "{{host}} {{gpu}}"),),
                limits.gpu_celsius,
            ),
            Panel("Memory", "percent", (Query(used, "{{host}} {{gpu}}"),)),
            Panel("Busy", "percentunit", (Query("clawd_gpu_utilization_ratio", "{{host}} {{gpu}}"),)),
        ),
    )

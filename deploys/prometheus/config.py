"""prometheus.yml and its command line. Pure."""

from __future__ import annotations

from typing import Any

from deploys.exporters.exporter import CERTIFICATE_FILES, module_of
from deploys.prometheus.rules import yaml_text
from deploys.prometheus.settings import PrometheusSettings, ScrapeJob, Target
from deploys.topology.monitoring import ALERTMANAGER_PORT, BLACKBOX_PORT, PROMETHEUS_PORT

CONFIG = "/etc/prometheus/prometheus.yml"
RULES = "/etc/prometheus/clawd-rules.yml"
DATA = "/var/lib/clawd-prometheus"


def arguments(settings: PrometheusSettings) -> tuple[str, ...]:
    """Return its arguments. It listens on loopback: its data is read through Grafana, or an SSH tunnel."""
    return (
        f"--config.file={CONFIG}",
        f"--storage.tsdb.path={DATA}",
        f"--storage.tsdb.retention.size={settings.retention_size}B",
        f"--web.listen-address=127.0.0.1:{PROMETHEUS_PORT}",
    )


def config(settings: PrometheusSettings) -> str:
    """Return prometheus.yml."""
    return yaml_text(
        {
            "global": {
                "scrape_interval": f"{settings.scrape_interval}s",
                "scrape_timeout": f"{min(settings.scrape_interval, 10)}s",
                "evaluation_interval": f"{settings.evaluation_interval}s",
                "external_labels": {"project": settings.project},
            },
            "rule_files": [RULES],
            "alerting": {
                "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{ALERTMANAGER_PORT}"]}]}]
            },
            "scrape_configs": [_job(job) for job in settings.jobs],
        }
    )


def _job(job: ScrapeJob) -> dict[str, Any]:
    scraped: dict[str, Any] = {
        "job_name": job.name,
        "metrics_path": job.path,
        "static_configs": [_target(target) for target in job.targets],
    }
    if any(target.scheme == "https" for target in job.targets):
        chain, key, trusted = CERTIFICATE_FILES
        scraped["tls_config"] = {"ca_file": trusted, "cert_file": chain, "key_file": key}
    if any(target.module for target in job.targets):
        # The request goes to the exporter, with the front as its parameter; the front stays the instance.
        scraped["relabel_configs"] = [
            {"source_labels": ["__address__"], "target_label": "__param_target"},
            {"source_labels": ["__address__"], "target_label": "instance"},
            {"target_label": "__address__", "replacement": f"127.0.0.1:{BLACKBOX_PORT}"},
        ]
    return scraped


def _target(target: Target) -> dict[str, Any]:
    labels = {"host": target.host}
    if target.scheme != "http":
        labels["__scheme__"] = target.scheme
    if target.module:
        labels["__param_module"] = module_of(target.module)
    return {"targets": [target.address], "labels": labels}

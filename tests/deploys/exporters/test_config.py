"""Configuration of the exporters, as files that a person has read."""

from __future__ import annotations

import json
from pathlib import Path

from deploys.exporters import certificates, gpu
from deploys.exporters.deploy import MEMORY_MAX
from deploys.exporters.exporter import (
    CERTIFICATE_FILES,
    WEB_CONFIG,
    blackbox_config,
    defaults_text,
    exporters,
    web_config,
)
from deploys.exporters.settings import ExportersSettings, Front, settings_for
from deploys.metrics import TEXTFILES
from deploys.ops.paths.files import rendered
from tests.deploys.golden import assert_golden
from tests.deploys.monitoring import monitored

GOLDEN = Path(__file__).parent / "golden"


def declared(hosts: dict[str, list[str]], host: str) -> ExportersSettings:
    found = settings_for(monitored(hosts, database={"password": "0123456789abcdef"}), host)
    assert found
    return found


def everything() -> ExportersSettings:
    return declared({"bot1": ["runtime"], "all": ["nginx", "database", "monitoring"]}, "all")


def watched() -> ExportersSettings:
    """Of a host that another one scrapes."""
    hosts = {"bot1": ["runtime"], "both": ["nginx", "database"], "watch": ["monitoring"]}
    return declared(hosts, "both")


def test_arguments_and_unit_drop_ins_of_exporters_equal_golden_files() -> None:
    listed = exporters(everything())
    assert len(listed) == 4
    for exporter in listed:
        text = defaults_text(exporter.arguments, exporter.environment)
        assert_golden(GOLDEN / f"{exporter.package}.default", text)
        values = {"after": exporter.after, "memory_max": MEMORY_MAX}
        assert_golden(GOLDEN / f"{exporter.package}.conf", rendered("exporters/service.conf", values))


def test_exporters_scraped_by_another_host_require_mutual_tls() -> None:
    assert_golden(GOLDEN / "clawd-web.yml", web_config())
    for exporter in exporters(watched()):
        assert "--web.config.file=/etc/prometheus/clawd-web.yml" in exporter.arguments
        assert {WEB_CONFIG, *CERTIFICATE_FILES} <= set(exporter.watched), "a new certificate restarts it"
    assert not [
        part for exporter in exporters(everything()) for part in exporter.arguments if "web.c" in part
    ]


def test_old_nginx_exporter_gets_its_own_tls_options() -> None:
    (nginx,) = [found for found in exporters(watched(), toolkit=False) if "nginx" in found.package]
    assert nginx.arguments[2:] == (
        "--web.secured-metrics",
        "--web.ssl-server-cert=/etc/clawd/monitoring/fullchain.pem",
        "--web.ssl-server-key=/etc/clawd/monitoring/privkey.pem",
    )
    assert set(CERTIFICATE_FILES) <= set(nginx.watched)


def test_blackbox_configuration_equals_golden_file() -> None:
    assert_golden(GOLDEN / "blackbox.yml", blackbox_config(everything()))


def test_gpu_metrics_unit_equals_golden_file() -> None:
    values = {"output": gpu.OUTPUT, "folder": TEXTFILES}
    assert_golden(GOLDEN / gpu.SERVICE, rendered(f"exporters/{gpu.SERVICE}", values))


def test_certificate_metrics_unit_equals_golden_file() -> None:
    name = certificates.SERVICE
    assert_golden(GOLDEN / name, rendered(f"exporters/{name}", certificates.VALUES))


def test_probe_of_an_ipv6_front_has_a_host_header_in_brackets() -> None:
    front = Front(host="web1", address="[2001:db8::1]:443", name="2001:db8::1")
    module = json.loads(blackbox_config(everything().model_copy(update={"fronts": (front,)})))["modules"]
    http = module["front_web1"]["http"]
    assert http["headers"] == {"Host": "[2001:db8::1]"}
    assert http["tls_config"]["server_name"] == "2001:db8::1"

"""What the exporters are told, as files that a person has read."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploys.exporters import certificates, gpu
from deploys.exporters.deploy import MEMORY_MAX
from deploys.exporters.exporter import blackbox_config, defaults_text, exporters
from deploys.exporters.settings import ExportersSettings, settings_for
from deploys.ops.files import rendered
from tests.deploys.golden import assert_golden
from tests.deploys.monitoring import monitored

GOLDEN = Path(__file__).parent / "golden"


def everything() -> ExportersSettings:
    hosts = {"bot1": ["runtime"], "all": ["nginx", "database", "monitoring"]}
    declared = monitored(hosts, database={"password": "0123456789abcdef"})
    found = settings_for(declared, "all")
    assert found
    return found


def test_every_exporter_has_its_arguments_and_what_is_ours_about_its_unit() -> None:
    listed = exporters(everything())
    assert len(listed) == 4
    for exporter in listed:
        text = defaults_text(exporter.arguments, exporter.environment)
        assert_golden(GOLDEN / f"{exporter.package}.default", text)
        values = {"after": exporter.after, "memory_max": MEMORY_MAX}
        assert_golden(GOLDEN / f"{exporter.package}.conf", rendered("exporters/service.conf", values))


def test_probes_of_fronts() -> None:
    assert_golden(GOLDEN / "blackbox.yml", blackbox_config(everything()))


@pytest.mark.parametrize("name", ["gpu-metrics", gpu.SERVICE, gpu.TIMER])
def test_gpus(name: str) -> None:
    values = {"output": gpu.OUTPUT, "folder": gpu.TEXTFILES}
    assert_golden(GOLDEN / name, rendered(f"exporters/{name}", values))


@pytest.mark.parametrize("name", ["certificate-metrics", certificates.SERVICE, certificates.TIMER])
def test_certificates(name: str) -> None:
    assert_golden(GOLDEN / name, rendered(f"exporters/{name}", certificates.VALUES))

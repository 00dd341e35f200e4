"""Configuration of the programs, as files that a person has read, and as others read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from ruamel.yaml import YAML

from deploys.elasticsearch.deploy import values
from deploys.elasticsearch.host import MAP_COUNT, HostMemory
from deploys.elasticsearch.settings import settings_for
from deploys.filebeat.deploy import values as filebeat_values
from deploys.filebeat.settings import settings_for as filebeat_for
from deploys.kibana.deploy import environment as kibana_environment
from deploys.kibana.deploy import values as kibana_values
from deploys.kibana.settings import KibanaSettings
from deploys.kibana.settings import settings_for as kibana_for
from deploys.logstash.deploy import values as logstash_values
from deploys.logstash.settings import settings_for as logstash_for
from deploys.ops.paths.files import rendered
from tests.deploys.elasticsearch.test_settings import ONE, THREE, declared
from tests.deploys.golden import assert_golden

GOLDEN = Path(__file__).parent / "golden"


def elasticsearch(hosts: dict[str, list[str]], name: str, *, maps_files: bool = True) -> str:
    settings = settings_for(declared(hosts), name)
    assert settings is not None
    return rendered("elasticsearch/elasticsearch.yml", values(settings, maps_files=maps_files))


def kibana(**logs: Any) -> tuple[KibanaSettings, str]:
    settings = kibana_for(declared(ONE, **logs), "log1")
    assert settings is not None
    return settings, rendered("kibana/kibana.yml", kibana_values(settings))


def read(text: str) -> Any:
    return YAML(typ="safe").load(text)


def test_elasticsearch_configuration_of_one_node_equals_golden_file() -> None:
    text = elasticsearch(ONE, "log1")
    assert_golden(GOLDEN / "alone.yml", text)
    assert read(text)["discovery.type"] == "single-node"


def test_elasticsearch_configuration_of_three_nodes_equals_golden_file() -> None:
    text = elasticsearch(THREE, "log2", maps_files=False)
    assert_golden(GOLDEN / "three.yml", text)
    config = read(text)
    assert config["discovery.seed_hosts"] == ["10.0.0.2:9300", "10.0.0.3:9300", "10.0.0.4:9300"]
    assert "cluster.initial_master_nodes" not in config
    assert config["node.store.allow_mmap"] is False


@pytest.mark.parametrize(
    ("machine", "maps"),
    [
        (HostMemory(map_count=65530, settable=True), True),
        (HostMemory(map_count=65530, settable=False), False),
        (HostMemory(map_count=262144, settable=False), True),
    ],
)
def test_memory_mapping_is_used_unless_the_host_refuses_it(machine: HostMemory, maps: bool) -> None:
    assert machine.maps_files is maps


def test_kibana_configuration_equals_golden_file() -> None:
    settings, text = kibana()
    assert_golden(GOLDEN / "kibana.yml", text)
    _, opened = kibana(kibana_from=["10.9.0.0/16"])
    assert read(text)["server.host"] == "127.0.0.1"
    assert read(opened)["server.host"] == "0.0.0.0"
    for key in settings.keys.values():
        assert key.get_secret_value() not in text
        assert key.get_secret_value() in kibana_environment(settings)


def test_other_elasticsearch_files_equal_golden_files() -> None:
    golden = {
        "elasticsearch-jvm.options": rendered("elasticsearch/jvm.options", {"heap": 1024}),
        "elasticsearch-sysctl.conf": rendered("elasticsearch/sysctl.conf", {"count": MAP_COUNT}),
        "kibana-service.conf": rendered("kibana/service.conf", kibana_values(kibana()[0])),
    }
    for name, text in golden.items():
        assert_golden(GOLDEN / name, text)


def test_filebeat_configuration_equals_golden_files() -> None:
    for name in ("bot1", "log1"):
        settings = filebeat_for(declared(THREE), name)
        assert settings is not None
        text = rendered("filebeat/filebeat.yml", filebeat_values(settings, "0" * 32))
        assert_golden(GOLDEN / f"filebeat-{name}.yml", text)
        inputs = read(text)["filebeat.inputs"]
        assert [item["fields"]["data_stream"]["dataset"] for item in inputs] == [
            f"clawd.{dataset}" for dataset in settings.datasets
        ]


def test_logstash_configuration_equals_golden_files() -> None:
    settings = logstash_for(declared(THREE), "log1")
    assert settings is not None
    for name in ("clawd.conf", "logstash.yml", "pipelines.yml", "service.conf"):
        text = rendered(f"logstash/{name}", logstash_values(settings))
        assert_golden(GOLDEN / f"logstash-{name}", text)
        assert isinstance(settings.password, SecretStr)
        assert settings.password.get_secret_value() not in text

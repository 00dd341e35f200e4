from __future__ import annotations

import pytest

from deploys.elasticsearch.settings import heap_for, needs_for, openings_for, settings_for
from deploys.filebeat.settings import settings_for as filebeat_for
from deploys.kibana.deploy import values as kibana_values
from deploys.kibana.settings import NATIVE as KIBANA_NATIVE
from deploys.kibana.settings import needs_for as kibana_needs
from deploys.kibana.settings import openings_for as kibana_openings
from deploys.kibana.settings import settings_for as kibana_for
from deploys.logstash.deploy import values as logstash_values
from deploys.logstash.settings import NATIVE as LOGSTASH_NATIVE
from deploys.logstash.settings import needs_for as logstash_needs
from deploys.logstash.settings import openings_for as logstash_openings
from deploys.logstash.settings import settings_for as logstash_for
from deploys.ops.paths.files import rendered
from deploys.resources import HostResources
from inventory.model import Inventory
from inventory.values import MIB
from tests.deploys.inventories import inventory

UNKNOWN = HostResources(None, None)

GIB = 1 << 30
BOT = {"bot1": ["runtime", "nginx"]}
ONE = {**BOT, "log1": ["logs"]}
THREE = {**BOT, "log1": ["logs"], "log2": ["logs"], "log3": ["logs"]}


def declared(hosts: dict[str, list[str]], **logs: object) -> Inventory:
    return inventory(hosts, logs={"password": "p" * 32, **logs})


def test_no_host_has_log_components_without_a_log_host() -> None:
    for of in (settings_for, logstash_for, kibana_for, filebeat_for):
        assert of(inventory(), "bot1") is None


def test_one_log_host_stores_lines_of_every_host() -> None:
    one = declared(ONE)
    node = settings_for(one, "log1")
    assert node is not None
    assert (node.alone, node.leads, node.address) == (True, True, "10.0.0.2")
    assert settings_for(one, "bot1") is None
    sent = {name: filebeat_for(one, name) for name in ONE}
    datasets = {name: of.datasets for name, of in sent.items() if of}
    assert datasets == {
        "bot1": ("bot", "engine", "nginx_access", "nginx_error", "audit"),
        "log1": ("audit",),
    }
    assert {of.logstash for of in sent.values() if of} == {("10.0.0.2:5044",)}


def test_three_log_hosts_store_lines_and_the_first_leads() -> None:
    three = declared(THREE)
    nodes = [settings_for(three, name) for name in ("log1", "log2", "log3")]
    assert [(node.alone, node.leads) for node in nodes if node] == [
        (False, True),
        (False, False),
        (False, False),
    ]
    assert [kibana_for(three, name) is not None for name in THREE] == [False, True, False, False]
    logstash = logstash_for(three, "log2")
    assert logstash is not None
    assert logstash.elasticsearch == (
        "https://127.0.0.1:9200",
        "https://10.0.0.2:9200",
        "https://10.0.0.4:9200",
    )
    sends = filebeat_for(three, "bot1")
    assert sends is not None
    assert sends.logstash == ("10.0.0.2:5044", "10.0.0.3:5044", "10.0.0.4:5044")


def test_logstash_and_elasticsearch_derive_the_same_writer_password() -> None:
    one = declared(ONE)
    node, logstash, kibana = settings_for(one, "log1"), logstash_for(one, "log1"), kibana_for(one, "log1")
    assert node is not None
    assert logstash is not None
    assert kibana is not None
    assert node.writer_password == logstash.password
    assert node.password == kibana.password
    assert len({node.password, node.writer_password, *kibana.keys.values()}) == 5


def test_openings_admit_only_other_log_hosts_and_senders() -> None:
    one, three = declared(ONE), declared(THREE)
    assert openings_for(one, "log1") == ()
    opened = openings_for(three, "log2")
    assert {(item.port, item.sources) for item in opened} == {
        (9200, ("10.0.0.2", "10.0.0.4")),
        (9300, ("10.0.0.2", "10.0.0.4")),
    }
    assert openings_for(three, "bot1") == ()
    (beats,) = logstash_openings(one, "log1")
    assert (beats.port, beats.sources) == (5044, ("10.0.0.1",))
    assert logstash_openings(one, "bot1") == ()


def test_kibana_is_reachable_only_from_declared_networks() -> None:
    assert kibana_openings(declared(ONE), "log1") == ()
    (opening,) = kibana_openings(declared(ONE, kibana_from=["10.9.0.0/16"]), "log1")
    assert (opening.port, opening.sources) == (5601, ("10.9.0.0/16",))


def test_needs_of_all_log_components_fit_a_host_of_4_gb() -> None:
    one = declared(ONE)
    has = HostResources.declared(one.hosts["log1"])
    needs = [
        *needs_for(one, "log1", has),
        *logstash_needs(one, "log1", has),
        *kibana_needs(one, "log1", has),
    ]
    assert sum(need.memory for need in needs) == (1536 + 896 + 768) << 20
    lines = next(need for need in needs if need.what == "log lines")
    assert lines.disk == 50 * (1 << 20) * 190
    assert lines.how == "50M a day × 190 days × 1 copy on 1 host"
    assert needs_for(one, "bot1", has) == ()


@pytest.mark.parametrize(("gib", "heap"), [(4, 1024), (8, 2048), (16, 4096), (32, 8192)])
def test_counted_heap_equals_the_configured_heap(gib: int, heap: int) -> None:
    """Of all three programs: as their settings and templates give it to them."""
    (node,) = declared({"log1": ["logs"]}).hosts.values()
    host = node.model_copy(update={"memory": f"{gib}G"})
    one = declared({"log1": ["logs"]}).model_copy(update={"hosts": {"log1": host}})
    assert heap_for(gib * GIB, None) == heap * MIB
    (memory, _) = needs_for(one, "log1", HostResources.declared(one.hosts["log1"]))
    assert memory.memory == heap * 3 // 2 * MIB
    assert memory.how.startswith(f"heap {heap} MiB (a quarter of {gib * 1024} MiB), and half of it again")
    logstash, kibana = logstash_for(one, "log1"), kibana_for(one, "log1")
    assert logstash is not None
    assert kibana is not None
    has = HostResources.declared(one.hosts["log1"])
    (of_logstash,), (of_kibana,) = logstash_needs(one, "log1", has), kibana_needs(one, "log1", has)
    java = rendered("logstash/service.conf", logstash_values(logstash))
    node_js = rendered("kibana/service.conf", kibana_values(kibana))
    assert f"-Xmx{(of_logstash.memory - LOGSTASH_NATIVE) // MIB}m" in java
    assert f"--max-old-space-size={(of_kibana.memory - KIBANA_NATIVE) // MIB}\n" in node_js


def test_declared_heap_is_counted_on_any_host() -> None:
    (memory, _) = needs_for(declared(ONE, elasticsearch_heap="3G"), "log1", UNKNOWN)
    assert memory.memory == 4608 * MIB
    assert "heap 3072 MiB (logs.elasticsearch_heap)" in memory.how


def test_disk_need_is_two_copies_divided_by_three_hosts() -> None:
    lines = needs_for(declared(THREE, daily="3G", keep_days=365), "log1", UNKNOWN)[1]
    assert lines.disk == 3 * GIB * 365 * 2 // 3
    assert lines.how == "3G a day × 365 days × 2 copies on 3 hosts"


@pytest.mark.parametrize(
    ("memory", "heap", "given"),
    [
        (4 * GIB, None, 1 * GIB),
        (1 * GIB, None, GIB // 2),
        (16 * GIB, None, 4 * GIB),
        (512 * GIB, None, 30 * GIB),
        (4 * GIB, "2G", 2 * GIB),
    ],
)
def test_heap_defaults_to_a_part_of_the_memory(memory: int, heap: str | None, given: int) -> None:
    assert heap_for(memory, heap) == given


def test_heap_of_more_than_half_the_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="3G is more than half of the host's 4096 MiB"):
        heap_for(4 * GIB, "3G")

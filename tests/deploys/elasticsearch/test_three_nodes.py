"""Three log hosts of stand-in packages: one cluster, founded once, and lines by any of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise

import pytest

from inventory.load import LoadedInventory
from tests.deploys.elasticsearch.onhosts import FAR, VERSION, LogHost, trusting, writing
from tests.hosts import ROOT, Box, Host, on_hosts, secret, standing, together
from tests.standins.elastic.build import build, serving

pytestmark = on_hosts(pytest.mark.campaign, seconds=1500)

RELEASES = ("bookworm", "trixie", "bookworm")
RECOVERS_S = 4.0
"""How long the stand-in's cluster is yellow after a node restarts."""
MOMENTS = ("ActiveExit", "ActiveEnter")
FORMED = "/var/lib/clawd/state/elasticsearch-formed"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[LogHost]]:
    folder = tmp_path_factory.mktemp("three")
    repository = build(folder, VERSION)
    with (
        standing(folder, "clek", 93, RELEASES) as box,
        serving(repository.folder, box.machine) as url,
    ):
        loaded = declared(box, {"mirror": url, **trusting(repository)})
        yield [LogHost.of(Host(box, name), loaded) for name in box.names]


def declared(box: Box, packages: dict[str, str]) -> LoadedInventory:
    """An inventory of three log hosts that get their packages so."""
    first, *others = (Host(box, name) for name in box.names)
    other_hosts = {first.name: {}, **{host.name: host.declared("logs") for host in others}, **FAR}
    password = secret("the-password-of-the-log-hosts-of-this-test")
    return first.loaded("logs", others=other_hosts, logs={"password": password, "packages": packages})


def all_at_once(hosts: list[LogHost]) -> dict[str, frozenset[str]]:
    """What applying everything to all of them changes, host by host."""
    return together({host.name: host for host in hosts}, LogHost.up)


def node_of(host: LogHost) -> dict[str, object]:
    found: dict[str, object] = json.loads(host.on("cat /var/lib/elasticsearch/node.json"))
    return found


def test_first_node_bootstraps_the_cluster_and_others_join(hosts: list[LogHost]) -> None:
    all_at_once(hosts)
    assert [set(host.settings) for host in hosts] == [
        {"elasticsearch", "logstash", "kibana", "filebeat"},
        {"elasticsearch", "logstash", "filebeat"},
        {"elasticsearch", "logstash", "filebeat"},
    ]
    assert len({str(node_of(host)["uuid"]) for host in hosts}) == 1
    assert [node_of(host)["master"] for host in hosts] == [True, False, False]
    for host in hosts:
        assert "initial_master_nodes" not in host.on("cat /etc/elasticsearch/elasticsearch.yml")
        assert host.ask("GET", "/_cluster/health")["number_of_nodes"] == 3
        assert host.failing() == set()


def test_second_run_changes_nothing_and_makes_no_writing_call(hosts: list[LogHost]) -> None:
    before = [len(host.calls("elasticsearch")) for host in hosts]
    assert not any(all_at_once(hosts).values())
    for host, known in zip(hosts, before, strict=True):
        assert writing(host.calls("elasticsearch")[known:]) == []
    assert writing(hosts[1].calls("elasticsearch")) == []


def restarted(host: LogHost) -> tuple[float, float]:
    """When Elasticsearch was last stopped and when it served again: seconds of the clock that hosts share."""
    asked = (f"systemctl show --value elasticsearch -p {what}TimestampMonotonic" for what in MOMENTS)
    stopped, served = host.on("; ".join(asked)).split()
    return int(stopped) / 1e6, int(served) / 1e6


def by_the_program(hosts: list[LogHost], **logs: str) -> None:
    """`clawd-provision up`, with these settings more in the section `logs`."""
    first = hosts[0]
    inventory, names = first.folder / "other.yml", ",".join(first.box.names)
    added = "".join(f'"{name}": "{value}", ' for name, value in logs.items())
    inventory.write_text(first.inventory.path.read_text().replace('"logs": {', f'"logs": {{{added}'))
    words = ["up", "-i", str(inventory), "--limit", names, "--tags", "elasticsearch", "--yes"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *words],
        env={**os.environ, "XDG_STATE_HOME": str(first.folder)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_changed_settings_restart_nodes_one_after_another(hosts: list[LogHost]) -> None:
    """By the program's own `up`: the next node is not stopped before the cluster is green again."""
    for settings in ({"elasticsearch_heap": "640M"}, {}):
        before = [restarted(host) for host in hosts]
        by_the_program(hosts, **settings)
        after = sorted(map(restarted, hosts))
        assert not set(before) & set(after)
        for (_, served), (stopped, _) in pairwise(after):
            assert stopped - served > RECOVERS_S


def test_memory_mapping_is_off_where_the_host_refuses_max_map_count(hosts: list[LogHost]) -> None:
    for host in hosts:
        count = int(host.on("cat /proc/sys/vm/max_map_count"))
        writable = host.on("test -w /proc/sys/vm/max_map_count && echo yes || echo no") == "yes"
        mapped = writable or count >= 262144
        lines = host.on("grep -B1 allow_mmap /etc/elasticsearch/elasticsearch.yml")
        assert f"node.store.allow_mmap: {'true' if mapped else 'false'}" in lines
        assert ("This host does not allow vm.max_map_count" in lines) is not mapped


def test_replaced_first_node_joins_the_existing_cluster(hosts: list[LogHost]) -> None:
    """What would happen with `cluster.initial_master_nodes` left in place. The stand-in has no election, so
    here another node is made master by hand before the first is emptied."""
    first, second, third = hosts
    state = first.on("cat /var/lib/elasticsearch/state.json")
    uuid = node_of(first)["uuid"]
    first.on("systemctl stop elasticsearch kibana logstash filebeat")
    second.on("systemctl stop elasticsearch")
    second.on(f"cat > /var/lib/elasticsearch/state.json <<'END'\n{state}\nEND")
    second.on(f"""echo '{{"uuid": "{uuid}", "master": true}}' > /var/lib/elasticsearch/node.json""")
    second.on("chown elasticsearch:elasticsearch /var/lib/elasticsearch/*; systemctl start elasticsearch")
    first.on(f"rm -rf /var/lib/elasticsearch/* {FORMED}")
    assert "Found the cluster" in first.up()
    assert node_of(first) == {"uuid": uuid, "master": False}
    assert first.ask("GET", "/_cluster/health")["number_of_nodes"] == 3
    assert first.failing() == set()
    assert third.failing() == set()


def test_purge_of_all_nodes_leaves_nothing(hosts: list[LogHost]) -> None:
    places = f"/etc/elasticsearch /var/lib/elasticsearch /etc/clawd/* /usr/share/logstash {FORMED}"
    left = f"ls -d {places} 2>/dev/null; true"
    for host in hosts:
        assert {"/etc/elasticsearch", "/var/lib/elasticsearch"} <= set(host.on(left).split())
    assert FORMED in hosts[0].on(left).split()
    together({host.name: host for host in hosts}, lambda host: host.down(purge=True))
    for host in hosts:
        assert host.on(left) == ""

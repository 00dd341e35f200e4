"""Three log hosts of stand-in packages: one cluster, founded once, and lines by any of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from itertools import pairwise

import pytest

from deploys.registry import BY_NAME
from deploys.tls.authority import authority
from inventory.load import load
from provision import sandbox
from provision.sandbox import Layout
from tests.deploys.elasticsearch.onhosts import PROGRAMS, ROOT, Applied, LogHost, writing
from tests.standins.elastic.build import build, serving

pytestmark = [
    pytest.mark.host,
    pytest.mark.campaign,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(os.geteuid() != 0, reason="making hosts needs root"),
]

NAMES = ("bot1", "bot2", "bot3")
RELEASES = ("bookworm", "trixie", "bookworm")
VERSION = "9.4.9"
RECOVERS_S = 4.0
"""How long the stand-in's cluster is yellow after a node restarts."""
MOMENTS = ("ActiveExit", "ActiveEnter")
FORMED = "/var/lib/clawd/state/elasticsearch-formed"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[LogHost]]:
    folder = tmp_path_factory.mktemp("three")
    box = Layout(
        folder / ".sandbox", bridge="clek", subnet=IPv4Network("10.213.93.0/24"), table="clawd_elk_test"
    )
    repository = build(folder, VERSION)
    try:
        sandbox.up(len(NAMES), RELEASES, layout=box)
        with serving(repository.folder, str(box.machine_address)) as url:
            packages = {"mirror": url, "key": str(repository.key), "fingerprint": repository.fingerprint}
            yield log_hosts(box, packages)
    finally:
        sandbox.down(layout=box, purge=True)


def log_hosts(box: Layout, packages: dict[str, str]) -> list[LogHost]:
    folder = box.folder.parent
    (folder / "password").write_text("the-password-of-the-log-hosts-of-this-test\n")
    (folder / "password").chmod(0o600)
    declared = {
        name: {
            "address": str(box.address(name)),
            "user": "operator",
            "ssh_key": str(box.key),
            "roles": ["logs"],
        }
        for name in NAMES
    }
    whole = {
        "known_hosts": str(box.known_hosts),
        "hosts": {**declared, "far": {"address": "192.0.2.1", "roles": ["runtime"]}},
        "models": {"default": {"engine": "openai-compatible", "endpoint": "http://127.0.0.1:1/v1"}},
        "logs": {"password": "!file password", "packages": packages},
    }
    file = folder / "three.yml"
    file.write_text(json.dumps(whole).replace('"!file password"', "!file password"))
    loaded = load(file)
    authority(folder / ".clawd" / "clawd", "clawd", timedelta(days=365), datetime.now(UTC))
    return [
        LogHost(
            name,
            box,
            folder,
            loaded,
            {
                program: settings
                for program in PROGRAMS
                if (settings := BY_NAME[program].settings_for(loaded.inventory, name)) is not None
            },
        )
        for name in NAMES
    ]


def all_at_once(hosts: list[LogHost]) -> list[Applied]:
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda host: host.apply(), hosts))
    for run in runs:
        assert run.succeeded, run.output
    return runs


def node_of(host: LogHost) -> dict[str, object]:
    found: dict[str, object] = json.loads(host.on("cat /var/lib/elasticsearch/node.json"))
    return found


def test_a_cluster_is_founded_by_the_first_and_joined_by_the_others(hosts: list[LogHost]) -> None:
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
        assert host.failing_checks() == set()


def test_a_second_run_changes_nothing_and_makes_no_writing_call(hosts: list[LogHost]) -> None:
    before = [len(host.calls("elasticsearch")) for host in hosts]
    for run in all_at_once(hosts):
        assert not run.changed, run.changed
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
    inventory = hosts[0].folder / "other.yml"
    added = "".join(f'"{name}": "{value}", ' for name, value in logs.items())
    inventory.write_text(
        (hosts[0].folder / "three.yml").read_text().replace('"logs": {', f'"logs": {{{added}')
    )
    words = ["up", "-i", str(inventory), "--limit", ",".join(NAMES), "--tags", "elasticsearch", "--yes"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *words],
        env={**os.environ, "XDG_STATE_HOME": str(hosts[0].folder)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_changed_settings_restart_one_node_after_another(hosts: list[LogHost]) -> None:
    """By the program's own `up`: the next node is not stopped before the cluster is green again."""
    for settings in ({"elasticsearch_heap": "640M"}, {}):
        before = [restarted(host) for host in hosts]
        by_the_program(hosts, **settings)
        after = sorted(map(restarted, hosts))
        assert not set(before) & set(after)
        for (_, served), (stopped, _) in pairwise(after):
            assert stopped - served > RECOVERS_S


def test_files_are_read_and_not_mapped_where_the_host_refuses_the_setting(hosts: list[LogHost]) -> None:
    for host in hosts:
        count = int(host.on("cat /proc/sys/vm/max_map_count"))
        writable = host.on("test -w /proc/sys/vm/max_map_count && echo yes || echo no") == "yes"
        mapped = writable or count >= 262144
        told = host.on("grep -B1 allow_mmap /etc/elasticsearch/elasticsearch.yml")
        assert f"node.store.allow_mmap: {'true' if mapped else 'false'}" in told
        assert ("This host refuses vm.max_map_count" in told) is not mapped


def test_a_replaced_first_host_joins_and_does_not_found_another_cluster(hosts: list[LogHost]) -> None:
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
    run = first.apply()
    assert run.succeeded, run.output
    assert "Found the cluster" in run.changed
    assert node_of(first) == {"uuid": uuid, "master": False}
    assert first.ask("GET", "/_cluster/health")["number_of_nodes"] == 3
    assert first.failing_checks() == set()
    assert third.failing_checks() == set()


def test_all_are_removed_with_nothing_left(hosts: list[LogHost]) -> None:
    with ThreadPoolExecutor() as pool:
        for run in pool.map(lambda host: host.remove(purge=True), hosts):
            assert run.succeeded, run.output
    for host in hosts:
        left = f"/etc/elasticsearch /var/lib/elasticsearch /etc/clawd/* /usr/share/logstash {FORMED}"
        assert host.on(f"ls -d {left} 2>/dev/null; true") == ""

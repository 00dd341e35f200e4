"""Elasticsearch, Logstash, Kibana and Filebeat of stand-in packages on real hosts, one node on each."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from typing import Any

import pytest

from deploys.filebeat.settings import FilebeatSettings
from deploys.registry import BY_NAME
from deploys.tls.authority import authority
from inventory.load import Loaded, load
from provision import sandbox
from provision.sandbox import Layout
from tests.deploys.elasticsearch.onhosts import PROGRAMS, ROOT, LogHost, writing
from tests.standins.elastic.build import Repository, build, serving

pytestmark = [
    pytest.mark.host,
    pytest.mark.campaign,  # four programs on two hosts: about four minutes a release on two busy cores
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="making hosts needs root"),
]

RELEASES = ("bookworm", "trixie")
HOSTS = ("bot1", "bot2")
VERSION = "9.4.9"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    folder = tmp_path_factory.mktemp("logs") / ".sandbox"
    box = Layout(folder, bridge="clek", subnet=IPv4Network("10.213.93.0/24"), table="clawd_elk_test")
    try:
        sandbox.up(len(RELEASES), RELEASES, layout=box)
        yield box
    finally:
        sandbox.down(layout=box, purge=True)


@pytest.fixture(scope="module")
def repository(box: Layout) -> Repository:
    folder = box.folder.parent / "elastic"
    folder.mkdir()
    return build(folder, VERSION)


@pytest.fixture(scope="module")
def mirror(box: Layout, repository: Repository) -> Iterator[str]:
    with serving(repository.folder, str(box.machine_address)) as url:
        yield url


def declared(box: Layout, name: str, repository: Repository, packages: dict[str, Any]) -> Loaded:
    """An inventory in which `name` keeps the log lines, alone."""
    folder = box.folder.parent
    for secret in ("password", "reader"):
        (folder / secret).write_text(f"the-{secret}-of-the-log-hosts-of-this-very-test\n")
        (folder / secret).chmod(0o600)
    host = {
        "address": str(box.address(name)),
        "user": "operator",
        "ssh_key": str(box.key),
        "roles": ["logs", "nginx"],
    }
    whole = {
        "known_hosts": str(box.known_hosts),
        "hosts": {name: host, "far": {"address": "192.0.2.1", "roles": ["runtime"]}},
        "models": {"default": {"engine": "openai-compatible", "endpoint": "http://127.0.0.1:1/v1"}},
        "logs": {
            "password": "!file password",
            "reader_password": "!file reader",
            "packages": {
                "key": str(repository.key),
                "fingerprint": repository.fingerprint,
                **packages,
            },
        },
    }
    file = folder / f"{name}.yml"
    text = json.dumps(whole).replace('"!file password"', "!file password")
    file.write_text(text.replace('"!file reader"', "!file reader"))
    return load(file)


def log_host(box: Layout, name: str, loaded: Loaded) -> LogHost:
    settings = {program: BY_NAME[program].settings_for(loaded.inventory, name) for program in PROGRAMS}
    sends = settings["filebeat"]
    assert isinstance(sends, FilebeatSettings)
    # No host may keep log lines beside a bot; here it also plays the bot's, to have its lines.
    settings["filebeat"] = sends.model_copy(update={"datasets": ("bot", "engine", *sends.datasets)})
    given = {program: of for program, of in settings.items() if of is not None}
    assert set(given) == set(PROGRAMS)
    return LogHost(name, box, box.folder.parent, loaded, given)


@pytest.fixture(scope="module")
def installed(box: Layout, repository: Repository, mirror: str) -> dict[str, LogHost]:
    """Both hosts, to which everything has been applied twice, at the same time."""
    hosts = [log_host(box, name, declared(box, name, repository, {"mirror": mirror})) for name in HOSTS]

    def twice(host: LogHost) -> None:
        first = host.apply()
        assert first.succeeded, first.output
        assert first.changed
        second = host.apply()
        assert second.succeeded, second.output
        assert not second.changed, f"changes again: {second.changed}"

    # The authority is made once, and before two need it.
    authority(box.folder.parent / ".clawd" / "clawd", "clawd", timedelta(days=365), datetime.now(UTC))
    with ThreadPoolExecutor() as pool:
        list(pool.map(twice, hosts))
    return {host.name: host for host in hosts}


@pytest.fixture(params=HOSTS, ids=RELEASES)
def host(request: pytest.FixtureRequest, installed: dict[str, LogHost]) -> LogHost:
    return installed[request.param]


FIRST_CALLS = [
    ("PUT", "/_ilm/policy/clawd-lines"),
    ("PUT", "/_ilm/policy/clawd-audit"),
    ("PUT", "/_component_template/clawd-lines"),
    ("PUT", "/_index_template/clawd-lines"),
    ("PUT", "/_index_template/clawd-audit"),
    ("PUT", "/_security/role/clawd_logstash"),
    ("PUT", "/_security/user/clawd_logstash"),
    ("PUT", "/_security/role/clawd_reader"),
    ("PUT", "/_security/user/clawd"),
    ("DELETE", "/_security/service/elastic/kibana/credential/token/clawd-{name}"),
    ("POST", "/_security/service/elastic/kibana/credential/token/clawd-{name}"),
]


def test_the_first_run_writes_each_thing_once_and_the_second_nothing(host: LogHost) -> None:
    wanted = [(method, path.format(name=host.name)) for method, path in FIRST_CALLS]
    assert writing(host.calls("elasticsearch")) == wanted
    assert writing(host.calls("kibana")) == [
        *[("POST", "/api/data_views/data_view")] * 2,
        *[("POST", "/api/saved_objects/_import?overwrite=true")] * 3,
    ]


def test_nothing_was_set_up_automatically(host: LogHost) -> None:
    assert host.on("ls /etc/elasticsearch").split() == [
        "clawd-tls",
        "clawd-tls.d",
        "elasticsearch.keystore",
        "elasticsearch.yml",
        "elasticsearch.yml.dpkg-dist",
        "jvm.options",
        "jvm.options.d",
    ]


def test_checks_hold(host: LogHost) -> None:
    assert host.failing_checks() == set()


NGINX = (
    "203.0.113.5 [2026-01-31T12:00:00+08:00] POST /feishu/webhook 502 157 0.003 "
    "127.0.0.1:8080 0.002 0123456789abcdef0123456789abcdef"
)


def test_lines_arrive_taken_apart(host: LogHost) -> None:
    source = (ROOT / "runtime/clawd_runtime/logs.py").read_text()
    say = "\nimport logging\nconfigure()\nlogging.getLogger('x').warning('two\\nlines [of] text')\n"
    host.on(f"cat > /root/bot.py <<'END'\n{source}{say}END")
    host.on("systemd-run -q --wait --unit clawd-bot python3 /root/bot.py")
    host.on(f"mkdir -p /var/log/nginx && echo '{NGINX}' >> /var/log/nginx/access.log")

    def found() -> dict[str, Any]:
        hits = host.ask("GET", "/logs-clawd.*-default/_search")["hits"]["hits"]
        return {hit["_index"]: hit["_source"] for hit in hits}

    wait_for(lambda: {"logs-clawd.bot-default", "logs-clawd.nginx_access-default"} <= set(found()))
    lines = found()
    bot, request = lines["logs-clawd.bot-default"], lines["logs-clawd.nginx_access-default"]
    assert (bot["message"], bot["log"]["level"]) == (r"two\nlines [of] text", "WARNING")
    assert bot["host"]["name"] == host.name
    assert bot["@timestamp"].endswith("Z")
    assert request["@timestamp"] == "2026-01-31T04:00:00.000Z"
    assert request["http"]["response"]["status_code"] == 502
    audits = [source for index, source in lines.items() if index == "logs-clawd.audit-default"]
    assert audits, "the operator's sudo was not told"


def test_damage_is_named_and_exactly_that_is_repaired(host: LogHost) -> None:
    host.ask("DELETE", "/_security/user/clawd_logstash")
    host.ask("DELETE", f"/_security/service/elastic/kibana/credential/token/clawd-{host.name}")
    weak = {"phases": {"delete": {"min_age": "1d", "actions": {"delete": {}}}}}
    host.ask("PUT", "/_ilm/policy/clawd-audit", {"policy": weak})
    host.on("sed -i s/required/none/ /etc/logstash/conf.d/clawd.conf; systemctl stop filebeat")
    host.on(
        "chmod 644 /etc/clawd/elasticsearch/elastic; echo '# mine' >> /etc/elasticsearch/elasticsearch.yml"
    )
    assert host.failing_checks() == {
        ("elasticsearch", "policies templates roles and users"),
        ("elasticsearch", "logstash may add lines and nothing else"),
        ("elasticsearch", "secrets are private"),
        ("elasticsearch", "runs with what is on the disk"),
        ("logstash", "runs with what is on the disk"),
        ("kibana", "is available"),
        ("kibana", "its token is accepted"),
        ("kibana", "data views and searches"),
        ("filebeat", "runs with what is on the disk"),
    }
    before = len(host.calls("elasticsearch"))
    repaired = host.apply()
    assert repaired.succeeded, repaired.output
    assert repaired.changed == {
        "Write /etc/elasticsearch/elasticsearch.yml",
        "Write /etc/clawd/elasticsearch/elastic",
        "Service elasticsearch",
        "Policies, templates, roles and users",
        "Write /etc/logstash/conf.d/clawd.conf",
        "Service logstash",
        "Token of Kibana",
        "Service kibana",
        "Service filebeat",
    }
    token = f"/_security/service/elastic/kibana/credential/token/clawd-{host.name}"
    assert writing(host.calls("elasticsearch")[before:]) == [
        ("PUT", "/_ilm/policy/clawd-audit"),
        ("PUT", "/_security/user/clawd_logstash"),
        ("DELETE", token),
        ("POST", token),
    ]
    assert host.failing_checks() == set()


def test_a_heap_of_more_than_half_the_memory_is_refused_before_anything_changes(host: LogHost) -> None:
    given = host.settings["elasticsearch"].model_copy(update={"heap": "900G"})
    run = host.apply("elasticsearch", settings={"elasticsearch": given})
    assert not run.succeeded
    assert "is more than half of the host's" in run.output
    assert host.on("systemctl is-active elasticsearch") == "active"


TRACES = (
    "ls -d /etc/elasticsearch /etc/logstash /etc/kibana /etc/filebeat /usr/share/elasticsearch "
    "/usr/share/logstash /usr/share/kibana /usr/share/filebeat /etc/clawd/* "
    "/var/log/logstash /var/log/kibana /var/log/elasticsearch "
    "/etc/apt/sources.list.d/clawd* /etc/apt/keyrings/* /etc/sysctl.d/60-clawd* "
    "/etc/systemd/system/*.d/clawd.conf /var/lib/clawd/packages /var/lib/clawd/state/packages/* 2>/dev/null; "
    "getent passwd elasticsearch logstash kibana; getent group elasticsearch logstash kibana; "
    "dpkg -l elasticsearch logstash kibana filebeat python3-yaml 2>/dev/null | grep -E '^.[^un]'; "
    "systemctl list-unit-files --no-legend | grep -E 'elastic|logstash|kibana|filebeat'; true"
)
LINES = "/var/lib/elasticsearch/lines.jsonl"


def test_removed_with_nothing_left_but_the_lines(host: LogHost) -> None:
    removed = host.remove()
    assert removed.succeeded, removed.output
    assert host.on(TRACES) == ""
    assert int(host.on(f"wc -l < {LINES}")) > 0
    again = host.remove()
    assert again.succeeded, again.output
    assert not again.changed


def test_back_from_a_folder_of_packages_and_purged(
    host: LogHost, box: Layout, repository: Repository
) -> None:
    """Installed twice more and purged: some minutes."""
    assert host.remove().succeeded
    kept = host.on(f"head -n 1 {LINES}")
    folder = repository.folder / "pool"
    loaded = declared(box, host.name, repository, {"folder": str(folder)})
    back = log_host(box, host.name, loaded)
    first = back.apply()
    assert first.succeeded, first.output
    assert host.on("ls /etc/apt/sources.list.d | grep clawd || true") == ""
    assert host.on("ls /var/lib/clawd/packages") == ""
    assert host.on(f"head -n 1 {LINES}") == kept
    assert writing(host.calls("elasticsearch")) == [
        (method, path.format(name=host.name)) for method, path in FIRST_CALLS[-2:]
    ], "only the token, which lay in a file, is made again"
    second = back.apply()
    assert not second.changed, second.changed
    assert back.failing_checks() == set()
    purged = back.remove(purge=True)
    assert purged.succeeded, purged.output
    assert host.on(TRACES) == ""
    assert host.on("ls -d /var/lib/elasticsearch /var/lib/kibana /var/lib/filebeat 2>/dev/null; true") == ""


def wait_for(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come about in time"
        time.sleep(0.5)

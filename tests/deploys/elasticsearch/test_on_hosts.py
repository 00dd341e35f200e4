"""Elasticsearch, Logstash, Kibana and Filebeat of stand-in packages on real hosts, one node on each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from deploys.filebeat.settings import FilebeatSettings
from provision.sandbox import RELEASES
from tests.deploys.elasticsearch.onhosts import FAR, PROGRAMS, VERSION, LogHost, trusting, writing
from tests.hosts import ROOT, Box, Host, boxes, on_hosts, secret, together, until
from tests.standins.elastic.build import Repository, build, serving

# Four programs on two hosts: about four minutes a release on two busy cores.
pytestmark = on_hosts(pytest.mark.campaign, seconds=900)

box = boxes("clek", 93)


@pytest.fixture(scope="module")
def repository(box: Box) -> Repository:
    folder = box.folder / "elastic"
    folder.mkdir()
    return build(folder, VERSION)


@pytest.fixture(scope="module")
def mirror(box: Box, repository: Repository) -> Iterator[str]:
    with serving(repository.folder, box.machine) as url:
        yield url


def log_host(host: Host, repository: Repository, **packages: str) -> LogHost:
    """The host, keeping the log lines alone."""
    logs = {
        "password": secret("the-password-of-the-log-hosts-of-this-very-test"),
        "reader_password": secret("the-reader-of-the-log-hosts-of-this-very-test"),
        "packages": {**trusting(repository), **packages},
    }
    made = LogHost.of(host, host.loaded("logs", "nginx", others={host.name: {}, **FAR}, logs=logs))
    assert set(made.settings) == set(PROGRAMS)
    sends = made.settings["filebeat"]
    assert isinstance(sends, FilebeatSettings)
    # No host may keep log lines next to a bot; here it also plays the bot's, to have its lines.
    datasets = ("bot", "engine", *sends.datasets)
    return made.given("filebeat", datasets=datasets).given("logstash", senders={host.name: datasets})


@pytest.fixture(scope="module")
def hosts(box: Box, repository: Repository, mirror: str) -> dict[str, LogHost]:
    """Both hosts, to which everything has been applied twice, at the same time."""
    made = {
        release: log_host(Host(box, box.named(release)), repository, mirror=mirror)
        for release in box.releases
    }
    together(made, lambda host: host.apply_twice(**host.settings))
    return made


@pytest.fixture(params=RELEASES)
def host(request: pytest.FixtureRequest, hosts: dict[str, LogHost]) -> LogHost:
    return hosts[request.param]


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


def test_first_run_writes_every_object_once_and_second_run_none(host: LogHost) -> None:
    wanted = [(method, path.format(name=host.name)) for method, path in FIRST_CALLS]
    assert writing(host.calls("elasticsearch")) == wanted
    assert writing(host.calls("kibana")) == [
        *[("POST", "/api/data_views/data_view")] * 2,
        *[("POST", "/api/saved_objects/_import?overwrite=true")] * 3,
    ]


def test_package_configures_no_security_automatically(host: LogHost) -> None:
    assert host.on("ls /etc/elasticsearch").split() == [
        "clawd-tls",
        "clawd-tls.d",
        "elasticsearch.keystore",
        "elasticsearch.yml",
        "elasticsearch.yml.dpkg-dist",
        "jvm.options",
        "jvm.options.d",
    ]


def test_checks_pass_after_up(host: LogHost) -> None:
    assert host.failing() == set()


NGINX = (
    '203.0.113.5 [2026-01-31T12:00:00+08:00] POST "/feishu/webhook" 502 157 0.003 '
    '"127.0.0.1:8080" "0.002" 0123456789abcdef0123456789abcdef'
)


def test_log_lines_arrive_parsed(host: LogHost) -> None:
    source = (ROOT / "runtime/clawd_runtime/logs.py").read_text()
    say = "\nimport logging\nconfigure()\nlogging.getLogger('x').warning('two\\nlines [of] text')\n"
    host.on(f"cat > /root/bot.py <<'END'\n{source}{say}END")
    host.on("systemd-run -q --wait --unit clawd-bot -p LogNamespace=clawd-bot python3 /root/bot.py")
    host.on(f"mkdir -p /var/log/nginx && cat >> /var/log/nginx/access.log <<'END'\n{NGINX}\nEND")

    def found() -> dict[str, Any]:
        hits = host.ask("GET", "/logs-clawd.*-default/_search")["hits"]["hits"]
        return {hit["_index"]: hit["_source"] for hit in hits}

    until(lambda: {"logs-clawd.bot-default", "logs-clawd.nginx_access-default"} <= set(found()))
    lines = found()
    bot, request = lines["logs-clawd.bot-default"], lines["logs-clawd.nginx_access-default"]
    assert (bot["message"], bot["log"]["level"]) == (r"two\nlines [of] text", "WARNING")
    assert bot["host"]["name"] == host.name
    assert bot["@timestamp"].endswith("Z")
    assert request["@timestamp"] == "2026-01-31T04:00:00.000Z"
    assert request["http"]["response"]["status_code"] == 502
    audits = [source for index, source in lines.items() if index == "logs-clawd.audit-default"]
    assert audits, "sudo of the operator was not logged"


def test_checks_report_damage_and_up_repairs_only_that(host: LogHost) -> None:
    host.ask("DELETE", "/_security/user/clawd_logstash")
    host.ask("DELETE", f"/_security/service/elastic/kibana/credential/token/clawd-{host.name}")
    weak = {"phases": {"delete": {"min_age": "1d", "actions": {"delete": {}}}}}
    host.ask("PUT", "/_ilm/policy/clawd-audit", {"policy": weak})
    host.on("sed -i s/required/none/ /etc/logstash/conf.d/clawd.conf; systemctl stop filebeat")
    host.on(
        "chmod 644 /etc/clawd/elasticsearch/elastic; echo '# mine' >> /etc/elasticsearch/elasticsearch.yml"
    )
    assert host.failing() == {
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
    assert host.up() == {
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
    assert host.failing() == set()


def test_heap_of_more_than_half_the_memory_is_refused_before_any_change(host: LogHost) -> None:
    given = host.given("elasticsearch", heap="900G").settings["elasticsearch"]
    assert "is more than half of the host's" in host.refused(elasticsearch=given)
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


def test_removal_leaves_only_log_lines(host: LogHost) -> None:
    theirs = tuple(
        f"/etc/{path}"
        for path in (
            "elasticsearch/theirs.options",
            "filebeat/modules.d/theirs.yml",
            "kibana/theirs.yml",
            "logstash/conf.d/theirs.conf",
        )
    )
    host.on(f"echo '# theirs' | tee {' '.join(theirs)}")
    assert {"/etc/elasticsearch", "/usr/share/kibana"} <= set(host.on(TRACES).split())
    host.down()
    folders = "/etc/elasticsearch /etc/filebeat /etc/kibana /etc/logstash"
    added = host.on(f"find {folders} ! -type d | sort; rm -r {folders}")
    assert added == "\n".join(theirs), "of the administrator, and nothing else"
    assert host.on(TRACES) == ""
    assert int(host.on(f"wc -l < {LINES}")) > 0
    assert not host.down(), "removed again"


def test_reinstallation_from_a_package_folder_keeps_lines_and_purge_deletes_them(
    host: LogHost, repository: Repository
) -> None:
    """Installed twice more and purged: some minutes."""
    host.down()
    kept = host.on(f"head -n 1 {LINES}")
    back = log_host(host, repository, folder=str(repository.folder / "pool"))
    back.up()
    assert host.on("ls /etc/apt/sources.list.d | grep clawd || true") == ""
    assert host.on("ls /var/lib/clawd/packages") == ""
    assert host.on(f"head -n 1 {LINES}") == kept
    assert writing(host.calls("elasticsearch")) == [
        (method, path.format(name=host.name)) for method, path in FIRST_CALLS[-2:]
    ], "only the token, which lay in a file, is made again"
    assert not back.up()
    assert back.failing() == set()
    back.down(purge=True)
    assert host.on(TRACES) == ""
    assert host.on("ls -d /var/lib/elasticsearch /var/lib/kibana /var/lib/filebeat 2>/dev/null; true") == ""

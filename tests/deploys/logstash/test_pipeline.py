"""The pipeline as others read it: logstash-pipeline-parser takes it apart, pygrok matches its patterns.

pygrok's own patterns are those that Logstash came with; the lines are what our programs really write.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from clawd_runtime.logs import LineFormatter
from deploys.logstash.deploy import values
from deploys.logstash.settings import settings_for
from deploys.ops.paths.files import rendered
from tests.deploys.elasticsearch.test_settings import ONE
from tests.deploys.inventories import inventory

ROOT = Path(__file__).resolve().parents[3]
NGINX = ROOT / "templates/nginx/nginx.conf"


def others() -> ModuleType:
    """The module of the stand-in that carries a pipeline out with the others' programs."""
    place = ROOT / "tests/standins/elastic/programs/pipeline.py"
    spec = importlib.util.spec_from_file_location("logstash_pipeline", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    base = {"time_zone": "Asia/Shanghai"}
    settings = settings_for(inventory(ONE, logs={"password": "p" * 32}, base=base), "log1")
    assert settings is not None
    file = tmp_path_factory.mktemp("pipeline") / "clawd.conf"
    file.write_text(rendered("logstash/clawd.conf", values(settings)))
    module = others()
    tree = module.read(file)

    def whole(
        dataset: str, line: str, *, subject: str = "CN=filebeat.bot1", **claimed: Any
    ) -> dict[str, Any]:
        peer = {"input": {"beats": {"tls": {"client": {"subject": subject}}}}}
        event = {
            "message": line,
            "data_stream": {"dataset": f"clawd.{dataset}", "type": "logs", "namespace": "default"},
            "host": {"name": "bot1"},
            **claimed,
            "@metadata": {**claimed.get("@metadata", {}), **peer},
        }
        found: dict[str, Any] = module.filtered(tree, event)
        return found

    def filtered(dataset: str, line: str, **claimed: Any) -> dict[str, Any]:
        found = whole(dataset, line, **claimed)
        assert found.pop("data_stream") == {
            "type": "logs",
            "namespace": "default",
            "dataset": f"clawd.{dataset}",
        }
        assert found.pop("host") == {"name": "bot1"}
        for name in ("journald", "syslog"):
            found.pop(name, None)
        return found

    filtered.tree, filtered.module, filtered.whole = tree, module, whole  # type: ignore[attr-defined]
    return filtered


def by_root(identifier: str) -> dict[str, Any]:
    """What journald says of who wrote a line: a daemon of root's."""
    return {"journald": {"uid": 0}, "syslog": {"identifier": identifier}}


def by(program: str, *, uid: int = 1000) -> dict[str, Any]:
    """What journald says of who wrote a line: this program, which a person ran, under its own name."""
    return {
        "journald": {"uid": uid, "process": {"executable": program}},
        "syslog": {"identifier": program.rpartition("/")[2]},
    }


def test_input_requires_certificates_and_output_uses_tls(pipeline: Any) -> None:
    beats = pipeline.module.section(pipeline.tree, "input")["beats"]
    assert (beats["ssl_enabled"], beats["ssl_client_authentication"]) == (True, "required")
    assert set(beats["enrich"]) == {"codec_metadata", "source_metadata", "ssl_peer_metadata"}
    out = pipeline.module.section(pipeline.tree, "output")["elasticsearch"]
    assert all(host.startswith("https://") for host in out["hosts"])
    assert out["password"] == "${CLAWD_ELASTICSEARCH_PASSWORD}"
    assert out["data_stream"] == "true"


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
@pytest.mark.parametrize("dataset", ["bot", "engine"])
def test_runtime_log_line_is_parsed(pipeline: Any, dataset: str, level: str) -> None:
    at = datetime(2026, 1, 31, 12, 0, 0, 123000, UTC)
    record = logging.LogRecord(
        "x", getattr(logging, level), "f.py", 1, "a [b] %s\nnext 中文", ("c: d",), None
    )
    record.created = at.timestamp()
    assert pipeline(dataset, LineFormatter("%(message)s").format(record)) == {
        "@timestamp": "2026-01-31T12:00:00.123Z",
        "log": {"level": level},
        "message": r"a [b] c: d\nnext 中文",
    }


def test_traceback_stays_one_line(pipeline: Any) -> None:
    try:
        raise ValueError("of [this] test")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f.py", 1, "failed", (), sys.exc_info())
    event = pipeline("bot", LineFormatter("%(message)s").format(record))
    assert event["log"]["level"] == "ERROR"
    assert event["message"].startswith(r"failed\nTraceback")
    assert event["message"].endswith("ValueError: of [this] test")


def test_line_of_another_format_is_kept_and_tagged(pipeline: Any) -> None:
    line = "llama_model_loader: loaded meta data"
    assert pipeline("engine", line) == {"message": line, "tags": ["_grokparsefailure"]}


def access_line(**given: str) -> str:
    """A line of the format in nginx.conf itself, so that a change there is noticed here."""
    format_ = "".join(
        re.findall(r"'([^']*)'", NGINX.read_text().partition("log_format paths")[2].split(";")[0])
    )
    usual = {
        "remote_addr": "203.0.113.5",
        "time_iso8601": "2026-01-31T12:00:00+08:00",
        "request_method": "POST",
        "uri": "/feishu/webhook",
        "status": "200",
        "body_bytes_sent": "12",
        "request_time": "0.003",
        "upstream_addr": "127.0.0.1:8080",
        "upstream_response_time": "0.002",
        "request_id": "0123456789abcdef0123456789abcdef",
    }
    return re.sub(r"\$(\w+)", lambda found: {**usual, **given}[found[1]], format_)


def test_nginx_access_line_is_parsed(pipeline: Any) -> None:
    event = pipeline("nginx_access", access_line())
    assert event.pop("message")
    assert event == {
        "@timestamp": "2026-01-31T04:00:00.000Z",
        "source": {"address": "203.0.113.5"},
        "url": {"path": "/feishu/webhook"},
        "http": {
            "request": {"method": "POST", "id": "0123456789abcdef0123456789abcdef"},
            "response": {"status_code": 200, "body": {"bytes": 12}},
        },
        "nginx": {"request_seconds": 0.003, "upstream": "127.0.0.1:8080", "upstream_seconds": "0.002"},
    }


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"remote_addr": "2001:db8::1"}, "[source][address]", "2001:db8::1"),
        ({"uri": "/a path with spaces 200 3 0.1"}, "[url][path]", "/a path with spaces 200 3 0.1"),
        ({"uri": "/中文"}, "[url][path]", "/中文"),
        (
            {"upstream_addr": "10.0.0.2:8080, 10.0.0.3:8080", "upstream_response_time": "0.001, 0.002"},
            "[nginx][upstream]",
            "10.0.0.2:8080, 10.0.0.3:8080",
        ),
        (
            {"upstream_addr": "10.0.0.2:8080, 10.0.0.3:8080", "upstream_response_time": "-, 0.002"},
            "[nginx][upstream_seconds]",
            "-, 0.002",
        ),
        ({"upstream_addr": "-", "upstream_response_time": "-"}, "[nginx][upstream]", "-"),
        ({"request_method": "-", "uri": "-", "status": "400"}, "[http][response][status_code]", 400),
        ({"request_method": "PROPFIND"}, "[http][request][method]", "PROPFIND"),
        ({"request_method": "M-SEARCH"}, "[http][request][method]", "M-SEARCH"),
        ({"uri": "/-"}, "[url][path]", "/-"),
    ],
)
def test_nginx_access_lines_of_unusual_requests_are_parsed(
    pipeline: Any, given: dict[str, str], field: str, value: Any
) -> None:
    event = pipeline("nginx_access", access_line(**given))
    assert "tags" not in event
    assert pipeline.module.get(event, field) == value


def test_nginx_error_line_in_local_time_is_parsed(pipeline: Any) -> None:
    line = (
        "2026/01/31 12:00:00 [error] 123#124: *45 connect() failed (111: Connection refused) while "
        'connecting to upstream, client: 203.0.113.5, server: , request: "POST /feishu/webhook HTTP/1.1"'
    )
    event = pipeline("nginx_error", line)
    assert event["@timestamp"] == "2026-01-31T04:00:00.000Z"
    assert event["log"] == {"level": "ERROR"}
    assert event["message"].startswith("connect() failed (111: Connection refused)")
    assert (event["process"], event["nginx"]) == ({"pid": 123, "thread": {"id": 124}}, {"connection": 45})
    assert "tags" not in pipeline("nginx_error", "2026/01/31 12:00:00 [notice] 9#9: signal process started")


SSHD = by_root("sshd")
REAL = "203.0.113.66"


@pytest.mark.parametrize("identifier", ["sshd", "sshd-session"])
@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (
            "Accepted publickey for anna from 203.0.113.5 port 50222 ssh2: ED25519 SHA256:abc+/",
            {
                "[event][action]": "Accepted",
                "[event][outcome]": "success",
                "[authentication][method]": "publickey",
                "[user][name]": "anna",
                "[source][address]": "203.0.113.5",
                "[source][port]": 50222,
            },
        ),
        (
            (
                "Accepted publickey for anna from fe80::1%eth0 port 5 ssh2: ED25519-CERT SHA256:abc "
                "ID laptop of anna (serial 0) CA RSA SHA256:def"
            ),
            {"[user][name]": "anna", "[source][address]": "fe80::1%eth0", "[source][port]": 5},
        ),
        (
            "Failed password for invalid user admin from 2001:db8::1 port 4 ssh2",
            {
                "[event][action]": "Failed",
                "[event][outcome]": "failure",
                "[user][name]": "admin",
                "[source][address]": "2001:db8::1",
            },
        ),
        (
            "Failed password for invalid user root from 1.1.1.1 port 22 from 203.0.113.66 port 4444 ssh2",
            {"[user][name]": "root from 1.1.1.1 port 22", "[source][address]": REAL, "[source][port]": 4444},
        ),
        (
            "Failed none for invalid user root from 1.1.1.1 port 22 ssh2 from 203.0.113.66 port 4444 ssh2",
            {"[user][name]": "root from 1.1.1.1 port 22 ssh2", "[source][address]": REAL},
        ),
        (
            (
                "Failed none for invalid user x from 1.1.1.1 port 2 ssh2: RSA SHA256:abc "
                "from 203.0.113.66 port 4 ssh2"
            ),
            {"[user][name]": "x from 1.1.1.1 port 2 ssh2: RSA SHA256:abc", "[source][address]": REAL},
        ),
        (
            "Failed none for invalid user x from ::1% from 203.0.113.66 port 4 ssh2",
            {"[user][name]": "x from ::1%", "[source][address]": REAL},
        ),
        (
            "Invalid user root from 1.1.1.1 port 22 from 203.0.113.66 port 4444",
            {"[user][name]": "root from 1.1.1.1 port 22", "[source][address]": REAL},
        ),
        ("Invalid user  from 203.0.113.66 port 4444", {"[user][name]": "", "[source][address]": REAL}),
        (
            (
                "error: maximum authentication attempts exceeded for invalid user a b "
                "from 203.0.113.66 port 4 ssh2 [preauth]"
            ),
            {"[user][name]": "a b", "[source][address]": REAL, "[event][outcome]": "failure"},
        ),
        (
            (
                "Connection closed by invalid user root 1.1.1.1 port 22 [preauth] "
                "203.0.113.66 port 4444 [preauth]"
            ),
            {"[user][name]": "root 1.1.1.1 port 22 [preauth]", "[source][address]": REAL},
        ),
        (
            "Disconnected from authenticating user root 203.0.113.66 port 4444 [preauth]",
            {"[user][name]": "root", "[source][address]": REAL},
        ),
        (
            (
                r"Failed password for invalid user a\nAccepted password for root from 1.1.1.1 port 1 ssh2 "
                "from 203.0.113.66 port 4 ssh2"
            ),
            {"[event][action]": "Failed", "[source][address]": REAL},
        ),
        ('Invalid user "]} from 203.0.113.66 port 1', {"[user][name]": '"]}', "[source][address]": REAL}),
    ],
)
def test_sshd_login_is_parsed_from_the_end_of_the_line(
    pipeline: Any, line: str, fields: dict[str, Any], identifier: str
) -> None:
    event = pipeline("audit", line, **by_root(identifier))
    assert {field: pipeline.module.get(event, field) for field in fields} == fields
    assert event["message"] == line


COMMAND = "TTY=pts/0 ; PWD=/home/anna ; USER=root ; COMMAND=/usr/bin/systemctl stop clawd-bot"


@pytest.mark.parametrize(
    ("line", "action", "outcome"),
    [
        (f"    anna : {COMMAND}", "executed", "success"),
        (f"    anna : command not allowed ; {COMMAND}", "refused", "failure"),
        (f"    anna : user NOT in sudoers ; {COMMAND}", "refused", "failure"),
        (f"    anna : 3 incorrect password attempts ; {COMMAND}", "refused", "failure"),
        (f"    anna : a password is required ; {COMMAND.partition(' ; ')[2]}", "refused", "failure"),
    ],
)
def test_command_refused_by_sudo_is_not_recorded_as_executed(
    pipeline: Any, line: str, action: str, outcome: str
) -> None:
    event = pipeline("audit", line, **by("/usr/bin/sudo"))
    assert (event["event"]["action"], event["event"]["outcome"]) == (action, outcome)
    assert event["user"] == {"name": "anna", "effective": {"name": "root"}}
    assert event["process"]["command_line"] == "/usr/bin/systemctl stop clawd-bot"


@pytest.mark.parametrize(
    "line",
    [
        "anna : command not allowed ; PWD=/x ; USER=root ; COMMAND=/bin/ls ; USER=root ; COMMAND=/a",
        "anna : TTY=pts/0 ; PWD=/tmp/x ; USER=nobody ; COMMAND=/bin/true ; USER=root ; COMMAND=/bin/sh",
        "anna : TTY=pts/0 ; PWD=/tmp ; USER=nobody ; COMMAND=/bin/echo a ; COMMAND=/bin/sh",
    ],
)
def test_ambiguous_sudo_line_is_kept_and_tagged(pipeline: Any, line: str) -> None:
    assert pipeline("audit", line, **by("/usr/bin/sudo")) == {"message": line, "tags": ["ambiguous"]}


@pytest.mark.parametrize(
    ("line", "action", "outcome"),
    [("(to root) anna on pts/1", None, None), ("FAILED SU (to root) anna on pts/1", "FAILED SU", "failure")],
)
def test_su_line_is_parsed(pipeline: Any, line: str, action: str | None, outcome: str | None) -> None:
    event = pipeline("audit", line, **by("/usr/bin/su"))
    assert event["user"] == {"name": "anna", "effective": {"name": "root"}}
    assert (event.get("event") or {"action": None, "outcome": None}) == {"action": action, "outcome": outcome}


@pytest.mark.parametrize(
    ("line", "writer"),
    [
        (
            "Accepted password for root from 1.1.1.1 port 22 ssh2",
            {
                "journald": {"uid": 1000, "process": {"executable": "/usr/bin/logger"}},
                "syslog": {"identifier": "sshd"},
            },
        ),
        (
            "Accepted password for root from 1.1.1.1 port 22 ssh2",
            {"journald": {"uid": 1000}, "syslog": {"identifier": "0 sshd"}},
        ),
        (
            f"root : {COMMAND}",
            {
                "journald": {"uid": 0, "process": {"executable": "/usr/bin/logger"}},
                "syslog": {"identifier": "sudo"},
            },
        ),
        (
            f"root : {COMMAND}",
            {"journald": {"process": {"executable": "/bin/sudo "}}, "syslog": {"identifier": "sudo"}},
        ),
    ],
)
def test_line_forged_under_the_name_of_sshd_or_sudo_is_not_parsed(
    pipeline: Any, line: str, writer: dict[str, Any]
) -> None:
    assert pipeline("audit", line, **writer) == {"message": line}


def test_sudo_line_of_an_ended_process_is_parsed_and_tagged_unverified(pipeline: Any) -> None:
    event = pipeline("audit", f"anna : {COMMAND}", journald={"uid": 1000}, syslog={"identifier": "sudo"})
    assert event["tags"] == ["unverified"]
    assert event["event"] == {"action": "executed", "outcome": "success"}


def test_other_audit_lines_are_kept_untagged(pipeline: Any) -> None:
    line = "pam_unix(sudo:session): session opened for user root(uid=0) by anna(uid=1000)"
    assert pipeline("audit", line, **by("/usr/bin/sudo")) == {"message": line}
    assert pipeline("audit", line, **SSHD) == {"message": line}


def test_host_of_a_line_is_that_of_its_certificate(pipeline: Any) -> None:
    claims = {"host": {"name": "bot1"}, "agent": {"name": "bot1"}, "user": {"name": "root"}, "tags": ["good"]}
    event = pipeline.whole("audit", "x", subject="CN=filebeat.log1", **claims)
    assert event == {
        "message": "x",
        "host": {"name": "log1"},
        "data_stream": {"type": "logs", "dataset": "clawd.audit", "namespace": "default"},
    }


REFUSED = {"type": "logs", "dataset": "clawd.refused", "namespace": "default"}


@pytest.mark.parametrize(
    ("subject", "dataset", "claims", "name", "tags"),
    [
        ("CN=filebeat.log1", "bot", {}, "log1", ["not_of_this_host"]),
        ("CN=filebeat.log1", "nginx_access", {}, "log1", ["not_of_this_host"]),
        ("CN=filebeat.bot1", "x\nbot1 clawd.bot", {}, "bot1", ["not_of_this_host"]),
        ("CN=filebeat.bot9", "audit", {}, "bot9", ["not_of_this_host"]),
        ("CN=10.0.0.1", "audit", {}, None, ["unknown_sender", "not_of_this_host"]),
        ("CN=filebeat.log1,O=filebeat.bot1", "audit", {}, None, ["unknown_sender", "not_of_this_host"]),
        ("CN=filebeat.log1 bot1", "audit", {}, None, ["unknown_sender", "not_of_this_host"]),
        ("CN=filebeat.log1", "bot", {"@metadata": {"line": "bot1 clawd.bot"}}, "log1", ["not_of_this_host"]),
        (
            "CN=filebeat.log1",
            "bot",
            {"data_stream": {"dataset": "clawd.bot", "namespace": "other", "type": "metrics"}},
            "log1",
            ["not_of_this_host"],
        ),
        ("CN=filebeat.log1", "bot", {"data_stream": "logs-other"}, "log1", ["not_of_this_host"]),
    ],
)
def test_line_with_a_dataset_of_another_sender_goes_to_the_refused_stream(
    pipeline: Any, subject: str, dataset: str, claims: dict[str, Any], name: str | None, tags: list[str]
) -> None:
    line = "2026-01-31T12:00:00.000Z [INFO] x"
    event = pipeline.whole(dataset, line, subject=subject, **claims)
    assert event["data_stream"] == REFUSED
    assert event["tags"] == tags
    assert event["message"] == line
    assert event.get("host", {}).get("name") == name


FORGED = (
    '/a" 200 1 0.1 "-" "-" 0123',
    "/a 200 12 0.003 127.0.0.1:8080 0.002 0123456789abcdef",
    '/a\\" 200 1 0.1 "127.0.0.1:1" "0.1" 0123',
    "/%0a203.0.113.7",
    "/]} [x] - ",
)


@pytest.mark.parametrize("uri", FORGED)
def test_path_of_a_request_cannot_forge_its_status(pipeline: Any, uri: str) -> None:
    """As nginx writes such a path: quotes, backslashes and control characters as \\xXX."""
    written = re.sub(r'["\\\x00-\x1f]', lambda found: f"\\x{ord(found[0]):02X}", uri)
    event = pipeline("nginx_access", access_line(uri=written, status="404"))
    assert "tags" not in event
    assert event["http"]["response"]["status_code"] == 404
    assert event["url"]["path"] == written

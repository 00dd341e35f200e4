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
from deploys.ops.files import rendered
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

    def filtered(dataset: str, line: str) -> dict[str, Any]:
        event = {"message": line, "data_stream": {"dataset": f"clawd.{dataset}"}}
        found: dict[str, Any] = module.filtered(tree, event)
        found.pop("data_stream")
        return found

    filtered.tree, filtered.module = tree, module  # type: ignore[attr-defined]
    return filtered


def test_only_known_certificates_come_in_and_lines_go_out_over_tls(pipeline: Any) -> None:
    beats = pipeline.module.section(pipeline.tree, "input")["beats"]
    assert (beats["ssl_enabled"], beats["ssl_client_authentication"]) == (True, "required")
    out = pipeline.module.section(pipeline.tree, "output")["elasticsearch"]
    assert all(host.startswith("https://") for host in out["hosts"])
    assert out["password"] == "${CLAWD_ELASTICSEARCH_PASSWORD}"
    assert out["data_stream"] == "true"


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
@pytest.mark.parametrize("dataset", ["bot", "engine"])
def test_what_the_runtime_logs(pipeline: Any, dataset: str, level: str) -> None:
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


def test_a_traceback_stays_one_line(pipeline: Any) -> None:
    try:
        raise ValueError("of [this] test")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f.py", 1, "failed", (), sys.exc_info())
    event = pipeline("bot", LineFormatter("%(message)s").format(record))
    assert event["log"]["level"] == "ERROR"
    assert event["message"].startswith(r"failed\nTraceback")
    assert event["message"].endswith("ValueError: of [this] test")


def test_a_line_of_another_form_is_kept_and_marked(pipeline: Any) -> None:
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


def test_what_nginx_logs_of_a_request(pipeline: Any) -> None:
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
        ({"request_method": "", "uri": "", "status": "400"}, "[http][response][status_code]", 400),
    ],
)
def test_unusual_requests(pipeline: Any, given: dict[str, str], field: str, value: Any) -> None:
    event = pipeline("nginx_access", access_line(**given))
    assert "tags" not in event
    assert pipeline.module.get(event, field) == value


def test_what_nginx_tells_of_its_troubles_in_local_time(pipeline: Any) -> None:
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


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (
            "Accepted publickey for anna from 203.0.113.5 port 50222 ssh2: ED25519 SHA256:abc",
            {
                "[event][action]": "Accepted",
                "[authentication][method]": "publickey",
                "[user][name]": "anna",
                "[source][address]": "203.0.113.5",
                "[source][port]": 50222,
            },
        ),
        (
            "Failed password for invalid user admin from 2001:db8::1 port 4 ssh2",
            {"[event][action]": "Failed", "[user][name]": "admin", "[source][address]": "2001:db8::1"},
        ),
        (
            "    anna : TTY=pts/0 ; PWD=/home/anna ; USER=root ; COMMAND=/usr/bin/systemctl stop clawd-bot",
            {
                "[user][name]": "anna",
                "[user][effective][name]": "root",
                "[process][command_line]": "/usr/bin/systemctl stop clawd-bot",
            },
        ),
    ],
)
def test_logins_and_sudo(pipeline: Any, line: str, fields: dict[str, Any]) -> None:
    event = pipeline("audit", line)
    assert {field: pipeline.module.get(event, field) for field in fields} == fields
    assert event["message"] == line


def test_other_lines_of_logins_are_kept_unmarked(pipeline: Any) -> None:
    line = "pam_unix(sudo:session): session opened for user root(uid=0) by anna(uid=1000)"
    assert pipeline("audit", line) == {"message": line}

"""What is written into Elasticsearch, carried out on the stand-in's store with its documented shapes."""

from __future__ import annotations

import importlib
import json
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploys.elastic.api import Call, WantedObject
from deploys.elasticsearch.objects import ADMIN, READER, WRITER, wanted
from deploys.elasticsearch.settings import ElasticsearchSettings, settings_for
from deploys.kibana.objects import saved, token
from tests.deploys.elasticsearch.test_settings import ONE, THREE, declared

PROGRAMS = Path(__file__).resolve().parents[2] / "standins/elastic/programs"
LOGINS = {ADMIN: "elastic:of-elastic", WRITER: "clawd_logstash:of-logstash", READER: "clawd:of-people"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Any]:
    sys.path.insert(0, str(PROGRAMS))
    try:
        yield importlib.import_module("store").Store(tmp_path, "of-elastic")
    finally:
        sys.path.remove(str(PROGRAMS))


def ask(store: Any, call: Call) -> tuple[int, Any]:
    """The call as the program on a host makes it."""
    body = json.dumps(filled(call.body)) if call.body is not None else ""
    login = "Basic " + b64encode(LOGINS[call.login].encode()).decode()
    status, content = store.answer(call.method, call.path, login, body.encode())
    return status, json.loads(json.dumps(content))


def filled(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"$secret"}:
            return LOGINS[value["$secret"]].partition(":")[2]
        return {name: filled(item) for name, item in value.items()}
    return [filled(item) for item in value] if isinstance(value, list) else value


def missing(store: Any, things: tuple[WantedObject, ...]) -> list[str]:
    return [item.name for item in things if not item.holds(*ask(store, item.probe))]


def write(store: Any, things: tuple[WantedObject, ...]) -> None:
    for item in things:
        if not item.holds(*ask(store, item.probe)):
            for call in item.writes:
                status, answer = ask(store, call)
                assert status in call.accepted, answer


def settings(**logs: Any) -> ElasticsearchSettings:
    found = settings_for(declared(ONE, reader_password="of-people-in-kibana", **logs), "log1")
    assert found is not None
    return found


def test_written_objects_are_not_missing(store: Any) -> None:
    things = wanted(settings())
    assert missing(store, things) == [item.name for item in things]
    write(store, things)
    assert missing(store, things) == []


def test_changed_settings_make_only_their_objects_missing(store: Any) -> None:
    write(store, wanted(settings()))
    assert missing(store, wanted(settings(audit_days=365))) == ["lifecycle policy clawd-audit"]
    assert missing(store, wanted(settings(keep_days=7))) == ["lifecycle policy clawd-lines"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/_ilm/policy/clawd-audit", "lifecycle policy clawd-audit"),
        ("/_component_template/clawd-lines", "component template clawd-lines"),
        ("/_index_template/clawd-lines", "index template clawd-lines"),
        ("/_security/role/clawd_logstash", "role clawd_logstash"),
        ("/_security/user/clawd", "user clawd"),
    ],
)
def test_deleted_object_is_the_only_one_missing(store: Any, path: str, name: str) -> None:
    things = wanted(settings())
    write(store, things)
    assert ask(store, Call("DELETE", path, ADMIN))[0] == 200
    assert missing(store, things) == [name]


def test_changed_password_is_detected_by_login(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    things = wanted(settings())
    write(store, things)
    monkeypatch.setitem(LOGINS, WRITER, "clawd_logstash:another")
    assert missing(store, things) == ["user clawd_logstash"]
    write(store, things)
    assert missing(store, things) == []


def test_manually_added_rights_are_revoked(store: Any) -> None:
    things = wanted(settings())
    write(store, things)
    (role,) = (item for item in things if item.name == "role clawd_logstash")
    more = {"cluster": ["all"], "indices": [], "metadata": {}}
    assert ask(store, Call("PUT", role.probe.path, ADMIN, more))[0] == 200
    assert missing(store, things) == [role.name]


def test_lifecycle_keeps_audit_lines_190_days_and_others_as_declared(store: Any) -> None:
    write(store, wanted(settings(keep_days=14)))
    policies = store.state["policies"]
    assert policies["clawd-audit"]["phases"]["delete"]["min_age"] == "190d"
    assert policies["clawd-lines"]["phases"]["delete"]["min_age"] == "14d"
    templates = store.state["templates"]
    assert templates["clawd-audit"]["priority"] > templates["clawd-lines"]["priority"]
    of_audit = templates["clawd-audit"]["template"]["settings"]["index"]
    assert of_audit["lifecycle"]["name"] == "clawd-audit"


def test_replicas_follow_the_number_of_nodes() -> None:
    def copies(hosts: dict[str, list[str]]) -> str:
        found = settings_for(declared(hosts), "log1")
        assert found is not None
        (template,) = (item for item in wanted(found) if item.name == "index template clawd-lines")
        index = template.writes[0].body["template"]["settings"]["index"]
        return str(index["number_of_replicas"])

    assert (copies(ONE), copies(THREE)) == ("0", "1")


def test_logstash_may_only_append_and_reader_may_only_read(store: Any) -> None:
    write(store, wanted(settings()))

    def may(login: str, *privileges: str, index: str = "logs-clawd.bot-default") -> bool:
        body = {"index": [{"names": [index], "privileges": list(privileges)}]}
        status, answer = ask(store, Call("GET", "/_security/user/_has_privileges", login, body))
        assert status == 200
        return bool(answer["has_all_requested"])

    assert may(WRITER, "create_doc", "auto_configure")
    assert not any(may(WRITER, privilege) for privilege in ("read", "delete", "manage"))
    assert not may(WRITER, "create_doc", index="logs-other-default")
    assert may(READER, "read", "view_index_metadata")
    assert not any(may(READER, privilege) for privilege in ("create_doc", "delete"))
    assert ask(store, Call("PUT", "/_security/role/x", WRITER, {"cluster": ["all"]}))[0] == 403


def test_reader_account_is_omitted_without_its_password() -> None:
    found = settings_for(declared(ONE), "log1")
    assert found is not None
    assert not [item.name for item in wanted(found) if item.name in ("user clawd", "role clawd_reader")]


def test_calls_contain_no_secret() -> None:
    given = settings()
    secrets = [given.password, given.writer_password, given.reader_password]
    things = (*wanted(given), *saved(), token("log1"))
    text = repr([(item.probe, item.writes) for item in things])
    assert not [secret for secret in secrets if secret and secret.get_secret_value() in text]

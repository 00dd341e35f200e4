from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from deploys.elastic.api import Call, ElasticServer, command, contains, holds, marked
from deploys.elastic.passwords import derived


@pytest.mark.parametrize(
    ("there", "wanted", "held"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": "1"}, {"a": 1}, True),
        ({"a": "true"}, {"a": True}, True),
        ({"a": {"b": [{"c": 1, "more": 0}]}}, {"a": {"b": [{"c": 1}]}}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, {"b": 1}, False),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": [2, 1]}, {"a": [1, 2]}, False),
        (None, {"a": 1}, False),
        ("text", {"a": 1}, False),
        ({"a": None}, {"a": {}}, False),
        ({"a": {}}, {"a": {}}, True),
    ],
)
def test_contains_compares_only_wanted_keys(there: Any, wanted: Any, held: bool) -> None:
    assert contains(there, wanted) is held


def test_mark_depends_on_content_and_not_on_key_order() -> None:
    assert marked({"a": 1, "b": 2}) == marked({"b": 2, "a": 1})
    assert marked({"a": 1}) != marked({"a": 2})


def test_passwords_differ_by_purpose_project_and_root() -> None:
    root = SecretStr("r" * 32)
    made = {
        derived(secret, project, purpose).get_secret_value()
        for secret in (root, SecretStr("s" * 32))
        for project in ("one", "two")
        for purpose in ("elastic", "logstash")
    }
    assert len(made) == 8
    assert all(len(password) == 43 for password in made)


def test_derived_password_equals_the_recorded_value() -> None:
    """Another derivation would lock the hosts of running clusters: this value must not change."""
    given = derived(SecretStr("0123456789abcdef0123456789abcdef"), "clawd", "elastic")
    assert given.get_secret_value() == "9LISDMdkAYS6KvV2BDnwY-oSwKcQamlXiyEaMYaZyKI"


def test_generated_commands_parse_as_shell_and_python() -> None:
    call = Call("GET", "/", "/etc/clawd/login")
    server = ElasticServer(9200, "/etc/ca.pem")
    for text in (command(server, (call,), reading=True), holds(server, call, "status == 200")):
        assert "/etc/clawd/login" in text
    program = holds(server, call, "status == 200").split("-c ", 1)[1].split("' '")[0]
    compile(program.strip("'").replace("'\"'\"'", "'"), "program", "exec")

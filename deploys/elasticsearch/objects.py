"""Objects of Elasticsearch: retention of lines, their fields, and rights of users. Pure.

Shapes are those of https://www.elastic.co/docs/api/doc/elasticsearch/v9: ilm, indices and security.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deploys.elastic.api import Call, WantedObject, contains, marked, secret_in
from deploys.elasticsearch.settings import ElasticsearchSettings

ADMIN = "/etc/clawd/elasticsearch/elastic"
WRITER = "/etc/clawd/elasticsearch/clawd_logstash"
READER = "/etc/clawd/elasticsearch/clawd"
"""Files of the host, each a login: `USER:PASSWORD`."""
LINES = "logs-clawd.*-*"
"""The data streams that lines go to, `logs-clawd.<dataset>-default`."""

Holds = Callable[[int, Any], bool]


def wanted(settings: ElasticsearchSettings) -> tuple[WantedObject, ...]:
    """Return all objects; each one after those that it needs."""
    people = (_role("clawd_reader", READER_MAY), _user("clawd", "clawd_reader", READER))
    return (
        _policy("clawd-lines", settings.keep_days),
        _policy("clawd-audit", settings.audit_days),
        _mappings(),
        _template("clawd-lines", LINES, 200, "clawd-lines", alone=settings.alone),
        _template("clawd-audit", "logs-clawd.audit-*", 300, "clawd-audit", alone=settings.alone),
        _role("clawd_logstash", WRITER_MAY),
        _user("clawd_logstash", "clawd_logstash", WRITER),
        *(people if settings.reader_password is not None else ()),
    )


WRITER_MAY: dict[str, Any] = {
    "cluster": ["monitor"],
    "indices": [{"names": [LINES], "privileges": ["auto_configure", "create_doc"]}],
}
"""Logstash reads the server's version and licence, and adds lines to data streams; it reads none."""
READER_MAY: dict[str, Any] = {
    "cluster": [],
    "indices": [{"names": [LINES], "privileges": ["read", "view_index_metadata"]}],
    "applications": [
        {"application": "kibana-.kibana", "privileges": ["space_read"], "resources": ["space:default"]}
    ],
}


def _policy(name: str, days: int) -> WantedObject:
    """Return a policy that deletes an index `days` after its rollover: every line in it is older by then."""
    phases = {
        "hot": {
            "min_age": "0ms",
            "actions": {"rollover": {"max_age": "7d", "max_primary_shard_size": "10gb"}},
        },
        "delete": {"min_age": f"{days}d", "actions": {"delete": {}}},
    }
    policy = {"phases": phases, "_meta": marked(phases)}
    return _held(f"lifecycle policy {name}", f"/_ilm/policy/{name}", {"policy": policy}, name)


def _mappings() -> WantedObject:
    keyword = {"type": "keyword", "ignore_above": 1024}
    template = {
        "mappings": {
            "dynamic_templates": [{"texts": {"match_mapping_type": "string", "mapping": keyword}}],
            "properties": {
                "@timestamp": {"type": "date"},
                "message": {"type": "match_only_text"},
                "log": {"properties": {"level": keyword}},
                "source": {"properties": {"address": keyword}},
                "url": {"properties": {"path": {"type": "wildcard"}}},
                "http": {
                    "properties": {
                        "response": {
                            "properties": {
                                "status_code": {"type": "long"},
                                "body": {"properties": {"bytes": {"type": "long"}}},
                            }
                        }
                    }
                },
                "nginx": {"properties": {"request_seconds": {"type": "float"}}},
            },
        }
    }
    body = {"template": template, "_meta": marked(template)}
    return _held(
        "component template clawd-lines",
        "/_component_template/clawd-lines",
        body,
        "component_templates",
        "component_template",
    )


def _template(name: str, pattern: str, priority: int, policy: str, *, alone: bool) -> WantedObject:
    """Return an index template for data streams. Elasticsearch's own for `logs-*-*` has priority 100."""
    body: dict[str, Any] = {
        "index_patterns": [pattern],
        "data_stream": {},
        "composed_of": ["clawd-lines"],
        "priority": priority,
        "template": {
            "settings": {
                "index": {
                    "lifecycle": {"name": policy},
                    "codec": "best_compression",
                    "number_of_shards": "1",
                    "number_of_replicas": "0" if alone else "1",
                }
            }
        },
    }
    body["_meta"] = marked(body)
    return _held(
        f"index template {name}", f"/_index_template/{name}", body, "index_templates", "index_template"
    )


def _role(name: str, may: dict[str, Any]) -> WantedObject:
    return _held(f"role {name}", f"/_security/role/{name}", {**may, "metadata": marked(may)}, name)


def _user(name: str, role: str, login: str) -> WantedObject:
    """Return a user who can sign in with the password in `login` and has `role`."""
    body = {"password": secret_in(login), "roles": [role], "metadata": {"managed_by": "clawd-provision"}}

    def holds(status: int, answer: Any) -> bool:
        return status == 200 and contains(answer, {"username": name, "roles": [role], "enabled": True})

    return WantedObject(
        f"user {name}",
        Call("GET", "/_security/_authenticate", login),
        (Call("PUT", f"/_security/user/{name}", ADMIN, {**body, "enabled": True}),),
        holds,
    )


def _held(name: str, path: str, body: dict[str, Any], *within: str) -> WantedObject:
    """Return `body` at `path`; answers have it below the keys `within`, the first possibly of a list."""

    def holds(status: int, answer: Any) -> bool:
        there = answer
        for key in within:
            there = there.get(key) if isinstance(there, dict) else None
            there = there[0] if isinstance(there, list) and there else there
        return status == 200 and contains(there, body)

    return WantedObject(name, Call("GET", path, ADMIN), (Call("PUT", path, ADMIN, body),), holds)

"""Kibana's access to Elasticsearch, and its saved objects: data views and searches. Pure.

Shapes are those of https://www.elastic.co/docs/api/doc/elasticsearch/v9 (security) and
https://www.elastic.co/docs/api/doc/kibana/v9 (data views, saved objects).
"""

from __future__ import annotations

import json
from typing import Any

from deploys.elastic.api import Call, WantedObject, contains, marked

ADMIN = "/etc/clawd/kibana/elastic"
TOKEN = "/etc/clawd/kibana/token"  # noqa: S105 - the path of a file
TOKEN_NAME = "CLAWD_ELASTICSEARCH_TOKEN"  # noqa: S105 - the name of a variable
BOUNDARY = "clawd-provision-saved-objects"
ALL_LINES, AUDIT_LINES = "clawd-lines", "clawd-audit"

SEARCHES: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = (
    (
        "clawd-errors",
        "Errors of bot, engine and nginx",
        ALL_LINES,
        "log.level: (ERROR or CRITICAL or CRIT or ALERT or EMERG)",
        ("host.name", "data_stream.dataset", "log.level", "message"),
    ),
    (
        "clawd-failed-requests",
        "Requests that nginx answered with 5xx",
        ALL_LINES,
        "http.response.status_code >= 500",
        ("host.name", "source.address", "url.path", "http.response.status_code", "nginx.request_seconds"),
    ),
    (
        "clawd-logins",
        "Logins and commands with rights of root",
        AUDIT_LINES,
        "",
        ("host.name", "user.name", "source.address", "message"),
    ),
)
"""Identity, title, data view, query in KQL, columns."""


def token(node: str) -> WantedObject:
    """Return the token of this Kibana's service account. Elasticsearch returns it only when it creates it."""
    path = f"/_security/service/elastic/kibana/credential/token/clawd-{node}"
    made = Call("POST", path, ADMIN, keep=(TOKEN, TOKEN_NAME, ("token", "value")))

    def holds(status: int, answer: Any) -> bool:
        return status == 200 and contains(answer, {"username": "elastic/kibana"})

    return WantedObject(
        TOKEN,
        Call("GET", "/_security/_authenticate", TOKEN),
        (Call("DELETE", path, ADMIN, accepted=(200, 404)), made),
        holds,
    )


def saved() -> tuple[WantedObject, ...]:
    """Return data views, and searches that use them."""
    return (
        _data_view(ALL_LINES, "logs-clawd.*-*", "All lines"),
        _data_view(AUDIT_LINES, "logs-clawd.audit-*", "Logins and sudo"),
        *(_search(*search) for search in SEARCHES),
    )


def _data_view(identity: str, title: str, name: str) -> WantedObject:
    view = {"id": identity, "title": title, "name": name, "timeFieldName": "@timestamp"}

    def holds(status: int, answer: Any) -> bool:
        return status == 200 and contains(answer, {"data_view": view})

    return WantedObject(
        f"data view {name}",
        Call("GET", f"/api/data_views/data_view/{identity}", ADMIN),
        (Call("POST", "/api/data_views/data_view", ADMIN, {"data_view": view, "override": True}),),
        holds,
    )


def _search(identity: str, title: str, view: str, query: str, columns: tuple[str, ...]) -> WantedObject:
    """Return a saved search. Changes of users stay until its declaration here changes.

    Kibana 9 drops the API that reads one by its identity; export and import remain. An export is a POST, but
    changes nothing.
    """
    reference = "kibanaSavedObjectMeta.searchSourceJSON.index"
    source = {"query": {"query": query, "language": "kuery"}, "filter": [], "indexRefName": reference}
    attributes: dict[str, Any] = {
        "title": title,
        "columns": list(columns),
        "sort": [["@timestamp", "desc"]],
        "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps(source)},
    }
    attributes["description"] = f"Written by clawd-provision ({marked(attributes)['digest']})"
    stored = {
        "type": "search",
        "id": identity,
        "attributes": attributes,
        "references": [{"type": "index-pattern", "id": view, "name": reference}],
    }
    known = {"title": title, "description": attributes["description"]}

    def holds(status: int, answer: Any) -> bool:
        return status == 200 and contains(answer, {"id": identity, "attributes": known})

    exported = {"objects": [{"type": "search", "id": identity}], "excludeExportDetails": True}
    return WantedObject(
        f"search {title}",
        Call("POST", "/api/saved_objects/_export", ADMIN, exported),
        (
            Call(
                "POST",
                "/api/saved_objects/_import?overwrite=true",
                ADMIN,
                raw=_form(json.dumps(stored)),
                content_type=f"multipart/form-data; boundary={BOUNDARY}",
            ),
        ),
        holds,
    )


def _form(line: str) -> str:
    """Return a form with one file (RFC 7578)."""
    return (
        f"--{BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="file"; filename="clawd.ndjson"\r\n'
        "Content-Type: application/ndjson\r\n\r\n"
        f"{line}\n\r\n--{BOUNDARY}--\r\n"
    )

"""What the stand-in of Elasticsearch keeps, and the calls that are used, in their documented shapes.

https://www.elastic.co/docs/api/doc/elasticsearch/v9. Any other request is refused with 400 or 405.
"""

from __future__ import annotations

import base64
import fnmatch
import json
import secrets
import threading
from pathlib import Path
from typing import Any

from common import credentials

CLUSTER_PRIVILEGES = {"all", "monitor", "manage", "manage_ilm", "manage_index_templates", "read_ilm"}
INDEX_PRIVILEGES = {
    "all",
    "read",
    "write",
    "create_doc",
    "create",
    "delete",
    "index",
    "auto_configure",
    "view_index_metadata",
    "manage",
}
PHASES = {"hot", "warm", "cold", "frozen", "delete"}
ACTIONS = {"rollover", "delete", "forcemerge", "shrink", "set_priority", "readonly"}
ROLE_FIELDS = {"cluster", "indices", "applications", "run_as", "metadata", "global", "description"}
USER_FIELDS = {"password", "password_hash", "roles", "full_name", "email", "metadata", "enabled"}
TEMPLATE_FIELDS = {
    "index_patterns",
    "data_stream",
    "composed_of",
    "priority",
    "template",
    "version",
    "_meta",
    "allow_auto_create",
}


class Refused(Exception):
    """An error answer of Elasticsearch."""

    def __init__(self, status: int, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.body = {"error": {"type": kind, "reason": reason}, "status": status}


def wrong(reason: str) -> Refused:
    return Refused(400, "x_content_parse_exception", reason)


class Store:
    """The state of one cluster, on disk after every change."""

    def __init__(self, folder: Path, password: str) -> None:
        self._file, self._lines = folder / "state.json", folder / "lines.jsonl"
        self._password, self._lock = password, threading.RLock()
        self.state: dict[str, Any] = {
            kind: {} for kind in ("policies", "components", "templates", "roles", "users", "tokens")
        }
        if self._file.exists():
            self.state = json.loads(self._file.read_text())

    def answer(self, method: str, path: str, authorization: str, data: bytes) -> tuple[int, Any]:
        """Return the answer, with the account as `user` in the headers of the second value."""
        with self._lock:
            try:
                who = self.who(authorization)
                return self._route(method, path.partition("?")[0], who, data)
            except Refused as refused:
                return refused.status, refused.body

    def who(self, authorization: str) -> dict[str, Any]:
        """Return the account; refuse with 401."""
        scheme, content = credentials(authorization)
        if scheme == "Basic":
            name, _, password = content.partition(":")
            if name == "elastic" and self._password and password == self._password:
                return account("elastic", ["superuser"])
            user = self.state["users"].get(name)
            if user and user["password"] == password and user["enabled"]:
                return account(name, user["roles"], user["metadata"])
        if scheme == "Bearer" and content in self.state["tokens"].values():
            return account("elastic/kibana", [])
        raise Refused(401, "security_exception", "unable to authenticate")

    def _route(self, method: str, path: str, who: dict[str, Any], data: bytes) -> tuple[int, Any]:
        parts = [part for part in path.split("/") if part]
        match (method, *parts):
            case ("GET",):
                self._must(who, cluster="monitor")
                return 200, {"cluster_name": "stand-in", "version": {"build_flavor": "default"}}
            case ("GET", "_security", "_authenticate"):
                return 200, who
            case ("GET" | "POST", "_security", "user", "_has_privileges"):
                return 200, self._has_privileges(who, self._json(data))
            case ("POST", "_bulk"):
                return 200, self._bulk(who, data)
            case ("GET", index, "_count" | "_search" as what):
                self._must(who, index=index, privilege="read")
                hits = [line for line in self._read() if fnmatch.fnmatch(line["_index"], index)]
                found = {"hits": {"total": {"value": len(hits)}, "hits": hits}}
                return 200, {"count": len(hits)} if what == "_count" else found
        if "superuser" not in who["roles"]:
            raise Refused(403, "security_exception", f"action is unauthorized for user [{who['username']}]")
        match (method, *parts):
            case ("POST", "_security", "service", "elastic", "kibana", "credential", "token", name):
                return 200, self._token(name)
            case ("DELETE", "_security", "service", "elastic", "kibana", "credential", "token", name):
                known = self.state["tokens"].pop(name, None) is not None
                self._save()
                return (200 if known else 404), {"found": known}
            case ("GET", *words, name) if kind := self._kind(words):
                return self._get(kind, name)
            case ("PUT", *words, name) if kind := self._kind(words):
                return 200, self._put(kind, name, self._json(data))
            case ("DELETE", *words, name) if kind := self._kind(words):
                if self.state[kind].pop(name, None) is None:
                    raise Refused(404, "resource_not_found_exception", f"{kind} matching [{name}] not found")
                self._save()
                return 200, {"acknowledged": True}
        raise Refused(
            400, "illegal_argument_exception", f"no handler found for uri [{path}] and method [{method}]"
        )

    @staticmethod
    def _kind(parts: list[str]) -> str:
        kinds = {
            "_ilm/policy": "policies",
            "_component_template": "components",
            "_index_template": "templates",
            "_security/role": "roles",
            "_security/user": "users",
        }
        return kinds.get("/".join(parts), "")

    def _get(self, kind: str, name: str) -> tuple[int, Any]:
        value = self.state[kind].get(name)
        if value is None:
            if kind in ("roles", "users"):
                return 404, {}
            raise Refused(404, "resource_not_found_exception", f"[{name}] not found")
        match kind:
            case "policies":
                return 200, {
                    name: {"version": 1, "modified_date": "2026-01-01T00:00:00.000Z", "policy": value}
                }
            case "components":
                return 200, {"component_templates": [{"name": name, "component_template": value}]}
            case "templates":
                return 200, {"index_templates": [{"name": name, "index_template": value}]}
            case "roles":
                given = [{"allow_restricted_indices": False, **item} for item in value.get("indices", [])]
                whole = {"run_as": [], "applications": [], "transient_metadata": {"enabled": True}, **value}
                return 200, {name: {**whole, "indices": given}}
            case _:
                return 200, {name: account(name, value["roles"], value["metadata"])}

    def _put(self, kind: str, name: str, body: dict[str, Any]) -> Any:
        checked = {
            "policies": check_policy,
            "components": self._check_component,
            "templates": self._check_template,
            "roles": check_role,
            "users": self._check_user,
        }[kind](body)
        known = name in self.state[kind]
        self.state[kind][name] = checked
        self._save()
        match kind:
            case "roles":
                return {"role": {"created": not known}}
            case "users":
                return {"created": not known}
        return {"acknowledged": True}

    @staticmethod
    def _check_component(body: dict[str, Any]) -> dict[str, Any]:
        only(body, {"template", "version", "_meta"})
        only(body.get("template") or {}, {"settings", "mappings", "aliases", "lifecycle"})
        return body

    def _check_template(self, body: dict[str, Any]) -> dict[str, Any]:
        only(body, TEMPLATE_FIELDS)
        if not body.get("index_patterns"):
            raise wrong("Required [index_patterns]")
        for component in body.get("composed_of", []):
            if component not in self.state["components"]:
                raise wrong(f"index template refers to missing component templates [{component}]")
        policy = body["template"]["settings"]["index"]["lifecycle"]["name"]
        if policy not in self.state["policies"]:
            raise wrong(f"no policy [{policy}]")
        for name, other in self.state["templates"].items():
            if other["priority"] == body["priority"] and other["index_patterns"] != body["index_patterns"]:
                raise wrong(f"the template [{name}] has the same priority")
        return body

    def _check_user(self, body: dict[str, Any]) -> dict[str, Any]:
        only(body, USER_FIELDS)
        if len(body.get("password", "")) < 6:
            raise wrong("passwords must be at least [6] characters long")
        for role in body["roles"]:
            if role not in self.state["roles"]:
                raise wrong(f"there is no role [{role}]")
        return {"metadata": {}, "enabled": True, **body}

    def _token(self, name: str) -> Any:
        if name in self.state["tokens"]:
            raise Refused(409, "version_conflict_engine_exception", f"[{name}]: document already exists")
        value = "AAEAAWVsYXN0aWMv" + base64.b64encode(secrets.token_bytes(24)).decode()
        self.state["tokens"][name] = value
        self._save()
        return {"created": True, "token": {"name": name, "value": value}}

    def _has_privileges(self, who: dict[str, Any], body: dict[str, Any]) -> Any:
        only(body, {"cluster", "index", "application"})
        cluster = {name: self._may(who, cluster=name) for name in body.get("cluster", [])}
        index = {
            name: {p: self._may(who, index=name, privilege=p) for p in item["privileges"]}
            for item in body.get("index", [])
            for name in item["names"]
        }
        every = all(cluster.values()) and all(all(given.values()) for given in index.values())
        return {"username": who["username"], "has_all_requested": every, "cluster": cluster, "index": index}

    def _may(self, who: dict[str, Any], cluster: str = "", index: str = "", privilege: str = "") -> bool:
        if "superuser" in who["roles"]:
            return True
        for role in (self.state["roles"].get(name, {}) for name in who["roles"]):
            if cluster and {cluster, "all"} & set(role.get("cluster", [])):
                return True
            for item in role.get("indices", []):
                named = any(fnmatch.fnmatch(index, pattern) for pattern in item["names"])
                if index and named and {privilege, "all"} & set(item["privileges"]):
                    return True
        return False

    def _must(self, who: dict[str, Any], **what: str) -> None:
        if not self._may(who, **what):
            raise Refused(403, "security_exception", f"action is unauthorized for user [{who['username']}]")

    def _bulk(self, who: dict[str, Any], data: bytes) -> Any:
        lines = data.decode().splitlines()
        items, taken = [], []
        for action, source in zip(lines[::2], lines[1::2], strict=True):
            (kind, place), document = next(iter(json.loads(action).items())), json.loads(source)
            index = place["_index"]
            if kind != "create":
                raise wrong("only write ops with an op_type of create are allowed in data streams")
            if "@timestamp" not in document:
                raise wrong("data stream timestamp field [@timestamp] is missing")
            if not self._may(who, index=index, privilege="create_doc"):
                items.append({"create": {"_index": index, "status": 403}})
            elif self._template_of(index) is None:
                items.append({"create": {"_index": index, "status": 404}})
            else:
                items.append({"create": {"_index": index, "status": 201}})
                taken.append({"_index": index, "_source": document})
        with self._lines.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in taken)
        return {"errors": len(taken) != len(items), "items": items}

    def _template_of(self, index: str) -> dict[str, Any] | None:
        fitting = [
            template
            for template in self.state["templates"].values()
            if any(fnmatch.fnmatch(index, pattern) for pattern in template["index_patterns"])
        ]
        return max(fitting, key=lambda template: template["priority"], default=None)

    def _read(self) -> list[dict[str, Any]]:
        return (
            [json.loads(line) for line in self._lines.read_text().splitlines()]
            if self._lines.exists()
            else []
        )

    def _save(self) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(self.state))
        fresh.replace(self._file)

    @staticmethod
    def _json(data: bytes) -> dict[str, Any]:
        try:
            body = json.loads(data)
        except ValueError:
            raise wrong("not JSON") from None
        if not isinstance(body, dict):
            raise wrong("not an object")
        return body


def account(name: str, roles: list[str], metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "username": name,
        "roles": roles,
        "full_name": None,
        "email": None,
        "metadata": metadata or {},
        "enabled": True,
    }


def only(body: dict[str, Any], known: set[str]) -> None:
    for name in body:
        if name not in known:
            raise wrong(f"unknown field [{name}]")


def check_policy(body: dict[str, Any]) -> dict[str, Any]:
    only(body, {"policy"})
    policy = body["policy"]
    only(policy, {"phases", "_meta"})
    only(policy["phases"], PHASES)
    for phase in policy["phases"].values():
        only(phase, {"min_age", "actions"})
        only(phase["actions"], ACTIONS)
        if "delete" in phase["actions"]:
            phase["actions"]["delete"] = {"delete_searchable_snapshot": True}
    return dict(policy)


def check_role(body: dict[str, Any]) -> dict[str, Any]:
    only(body, ROLE_FIELDS)
    if unknown := set(body.get("cluster", [])) - CLUSTER_PRIVILEGES:
        raise wrong(f"unknown cluster privilege {sorted(unknown)}")
    for item in body.get("indices", []):
        only(item, {"names", "privileges", "field_security", "query", "allow_restricted_indices"})
        if unknown := set(item["privileges"]) - INDEX_PRIVILEGES:
            raise wrong(f"unknown index privilege {sorted(unknown)}")
    for item in body.get("applications", []):
        only(item, {"application", "privileges", "resources"})
    return body

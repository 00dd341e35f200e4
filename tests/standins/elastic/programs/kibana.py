"""The stand-in of Kibana: needs its token and its keys, keeps data views and saved objects.

https://www.elastic.co/docs/api/doc/kibana/v9. It keeps them in a file, where the real one uses Elasticsearch.
"""

from __future__ import annotations

import json
import os
import re
import threading
from email.parser import BytesParser
from pathlib import Path
from typing import Any

from common import Https, Recorder, ask, credentials, refuse, server_context, settings_of

CONFIG = Path("/etc/kibana/kibana.yml")
KNOWN = {
    "server.name",
    "server.port",
    "server.host",
    "server.publicBaseUrl",
    "server.ssl.enabled",
    "server.ssl.certificate",
    "server.ssl.key",
    "server.ssl.supportedProtocols",
    "server.securityResponseHeaders.disableEmbedding",
    "elasticsearch.hosts",
    "elasticsearch.serviceAccountToken",
    "elasticsearch.ssl.certificateAuthorities",
    "elasticsearch.ssl.verificationMode",
    "xpack.security.encryptionKey",
    "xpack.encryptedSavedObjects.encryptionKey",
    "xpack.reporting.encryptionKey",
    "xpack.security.session.idleTimeout",
    "xpack.security.session.lifespan",
    "telemetry.optIn",
    "path.data",
    "pid.file",
}
VIEW_FIELDS = {"id", "title", "name", "timeFieldName"}
SEARCH_FIELDS = {"title", "description", "columns", "sort", "kibanaSavedObjectMeta"}


class Kibana:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.file = Path(settings["path.data"]) / "saved.json"
        self.saved: dict[str, Any] = (
            json.loads(self.file.read_text()) if self.file.exists() else {"views": {}, "searches": {}}
        )
        self.recorder, self.lock = Recorder(Path(settings["path.data"]) / "calls.jsonl"), threading.Lock()

    def elasticsearch(self, authorization: str) -> tuple[int, Any]:
        """Return the account, as the first node that answers has it."""
        (ca,) = self.settings["elasticsearch.ssl.certificateAuthorities"]
        for url in self.settings["elasticsearch.hosts"]:
            status, content = ask(url, ca, "GET", "/_security/_authenticate", authorization)
            if status:
                return status, content
        return 0, None

    def answer(self, method: str, path: str, headers: Any, data: bytes) -> tuple[int, Any]:
        authorization = headers.get("Authorization") or ""
        status, content = self._answer(method, path, headers, data, authorization)
        if path != "/api/status":
            user = credentials(authorization)[1].partition(":")[0] if authorization else None
            self.recorder.write(method=method, path=path, user=user, status=status)
        return status, content

    def _answer(
        self, method: str, path: str, headers: Any, data: bytes, authorization: str
    ) -> tuple[int, Any]:
        token = self.settings["elasticsearch.serviceAccountToken"]
        status, who = self.elasticsearch(f"Bearer {token}")
        level = "available" if status == 200 and who["username"] == "elastic/kibana" else "unavailable"
        if path == "/api/status":
            return (200 if level == "available" else 503), {"status": {"overall": {"level": level}}}
        if level != "available":
            return 503, {
                "statusCode": 503,
                "error": "Service Unavailable",
                "message": "License is not available.",
            }
        status, _ = self.elasticsearch(authorization) if authorization else (401, None)
        if status != 200:
            return 401, {"statusCode": 401, "error": "Unauthorized", "message": "Unauthorized"}
        if method != "GET" and not headers.get("kbn-xsrf"):
            return bad("Request must contain a kbn-xsrf header.")
        with self.lock:
            return self._saved(method, path, headers, data)

    def _saved(self, method: str, path: str, headers: Any, data: bytes) -> tuple[int, Any]:
        if method == "GET" and (found := re.fullmatch(r"/api/data_views/data_view/([\w-]+)", path)):
            view = self.saved["views"].get(found[1])
            if view is None:
                return 404, {"statusCode": 404, "error": "Not Found", "message": "Saved object not found"}
            return 200, {"data_view": {**view, "version": "WzEsMV0=", "namespaces": ["default"]}}
        if (method, path) == ("POST", "/api/data_views/data_view"):
            body = json.loads(data)
            if set(body) - {"data_view", "override"} or set(body["data_view"]) - VIEW_FIELDS:
                return bad("definition for this key is missing")
            view = body["data_view"]
            if view["id"] in self.saved["views"] and not body.get("override"):
                return bad(f"Duplicate data view: {view['name']}")
            self.saved["views"][view["id"]] = view
            self.save()
            return 200, {"data_view": view}
        if (method, path) == ("POST", "/api/saved_objects/_export"):
            ((wanted,), _) = (json.loads(data)["objects"], None)
            found = self.saved["searches"].get(wanted["id"])
            return (200, found) if found else bad("Error fetching objects to export")
        if (method, path) == ("POST", "/api/saved_objects/_import?overwrite=true"):
            return self._import(headers, data)
        return 404, {"statusCode": 404, "error": "Not Found", "message": "Not Found"}

    def _import(self, headers: Any, data: bytes) -> tuple[int, Any]:
        head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
        sent: Any = BytesParser().parsebytes(head + data)
        (part,) = sent.get_payload()
        name = part.get_filename() or ""
        if part.get_param("name", header="content-disposition") != "file" or not name.endswith(".ndjson"):
            return bad("Invalid file extension")
        for line in part.get_payload().splitlines():
            if not line:
                continue
            thing = json.loads(line)
            (reference,) = thing["references"]
            source = json.loads(thing["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
            if set(thing["attributes"]) - SEARCH_FIELDS or thing["type"] != "search":
                return bad("not a saved search")
            if reference["id"] not in self.saved["views"] or source["indexRefName"] != reference["name"]:
                return 200, {"success": False, "errors": [{"error": {"type": "missing_references"}}]}
            self.saved["searches"][thing["id"]] = {**thing, "coreMigrationVersion": "8.8.0", "managed": False}
        self.save()
        return 200, {"success": True, "successCount": 1}

    def save(self) -> None:
        self.file.write_text(json.dumps(self.saved))


def bad(message: str) -> tuple[int, Any]:
    return 400, {"statusCode": 400, "error": "Bad Request", "message": message}


def main() -> None:
    if os.geteuid() == 0:
        refuse("Kibana should not be run as root.  Use --allow-root to continue.")
    if "--max-old-space-size=" not in os.environ.get("NODE_OPTIONS", ""):
        refuse("a heap without bound")
    try:
        settings = settings_of(CONFIG, KNOWN, environment=True)
    except KeyError as error:
        refuse(f"Unknown environment variable referenced in config : {error}")
    for name, value in settings.items():
        if name.endswith("encryptionKey") and len(value) < 32:
            refuse(f"[config validation of [{name}]: value has length but must have at least 32")
    if not os.access(settings["path.data"], os.W_OK):
        refuse(f"cannot write to {settings['path.data']}")
    context = server_context(settings["server.ssl.certificate"], settings["server.ssl.key"])
    Https(
        (settings["server.host"], settings["server.port"]), context, Kibana(settings).answer
    ).serve_forever()


if __name__ == "__main__":
    main()

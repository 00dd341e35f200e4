"""The stand-in of Logstash: takes events over mutual TLS, filters as the pipeline says, adds in bulk.

The wire from the stand-in of Filebeat is lines of JSON, each batch answered by a number: not the real one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socketserver
import sys
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, "/usr/share/logstash/vendor")

import pipeline as logstash_pipeline
import yaml
from common import Handler, ask, basic, refuse, server_context, settings_of

KNOWN = {
    "node.name",
    "path.data",
    "path.logs",
    "pipeline.ecs_compatibility",
    "queue.type",
    "queue.max_bytes",
    "api.http.host",
    "api.http.port",
    "allow_superuser",
}
UNTIL_IT_ANSWERS = 2.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--path.settings", dest="settings", default="/etc/logstash")
    parser.add_argument("--path.data", dest="data")
    parser.add_argument("--path.logs", dest="logs")
    parser.add_argument("--path.config", dest="config")
    parser.add_argument("-t", "--config.test_and_exit", dest="test", action="store_true")
    options = parser.parse_args()
    settings = settings_of(Path(options.settings) / "logstash.yml", KNOWN)
    if os.geteuid() == 0 and not settings.get("allow_superuser", False):
        refuse("Logstash cannot be run as superuser.")
    heap = re.findall(r"-Xm[sx](\d+)m", os.environ.get("LS_JAVA_OPTS", ""))
    if len(set(heap)) != 1:
        refuse(f"LS_JAVA_OPTS without one heap: {heap}")
    path = options.config or pipelines(Path(options.settings))
    tree = checked(Path(path))
    if options.test:
        print("Configuration OK")
        return
    for folder in (settings["path.data"], settings["path.logs"]):
        if not os.access(folder, os.W_OK):
            refuse(f"cannot write to {folder}")
    serve(tree, settings)


def pipelines(folder: Path) -> str:
    """Return the file of the one pipeline."""
    (only,) = yaml.safe_load((folder / "pipelines.yml").read_text())
    if only["pipeline.id"] != "clawd":
        refuse("another pipeline than expected")
    return str(only["path.config"])


def checked(path: Path) -> list[Any]:
    try:
        tree = logstash_pipeline.read(path)
        out = logstash_pipeline.section(tree, "output")["elasticsearch"]
        into = logstash_pipeline.section(tree, "input")["beats"]
        resolved(out["password"])
    except Exception as error:
        refuse(f"The given configuration is invalid. Reason: {error}")
    for name in ("ssl_certificate", "ssl_key"):
        if not os.access(into[name], os.R_OK):
            refuse(f"File does not exist or cannot be opened {into[name]}")
    if into["ssl_enabled"] is not True or into["ssl_client_authentication"] != "required":
        refuse("anybody could send")
    if str(out["data_stream"]) != "true":
        refuse("lines belong to data streams")
    return tree


def resolved(text: str) -> str:
    """Replace `${NAME}`, which must be set."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise KeyError(f"Cannot evaluate `{found[0]}`. Replacement variable is not defined")
        return os.environ[found[1]]

    return re.sub(r"\$\{(\w+)\}", value, text)


PEER = "[@metadata][input][beats][tls][client][subject]"
"""Where the plugin puts the subject of the client's certificate, in the ECS mode v8."""


def subject(certificate: Any) -> str:
    """Return the subject as Java's X500Principal writes it: the last attribute first."""
    short = {"commonName": "CN", "organizationName": "O"}
    names = [f"{short[name]}={value}" for parts in certificate["subject"] for name, value in parts]
    return ",".join(reversed(names))


class Sink:
    """The first Elasticsearch that answers."""

    def __init__(self, out: dict[str, Any]) -> None:
        self.hosts = out["hosts"]
        self.ca = out["ssl_certificate_authorities"][0]
        self.login = basic(out["user"], resolved(out["password"]))

    def add(self, events: list[dict[str, Any]]) -> bool:
        lines = []
        for event in events:
            stream = event["data_stream"]
            index = f"{stream['type']}-{stream['dataset']}-{stream['namespace']}"
            lines += [json.dumps({"create": {"_index": index}}), json.dumps(event)]
        for host in self.hosts:
            body = ("\n".join(lines) + "\n").encode()
            status, content = ask(host, self.ca, "POST", "/_bulk", self.login, body)
            if status == 200:
                return not content["errors"]
        return False


def serve(tree: list[Any], settings: dict[str, Any]) -> None:
    into = logstash_pipeline.section(tree, "input")["beats"]
    sink = Sink(logstash_pipeline.section(tree, "output")["elasticsearch"])
    context = server_context(
        str(into["ssl_certificate"]), str(into["ssl_key"]), into["ssl_certificate_authorities"][0]
    )

    class Beats(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.request.do_handshake()
            peer = subject(self.request.getpeercert()) if "ssl_peer_metadata" in into["enrich"] else None
            for line in self.rfile:
                events = []
                for event in json.loads(line):
                    if peer is not None:
                        logstash_pipeline.put(event, PEER, peer)
                    events.append(logstash_pipeline.filtered(tree, event))
                taken = not events or sink.add(events)
                self.wfile.write(b"%d\n" % (len(events) if taken else -1))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            print(f"{client_address[0]}: {sys.exc_info()[1]!r}", file=sys.stderr, flush=True)

    beats = Server(("0.0.0.0", into["port"]), Beats)
    beats.socket = context.wrap_socket(beats.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=beats.serve_forever, daemon=True).start()

    api = ThreadingHTTPServer((settings["api.http.host"], settings["api.http.port"]), Handler)
    running = {"pipelines": {"clawd": {"workers": 1}}}
    api.answer = lambda method, path, headers, data: (  # type: ignore[attr-defined]
        (200, running) if path == "/_node/pipelines/clawd" else (404, {})
    )
    api.serve_forever()


if __name__ == "__main__":
    main()

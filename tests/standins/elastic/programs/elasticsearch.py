"""The stand-in of Elasticsearch: refuses to start where the real one does; a cluster of one or three."""

from __future__ import annotations

import json
import os
import re
import socket
import socketserver
import ssl
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from common import (
    Https,
    Recorder,
    client_context,
    credentials,
    memory,
    notify_ready,
    refuse,
    server_context,
    settings_of,
)
from store import Store

ETC = Path(os.environ.get("ES_PATH_CONF", "/etc/elasticsearch"))
SSL = (
    "enabled",
    "certificate",
    "key",
    "certificate_authorities",
    "client_authentication",
    "supported_protocols",
)
KNOWN = {
    "cluster.name",
    "cluster.initial_master_nodes",
    "node.name",
    "node.store.allow_mmap",
    "path.data",
    "path.logs",
    "http.port",
    "transport.port",
    "network.host",
    "network.bind_host",
    "network.publish_host",
    "discovery.type",
    "discovery.seed_hosts",
    "xpack.security.enabled",
    "xpack.security.autoconfiguration.enabled",
    "xpack.security.enrollment.enabled",
    "xpack.security.transport.ssl.verification_mode",
    "xpack.ml.enabled",
    "ingest.geoip.downloader.enabled",
    *(f"xpack.security.{layer}.ssl.{name}" for layer in ("http", "transport") for name in SSL),
}
LOST_AFTER = 3.0
RECOVERS_S = 4.0
"""How long copies of shards are behind after a node came, went or restarted."""


class Node:
    """One node: master when it founded the cluster, else it passes every call to the master."""

    def __init__(self, settings: dict[str, Any], password: str) -> None:
        self.settings, self.name = settings, settings["node.name"]
        self.data = Path(settings["path.data"])
        self.file = self.data / "node.json"
        self.known = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.store = Store(self.data, password)
        self.recorder = Recorder(Path(settings["path.logs"]) / "calls.jsonl")
        self.run = uuid.uuid4().hex
        self.joined: dict[str, float] = {}
        self.runs: dict[str, str] = {}
        self.unsettled = time.monotonic()
        self.master: tuple[str, int] | None = None
        self.master_seen = 0.0
        self.client = client_context(*self.tls("transport"), names=False)

    def tls(self, layer: str) -> tuple[str, str, str]:
        prefix = f"xpack.security.{layer}.ssl"
        paths = [self.settings[f"{prefix}.certificate"], self.settings[f"{prefix}.key"]]
        paths += self.settings[f"{prefix}.certificate_authorities"]
        found = [ETC / path for path in paths]
        for path in found:
            if not path.resolve().is_relative_to(ETC.resolve()):
                refuse(f"access denied: {path} is not in {ETC}")
            if not os.access(path, os.R_OK):
                refuse(f"cannot read {path}")
        certificate, key, ca = map(str, found)
        return certificate, key, ca

    def found(self, **known: Any) -> None:
        self.known = known
        self.file.write_text(json.dumps(known))

    def form(self) -> None:
        """Found a cluster, or join the one of the seeds and stay in touch with its master."""
        initial = self.settings.get("cluster.initial_master_nodes")
        alone = self.settings.get("discovery.type") == "single-node"
        if (alone or initial) and not self.known:
            self.found(uuid=uuid.uuid4().hex, master=True)
        if not self.known.get("master"):
            threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        own = self.settings["network.publish_host"]
        while True:
            for seed in self.settings.get("discovery.seed_hosts") or []:
                host, _, port = seed.rpartition(":")
                if host.strip("[]") == own:
                    continue
                try:
                    reply = self.say((host.strip("[]"), int(port)), kind="join", node=self.name, run=self.run)
                except (OSError, ValueError):
                    continue
                if reply.get("master") and self.known.get("uuid", reply["uuid"]) == reply["uuid"]:
                    if not self.known:
                        self.found(uuid=reply["uuid"], master=False)
                    self.master, self.master_seen = (host.strip("[]"), int(port)), time.monotonic()
            time.sleep(0.5)

    def say(self, address: tuple[str, int], **message: Any) -> Any:
        message["cluster"] = self.settings["cluster.name"]
        with (
            socket.create_connection(address, timeout=5) as plain,
            self.client.wrap_socket(plain) as line,
        ):
            line.sendall(json.dumps(message).encode() + b"\n")
            return json.loads(line.makefile().readline())

    def hear(self, message: dict[str, Any]) -> Any:
        """Handle a message of another node."""
        if message["cluster"] != self.settings["cluster.name"] or not self.known.get("master"):
            return {"master": False}
        if message["kind"] == "join":
            self.joined[message["node"]] = time.monotonic()
            if self.runs.get(message["node"]) != message["run"]:
                self.runs[message["node"]] = message["run"]
                self.unsettled = time.monotonic()
            return {"master": True, "uuid": self.known["uuid"]}
        return self.act(message["method"], message["path"], message["authorization"], message["body"])

    def act(self, method: str, path: str, authorization: str, body: str) -> tuple[int, Any]:
        """Answer as the master."""
        if method == "GET" and path.startswith("/_cluster/health"):
            status, account = self.store.answer("GET", "/_security/_authenticate", authorization, b"")
            if status != 200:
                return status, account
            now = time.monotonic()
            count = 1 + sum(now - seen < LOST_AFTER for seen in self.joined.values())
            alone = self.settings.get("discovery.type") == "single-node"
            copied = count > 1 and now - self.unsettled > RECOVERS_S
            health = "green" if alone or copied else "yellow"
            return 200, {
                "cluster_name": self.settings["cluster.name"],
                "status": health,
                "number_of_nodes": count,
            }
        return self.store.answer(method, path, authorization, body.encode())

    def answer(self, method: str, path: str, headers: Any, data: bytes) -> tuple[int, Any]:
        """Answer a call of the API."""
        authorization, body = headers.get("Authorization") or "", data.decode()
        status, content = self._answered(method, path, authorization, body)
        if wanted := re.search(r"[?&]wait_for_status=(\w+)&timeout=(\d+)s", path):
            deadline = time.monotonic() + int(wanted[2])
            while status == 200 and content["status"] != wanted[1] and time.monotonic() < deadline:
                time.sleep(0.2)
                status, content = self._answered(method, path, authorization, body)
        who = (
            credentials(authorization)[1].partition(":")[0] if authorization.startswith("Basic") else "token"
        )
        if not path.startswith("/_cluster/health"):
            self.recorder.write(method=method, path=path, user=who if authorization else None, status=status)
        return status, content

    def _answered(self, method: str, path: str, authorization: str, body: str) -> tuple[int, Any]:
        if not authorization:
            return 401, {
                "error": {"type": "security_exception", "reason": "missing credentials"},
                "status": 401,
            }
        if self.known.get("master"):
            return self.act(method, path, authorization, body)
        if self.master and time.monotonic() - self.master_seen < LOST_AFTER:
            try:
                message = {"method": method, "path": path, "authorization": authorization, "body": body}
                status, content = self.say(self.master, kind="call", **message)
                return status, content
            except (OSError, ValueError):
                pass
        return 503, {"error": {"type": "master_not_discovered_exception", "reason": None}, "status": 503}


class Transport(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, node: Node) -> None:
        class Talk(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                if line := self.rfile.readline():
                    self.wfile.write(json.dumps(node.hear(json.loads(line))).encode() + b"\n")

        super().__init__(address, Talk)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


def check(settings: dict[str, Any]) -> None:
    """Refuse what the real one refuses at its start."""
    alone = settings.get("discovery.type") == "single-node"
    for name in ("cluster.initial_master_nodes", "discovery.seed_hosts"):
        if alone and settings.get(name):
            refuse(f"setting [{name}] is not allowed when [discovery.type] is set to [single-node]")
    if settings.get("xpack.security.enabled") is not True:
        refuse("security is not enabled")
    for layer in ("http", "transport"):
        if settings.get(f"xpack.security.{layer}.ssl.enabled") is not True:
            refuse(f"[xpack.security.{layer}.ssl.enabled] is not true, as a secured cluster needs it")
    if settings["xpack.security.transport.ssl.client_authentication"] != "required":
        refuse("nodes must show certificates to each other")
    if not alone:
        if not settings.get("discovery.seed_hosts"):
            refuse(
                "bootstrap check failure: the default discovery settings are unsuitable for production use"
            )
        mapped = settings.get("node.store.allow_mmap", True)
        if mapped and int(Path("/proc/sys/vm/max_map_count").read_text()) < 262144:
            refuse("bootstrap check failure: max virtual memory areas vm.max_map_count is too low")
    initial = settings.get("cluster.initial_master_nodes") or []
    if initial and settings["node.name"] not in initial:
        refuse("this node is not among cluster.initial_master_nodes")


def check_heap() -> None:
    options = "\n".join(file.read_text() for file in sorted((ETC / "jvm.options.d").glob("*.options")))
    sizes = {name: int(size) for name, size in re.findall(r"^-(Xms|Xmx)(\d+)m$", options, re.MULTILINE)}
    if set(sizes) != {"Xms", "Xmx"} or len(set(sizes.values())) != 1:
        refuse(f"initial heap size not equal to maximum heap size: {sizes}")
    if sizes["Xmx"] << 20 > memory() // 2:
        refuse("the heap is more than half of the memory")


def main() -> None:
    if os.geteuid() == 0:
        refuse("can not run elasticsearch as root")
    settings = settings_of(ETC / "elasticsearch.yml", KNOWN)
    check(settings)
    check_heap()
    keystore = ETC / "elasticsearch.keystore"
    if not os.access(keystore, os.R_OK | os.W_OK):
        refuse(f"cannot read and write {keystore}")
    password = json.loads(keystore.read_text()).get("bootstrap.password", "")
    node = Node(settings, password)
    for folder in ("path.data", "path.logs"):
        if not os.access(settings[folder], os.W_OK):
            refuse(f"cannot write to {settings[folder]}")
    own = settings.get("network.host") or settings["network.bind_host"]
    certificate, key, ca = node.tls("transport")
    transport = Transport((own, settings["transport.port"]), server_context(certificate, key, ca), node)
    threading.Thread(target=transport.serve_forever, daemon=True).start()
    node.form()
    http = Https((own, settings["http.port"]), server_context(*node.tls("http")[:2]), node.answer)
    notify_ready()
    http.serve_forever()


if __name__ == "__main__":
    main()

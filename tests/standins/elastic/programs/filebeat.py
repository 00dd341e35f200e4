"""The stand-in of Filebeat: follows journal and files, and sends until a Logstash has taken the lines."""

from __future__ import annotations

import json
import os
import random
import socket
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from common import client_context, refuse

DATA = Path("/var/lib/filebeat")
TOP = {
    "name",
    "filebeat.inputs",
    "setup.template.enabled",
    "setup.ilm.enabled",
    "output.logstash",
    "logging.to_stderr",
    "logging.level",
}
INPUT = {
    "journald": {
        "type",
        "id",
        "paths",
        "seek",
        "since",
        "include_matches.match",
        "syslog_identifiers",
        "fields_under_root",
        "fields",
    },
    "filestream": {
        "type",
        "id",
        "paths",
        "prospector.scanner.fingerprint",
        "file_identity.fingerprint",
        "ignore_older",
        "clean_removed",
        "fields_under_root",
        "fields",
    },
}
OUTPUT = {
    "hosts",
    "loadbalance",
    "ssl.certificate_authorities",
    "ssl.certificate",
    "ssl.key",
    "ssl.verification_mode",
}


def read(path: Path) -> dict[str, Any]:
    """Read the settings; refuse those that Filebeat would refuse."""
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        refuse(f'config file ("{path}") can only be writable by the owner')
    settings = yaml.safe_load(path.read_text())
    only(settings, TOP, str(path))
    identities = [item["id"] for item in settings["filebeat.inputs"]]
    if len(set(identities)) != len(identities):
        refuse("filestream inputs with duplicated IDs")
    for item in settings["filebeat.inputs"]:
        only(item, INPUT.get(item["type"], set()), item["id"])
        if item["type"] == "filestream" and item["prospector.scanner.fingerprint"]["length"] < 64:
            refuse("fingerprint size must be at least 64 bytes")
    only(settings["output.logstash"], OUTPUT, "output.logstash")
    for name in ("ssl.certificate", "ssl.key"):
        if not Path(settings["output.logstash"][name]).is_file():
            refuse(f"error loading {settings['output.logstash'][name]}")
    return settings


def only(given: dict[str, Any], known: set[str], where: str) -> None:
    if unknown := set(given) - known:
        refuse(f"unknown {min(unknown)} in {where}")


class Line:
    """A connection to one of the Logstashes."""

    def __init__(self, output: dict[str, Any]) -> None:
        (ca,) = output["ssl.certificate_authorities"]
        context = client_context(output["ssl.certificate"], output["ssl.key"], ca, names=True)
        problem: Exception = OSError("no host")
        for address in random.sample(output["hosts"], len(output["hosts"])):
            host, _, port = address.rpartition(":")
            try:
                plain = socket.create_connection((host.strip("[]"), int(port)), timeout=5)
                self.socket = context.wrap_socket(plain, server_hostname=host.strip("[]"))
                self.answers = self.socket.makefile()
                return
            except OSError as error:
                problem = error
        raise problem

    def send(self, events: list[dict[str, Any]]) -> bool:
        self.socket.sendall(json.dumps(events).encode() + b"\n")
        return self.answers.readline().strip() == str(len(events))


def collected(item: dict[str, Any], position: Any) -> tuple[list[dict[str, Any]], Any]:
    """Return new lines with their times and senders, and where to continue."""
    if item["type"] == "journald":
        words = ["journalctl", "--output=json", "--all", "--lines=500"]
        for path in item.get("paths", []):
            # Of Filebeat 9.2, 9.1.5 and 8.19.5 or later.
            words += [f"--directory={path}" if Path(path).is_dir() else f"--file={path}"]
        words += [f"--after-cursor={position}"] if position else ["--since=-24h"]
        words += item.get("include_matches.match", [])
        words += [f"--identifier={name}" for name in item.get("syslog_identifiers", [])]
        shown = subprocess.run(words, capture_output=True, text=True, check=False)
        entries = [json.loads(line) for line in shown.stdout.splitlines()]
        return [written(entry) for entry in entries], entries[-1]["__CURSOR"] if entries else position
    found = []
    position = position or {}
    for name in item["paths"]:
        path = Path(name)
        if not path.is_file() or path.stat().st_size < item["prospector.scanner.fingerprint"]["length"]:
            continue
        with path.open("rb") as file:
            beginning = file.read(64).hex()
            begin, at = position.get(name, ("", 0))
            file.seek(at if begin == beginning else 0)
            whole = file.read().rpartition(b"\n")[0]
            position[name] = (
                beginning,
                file.tell() if not whole else (at if begin == beginning else 0) + len(whole) + 1,
            )
        now = datetime.now(UTC).isoformat()
        lines = whole.split(b"\n") if whole else []
        found += [{"@timestamp": now, "message": line.decode(errors="replace")} for line in lines]
    return found, position


def written(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of the journal, with Filebeat's fields of its writer."""
    sender: dict[str, Any] = {"uid": int(entry["_UID"])} if "_UID" in entry else {}
    if "_EXE" in entry:
        sender["process"] = {"executable": entry["_EXE"]}
    identifier = text(entry.get("SYSLOG_IDENTIFIER", ""))
    return {
        "@timestamp": moment(entry),
        "message": text(entry.get("MESSAGE")),
        "journald": sender,
        "syslog": {"identifier": identifier},
    }


def moment(entry: dict[str, Any]) -> str:
    return datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) / 1e6, UTC).isoformat()


def text(message: Any) -> str:
    return bytes(message).decode(errors="replace") if isinstance(message, list) else str(message)


def keep(registry: Path, positions: dict[str, Any]) -> None:
    """Write atomically: a signal may end this at any moment."""
    new = registry.with_suffix(".new")
    new.write_text(json.dumps(positions))
    new.replace(registry)


def run(settings: dict[str, Any]) -> None:
    registry = DATA / "registry.json"
    positions = json.loads(registry.read_text()) if registry.exists() else {}
    line: Line | None = None
    while True:
        for item in settings["filebeat.inputs"]:
            found, after = collected(item, positions.get(item["id"]))
            if not found:
                continue
            named = {"host": {"name": settings["name"]}, "agent": {"name": settings["name"]}}
            events = [{**line, **named, **item["fields"]} for line in found]
            try:
                line = line or Line(settings["output.logstash"])
                if not line.send(events):
                    raise OSError("not taken")
            except OSError as error:
                print(f"cannot send: {error}", file=sys.stderr, flush=True)
                line = None
                break
            positions[item["id"]] = after
            keep(registry, positions)
        time.sleep(1)


def main(words: list[str]) -> None:
    config = Path(words[words.index("-c") + 1]) if "-c" in words else Path("/etc/filebeat/filebeat.yml")
    settings = read(config)
    if words[:2] == ["test", "config"]:
        print("Config OK")
    elif words[:2] == ["test", "output"]:
        try:
            if not Line(settings["output.logstash"]).send([]):
                refuse("not taken")
        except OSError as error:
            refuse(f"logstash: {error}")
        print("talk to server... OK")
    else:
        run(settings)


if __name__ == "__main__":
    main(sys.argv[1:])

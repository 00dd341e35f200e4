"""Hosts with the log programs, reached by the plain `pyinfra` command; packages are stand-ins."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from deploys.component import ComponentSettings
from deploys.registry import BY_NAME
from inventory.load import Loaded
from provision import sandbox
from provision.sandbox import Layout
from provision.session import Assignment
from provision.verify import verify
from tests.standins.elastic.asking import asking

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = ("elasticsearch", "logstash", "kibana", "filebeat")
Settings = Mapping[str, ComponentSettings]


@dataclass(frozen=True)
class Applied:
    """What pyinfra's closing table says."""

    succeeded: bool
    changed: frozenset[str]
    output: str

    @classmethod
    def read(cls, status: int, output: str) -> Applied:
        rows = re.findall(r"^    \S[^|\n]* \| (.*?) +1 +(1|-) +(?:1|-) +(?:1|-) *$", output, re.MULTILINE)
        return cls(status == 0, frozenset(name for name, success in rows if success == "1"), output)


@dataclass
class LogHost:
    """A real host and the folder of somebody who uses nothing but pyinfra."""

    name: str
    layout: Layout
    folder: Path
    loaded: Loaded
    settings: Settings

    @property
    def address(self) -> str:
        return str(self.layout.address(self.name))

    def on(self, command: str) -> str:
        return sandbox.execute(self.name, command, layout=self.layout).strip()

    def apply(self, *programs: str, settings: Settings | None = None) -> Applied:
        return self.run("apply", programs or tuple(self.settings), settings or self.settings)

    def remove(self, *programs: str, purge: bool = False) -> Applied:
        return self.run("remove", programs or tuple(reversed(self.settings)), self.settings, purge=purge)

    def run(self, what: str, programs: Sequence[str], settings: Settings, **data: Any) -> Applied:
        values: Mapping[str, Any] = {
            "ssh_hostname": self.address,
            "ssh_user": "operator",
            "ssh_key": str(self.layout.key),
            "ssh_known_hosts_file": str(self.layout.known_hosts),
            "ssh_strict_host_key_checking": "yes",
            "_sudo": True,
            "supplies": {"state_folder": str(self.folder / ".clawd" / "clawd")},
            **{name: plain(of) for name, of in settings.items()},
            **data,
        }
        inventory = self.folder / f"{self.name}.py"
        inventory.write_text(f"hosts = [({self.name!r}, {values!r})]\n")
        script = self.folder / f"{self.name}-{what}.py"
        calls = [f"from deploys.{name}.deploy import {what} as {name}" for name in programs]
        script.write_text("\n".join([*calls, *(f"{name}()" for name in programs)]) + "\n")
        words = [sys.executable, "-m", "pyinfra", "--yes", str(inventory), str(script)]
        done = subprocess.run(
            words,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=self.folder,
            timeout=500,
            check=False,
        )
        return Applied.read(done.returncode, done.stdout)

    def failing_checks(self) -> set[tuple[str, str]]:
        """What `verify` finds wrong, as component and check."""
        assigned = [Assignment(BY_NAME[name], of) for name, of in self.settings.items()]
        found = verify(self.loaded, {self.name: assigned})
        assert found.checks
        for check in found.failed:
            print(check.component, check.name, check.message[-500:])
        return {(check.component, check.name) for check in found.failed}

    def calls(self, program: str) -> list[tuple[str, str, str | None, int]]:
        """The calls of a program's API so far: method, path, user, status."""
        folder = {"elasticsearch": "/var/log/elasticsearch", "kibana": "/var/lib/kibana"}[program]
        lines = self.on(f"cat {folder}/calls.jsonl").splitlines()
        asked = (json.loads(line) for line in lines)
        return [(call["method"], call["path"], call["user"], call["status"]) for call in asked]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """What Elasticsearch answers `elastic`, asked on the host."""
        return json.loads(self.on(asking(method, path, body)))


def plain(settings: ComponentSettings) -> Any:
    """Settings as the plain data of a pyinfra inventory."""

    def value(item: Any) -> Any:
        if isinstance(item, SecretStr):
            return item.get_secret_value()
        if isinstance(item, BaseModel):
            return {name: value(getattr(item, name)) for name in type(item).model_fields}
        if isinstance(item, dict):
            return {name: value(inner) for name, inner in item.items()}
        if isinstance(item, (list, tuple)):
            return [value(inner) for inner in item]
        return str(item) if isinstance(item, Path) else item

    return value(settings)


def writing(calls: list[tuple[str, str, str | None, int]]) -> list[tuple[str, str]]:
    """The calls that change something: neither reading, nor adding lines, nor asking what one may."""
    reading = ("/_security/user/_has_privileges", "/_bulk", "/api/saved_objects/_export")
    return [(method, path) for method, path, _, _ in calls if method != "GET" and path not in reading]

"""Hosts with the log programs; packages are stand-ins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from deploys.component import ComponentSettings
from deploys.registry import BY_NAME
from inventory.load import LoadedInventory
from provision.assignment import Assignment
from tests.hosts import Host
from tests.standins.elastic.asking import asking
from tests.standins.elastic.build import Repository

PROGRAMS = ("elasticsearch", "logstash", "kibana", "filebeat")
VERSION = "9.4.9"
FAR = {"far": {"address": "192.0.2.1", "roles": ["runtime"]}}
"""Declare a bot whose lines are kept; it is not reached."""


@dataclass(frozen=True)
class LogHost(Host):
    """A host with those of the programs that an inventory gives it."""

    inventory: LoadedInventory
    settings: Mapping[str, ComponentSettings]

    @classmethod
    def of(cls, host: Host, inventory: LoadedInventory) -> Self:
        """The host as `inventory` declares it."""
        found = {name: BY_NAME[name].settings_for(inventory.inventory, host.name) for name in PROGRAMS}
        given = {name: settings for name, settings in found.items() if settings is not None}
        return cls(host.box, host.name, inventory, given)

    def given(self, program: str, **changes: Any) -> Self:
        """The host with other settings of a program."""
        changed = self.settings[program].model_copy(update=changes)
        return replace(self, settings={**self.settings, program: changed})

    @property
    def state_folder(self) -> Path:
        """One authority for all hosts of an inventory."""
        return self.inventory.state_folder

    def up(self) -> frozenset[str]:
        return self.apply(**self.settings)

    def down(self, *, purge: bool = False) -> frozenset[str]:
        return self.remove(*reversed(list(self.settings)), **self.settings, purge=purge)

    def failing(self) -> set[tuple[str, str]]:
        """What `verify` finds wrong, as component and check."""
        assigned = [Assignment(BY_NAME[name], of) for name, of in self.settings.items()]
        found = self.verified(self.inventory, *assigned).failed
        for check in found:
            print(check.component, check.name, check.message[-500:])
        return {(check.component, check.name) for check in found}

    def calls(self, program: str) -> list[tuple[str, str, str | None, int]]:
        """The calls of a program's API so far: method, path, user, status."""
        folder = {"elasticsearch": "/var/log/elasticsearch", "kibana": "/var/lib/kibana"}[program]
        lines = self.on(f"cat {folder}/calls.jsonl").splitlines()
        asked = (json.loads(line) for line in lines)
        return [(call["method"], call["path"], call["user"], call["status"]) for call in asked]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """What Elasticsearch answers `elastic`, asked on the host."""
        return json.loads(self.on(asking(method, path, body)))


def trusting(repository: Repository) -> dict[str, str]:
    """What an inventory says of the key of the stand-in's packages."""
    return {"key": str(repository.key), "fingerprint": repository.fingerprint}


def writing(calls: list[tuple[str, str, str | None, int]]) -> list[tuple[str, str]]:
    """The calls that change something: neither reading, nor adding lines, nor asking what one may."""
    reading = ("/_security/user/_has_privileges", "/_bulk", "/api/saved_objects/_export")
    return [(method, path) for method, path, _, _ in calls if method != "GET" and path not in reading]

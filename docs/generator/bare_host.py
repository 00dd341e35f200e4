"""What a component would do on a bare Debian 12 host, as the component itself evaluates it.

Its `apply` is evaluated as for a plan, and nothing is executed: every question to the host (pyinfra fact) is
answered as a host answers on which nothing is installed yet.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pyinfra
from pyinfra.api import Config, State
from pyinfra.api import Inventory as Hosts
from pyinfra.api.state import StateStage
from pyinfra.context import ctx_host, ctx_state

from deploys.artifacts import ModelFile, ReleaseArchive, Supplies
from deploys.component import Component
from deploys.disk.devices import BlockDevice, Devices, DevicesFact
from deploys.docker.deploy import SystemCodename, SystemCodenameFact
from deploys.elastic.packages import ArchitectureFact
from deploys.model.space import Space, SpaceFact
from deploys.nvidia import gpus
from deploys.ops.diff import collected
from deploys.ops.facts import OsReleaseFact
from deploys.ops.paths import files
from deploys.ops.run_state import Change
from inventory.model import Inventory

L4 = 0x27B8
"""PCI id of a GPU that every driver branch knows."""
ANSWERS: dict[Any, Any] = {
    OsReleaseFact: ("debian", "12"),
    SystemCodenameFact: SystemCodename("debian", "bookworm"),
    ArchitectureFact: "amd64",
    SpaceFact: Space(free=1 << 40, there=False, partial=0),
    DevicesFact: Devices((BlockDevice("/dev/vdb", "disk", 100 << 30, empty=True),)),
    gpus.GpuMachineFact: gpus.GpuMachine(
        (gpus.Gpu("0000:01:00.0", L4),), system="debian12", architecture="amd64", kernel="KERNEL"
    ),
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a component: its name in plans, and what it would change."""

    name: str
    changes: tuple[Change, ...]
    rights: str = ""
    """Mode, owner and group of the file that it writes."""


def operations(component: Component, inventory: Inventory, host_name: str) -> tuple[Operation, ...]:
    """Return what `component` would do on a bare host of the inventory; nothing where it does not belong."""
    settings = component.settings_for(inventory, host_name)
    if settings is None:
        return ()
    with _supplied() as supplies, _rights() as rights:
        data = {component.name: settings, "ssh_user": "root", "supplies": supplies}
        state = State(Hosts(([("@local", data)], {})), Config())
        (host,) = state.inventory
        host.get_fact = _answer
        with ctx_state.use(state), ctx_host.use(host):
            state.set_stage(StateStage.Connect)
            host.connect(raise_exceptions=True)
            state.activate_host(host)
            state.set_stage(StateStage.Prepare)
            component.apply()
            return tuple(_operation(state, host, op_hash, rights) for op_hash in host.op_hash_order)


def _operation(state: Any, host: Any, op_hash: str, rights: Mapping[str, str]) -> Operation:
    (name,) = state.get_op_meta(op_hash).names
    changes = tuple(collected(host, op_hash))
    known = next((rights[change.path] for change in changes if change.path in rights), "")
    return Operation(name.rpartition(" | ")[2], changes, known)


@contextmanager
def _rights() -> Iterator[Mapping[str, str]]:
    """Note the rights with which `deploys.ops.paths.files.put` writes each file."""
    noted: dict[str, str] = {}
    put = files.put

    def noting(dest: str, *arguments: Any, **named: Any) -> Any:
        call = inspect.signature(put).bind(dest, *arguments, **named)
        call.apply_defaults()
        noted[dest] = "{mode} {owner}:{group}".format(**call.arguments)
        return put(dest, *arguments, **named)

    with patch.object(files, "put", noting):
        yield noted


def _answer(fact: Any, **_: Any) -> Any:
    return ANSWERS[fact] if fact in ANSWERS else fact.default()


@contextmanager
def _supplied() -> Iterator[Supplies]:
    """Yield what the laptop would bring: empty files in place of a release, a model and keys."""
    pyinfra.is_cli = False
    with TemporaryDirectory() as folder, patch.object(Path, "read_bytes", _read), _any_key():
        archive = Path(folder) / "release.tar.gz"
        archive.write_bytes(b"")
        yield Supplies(
            state_folder=Path(folder) / "state",
            release=ReleaseArchive(archive, "0" * 64, 1, "0" * 64, "0" * 64),
            model=ModelFile("model", "0" * 64, 1, source=archive),
        )


def _read(path: Path) -> bytes:
    return b"key" if path.parts[:2] == ("/", "keys") else path.open("rb").read()


def _any_key() -> Any:
    return patch("deploys.elastic.packages._must_be")

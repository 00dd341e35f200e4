"""Throwaway hosts for the tests of a module, and helpers that apply components there with plain pyinfra.

    pytestmark = on_hosts(seconds=300)
    box = boxes("cldk", 90)

    @pytest.fixture(params=in_every_run("bookworm"))
    def host(request, box):
        return box.host(request.param)

    def test_it_is_installed(host):
        assert "Service docker" in host.apply_twice(docker={"openings": []})
        assert host.failing_checks(host.loaded(docker={"enabled": True}), "docker") == set()

A box has the hosts that its module's selected tests ask for, and no other.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel, SecretStr

from deploys.component import ComponentSettings
from inventory.load import LoadedInventory, load
from provision import sandbox
from provision.assignment import Assignment
from provision.sandbox import RELEASES, Layout
from provision.selection import Selection, assign
from provision.verification.run import Verification, verify
from tests import preloading

ROOT = Path(__file__).resolve().parents[1]
NO_MODEL = {"default": {"engine": "openai-compatible", "endpoint": "http://127.0.0.1:1/v1"}}
PYINFRA_S = 500
_ROW = re.compile(
    r"^    (?!Grand total )(?:\S[^|\n]* \| )?(\S.*?) +1 +(1|-) +(?:1|-) +(?:1|-) *$", re.MULTILINE
)
_TAGGED = re.compile(r'"(!(?:env|file) [^"]+)"')

Settings = ComponentSettings | Mapping[str, Any]
H = TypeVar("H", bound="Host")
T = TypeVar("T")


@dataclass(frozen=True)
class Applied:
    """What the closing table of a pyinfra run on one host says."""

    succeeded: bool
    changed: frozenset[str]
    output: str
    status: int

    @classmethod
    def read(cls, status: int, output: str) -> Applied:
        rows = _ROW.findall(output)
        return cls(status == 0, frozenset(name for name, success in rows if success == "1"), output, status)


@dataclass(frozen=True)
class Box:
    """Running hosts, bot1 and so on, one for each of `releases`; `folder` is for files next to them."""

    layout: Layout
    folder: Path
    releases: tuple[str, ...]

    @property
    def machine(self) -> str:
        """This machine, as the hosts reach it."""
        return str(self.layout.machine_address)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"bot{number}" for number in range(1, len(self.releases) + 1))

    def named(self, release: str) -> str:
        """The host of this release."""
        return self.names[self.releases.index(release)]


@dataclass(frozen=True)
class Host:
    """A host of a box, and the folder of a made-up operator who uses nothing but pyinfra."""

    box: Box
    name: str

    @property
    def release(self) -> str:
        return self.box.releases[self.box.names.index(self.name)]

    @property
    def layout(self) -> Layout:
        return self.box.layout

    @property
    def folder(self) -> Path:
        folder = self.box.folder / self.name
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def state_folder(self) -> Path:
        return self.folder / ".clawd" / "clawd"

    @property
    def address(self) -> str:
        return str(self.layout.address(self.name))

    def on(self, command: str) -> str:
        """What a shell command prints there, as root; it must succeed."""
        return sandbox.execute(self.name, command, layout=self.layout, timeout=120).strip()

    def data(self) -> dict[str, Any]:
        """What the operator's pyinfra inventory says of the host in addition to settings of components."""
        return {
            "ssh_hostname": self.address,
            "ssh_user": "operator",
            "ssh_key": str(self.layout.key),
            "ssh_known_hosts_file": str(self.layout.known_hosts),
            "ssh_strict_host_key_checking": "yes",
            "_sudo": True,
            "supplies": {"state_folder": str(self.state_folder)},
        }

    def start(self, operations: str, **data: Any) -> subprocess.Popen[str]:
        """Start pyinfra with `operations` on the host, which has this data in addition to its own."""
        inventory, deploy = self.folder / "hosts.py", self.folder / "deploy.py"
        inventory.write_text(f"hosts = [({self.name!r}, {self.data() | plain(data)!r})]\n")
        deploy.write_text(operations)
        return preloading.start(
            "pyinfra",
            ["--yes", str(inventory), str(deploy)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=self.folder,
        )

    def run(self, operations: str, **data: Any) -> Applied:
        """Return its result."""
        process = self.start(operations, **data)
        try:
            output, _ = process.communicate(timeout=PYINFRA_S)
        finally:
            process.kill()
        return Applied.read(process.returncode, output)

    def attempt(self, data: Mapping[str, Any] | None = None, /, **settings: Settings) -> Applied:
        """Apply these components in this order, with this data in addition to their settings."""
        return self.run(calls("apply", settings), **settings, **(data or {}))

    def apply(self, data: Mapping[str, Any] | None = None, /, **settings: Settings) -> frozenset[str]:
        """What applying these components changed."""
        return changed(self.attempt(data, **settings))

    def apply_twice(self, **settings: Settings) -> frozenset[str]:
        """What the first of two runs changed; the second changes nothing."""
        first = self.apply(**settings)
        assert first
        again = self.apply(**settings)
        assert not again, f"changes again: {sorted(again)}"
        return first

    def refused(self, data: Mapping[str, Any] | None = None, /, **settings: Settings) -> str:
        """What is said when these components are applied, which fails."""
        tried = self.attempt(data, **settings)
        assert not tried.succeeded, tried.output
        return tried.output

    def remove(self, *components: str, **data: Any) -> frozenset[str]:
        """What removing these components, in this order, changed."""
        return changed(self.run(calls("remove", components), **data))

    def declared(self, *roles: str) -> dict[str, Any]:
        """The host's entry in an inventory."""
        login = {"address": self.address, "user": "operator", "ssh_key": str(self.layout.key)}
        return {**login, "roles": list(roles)} if roles else login

    def loaded(
        self, *roles: str, others: Mapping[str, Mapping[str, Any]] | None = None, **sections: Any
    ) -> LoadedInventory:
        """An inventory of this host, in its place among `others` or after them, with these sections."""
        hosts = {**(others or {}), self.name: self.declared(*roles)}
        known = str(self.layout.known_hosts)
        whole = {"known_hosts": known, "hosts": hosts, "models": NO_MODEL, **sections}
        file = self.folder / f"{self.name}.yml"
        file.write_text(_TAGGED.sub(r"\1", json.dumps(whole)))
        return load(file)

    def verified(self, loaded: LoadedInventory, *components: str | Assignment) -> Verification:
        """What `clawd-provision verify` finds here, of components by name or with settings of their own."""
        given = [item for item in components if isinstance(item, Assignment)]
        named = Selection((self.name,), tuple(item for item in components if isinstance(item, str)))
        with preloading.verifying():
            found = verify(loaded, {self.name: given} if given else assign(loaded.inventory, named))
        assert found.checks
        return found

    def failing_checks(self, loaded: LoadedInventory, *components: str | Assignment) -> set[str]:
        """The names of the checks that do not hold."""
        return {check.name for check in self.verified(loaded, *components).failed}


def changed(run: Applied) -> frozenset[str]:
    """What a run changed that must have succeeded."""
    assert run.succeeded, f"{run.output}\nexit code {run.status}"
    return run.changed


def calls(action: str, components: Mapping[str, object] | Sequence[str]) -> str:
    """A deploy file that calls `apply` or `remove` of each of the components."""
    imports = [f"from deploys.{name}.deploy import {action} as {name}" for name in components]
    return "\n".join([*imports, *(f"{name}()" for name in components), ""])


def plain(value: Any) -> Any:
    """Settings as users write them into an inventory of pyinfra."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, BaseModel):
        # Not `dict(value)`: a field may be called `keys`.
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path | IPv4Network) else value


def secret(value: str) -> str:
    """What stands in an inventory for this secret."""
    name = f"CLAWD_TEST_{hashlib.sha256(value.encode()).hexdigest()[:12]}"
    os.environ[name] = value
    return f"!env {name}"


def on_hosts(*more: pytest.MarkDecorator, seconds: int) -> list[pytest.MarkDecorator]:
    """The marks of a module whose tests, of at most so many seconds each, make hosts."""
    rootless = pytest.mark.skipif(os.geteuid() != 0, reason="making hosts needs root")
    return [pytest.mark.host, pytest.mark.timeout(seconds), rootless, *more]


def in_every_run(release: str) -> list[Any]:
    """Both releases as parameters: this one in every test run, the other in campaigns."""
    return [
        pytest.param(each, id=each, marks=() if each == release else pytest.mark.campaign)
        for each in RELEASES
    ]


def boxes(bridge: str, subnet: int) -> Callable[..., Iterator[Box]]:
    """A module's fixture `box`, on a bridge and 10.213.`subnet`.0/24 of its own."""

    @pytest.fixture(scope="module")
    def box(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
        with standing(tmp_path_factory.mktemp(bridge), bridge, subnet, wanted(request)) as made:
            yield made

    return box


def layout_next_to(folder: Path, bridge: str, subnet: int) -> Layout:
    """A sandbox next to the one in use: on a bridge and 10.213.`subnet`.0/24 of its own."""
    network = IPv4Network(f"10.213.{subnet}.0/24")
    return Layout(folder, bridge=bridge, subnet=network, table=f"clawd_{bridge}_test")


@contextmanager
def standing(folder: Path, bridge: str, subnet: int, releases: Sequence[str]) -> Iterator[Box]:
    """Hosts of these releases, removed afterwards."""
    layout = layout_next_to(folder / ".sandbox", bridge, subnet)
    try:
        sandbox.up(len(releases), tuple(releases), layout=layout)
        yield Box(layout, folder, tuple(releases))
    finally:
        sandbox.down(layout=layout, purge=True)


def wanted(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The releases that are parameters of the module's selected tests; both if one of these has none."""
    mine = [item for item in request.session.items if item.path == request.path]
    parameters = [list(item.callspec.params.values()) if hasattr(item, "callspec") else [] for item in mine]
    named = [[release for release in RELEASES if release in values] for values in parameters]
    return tuple(release for release in RELEASES if any(not one or release in one for one in named))


def together(hosts: Mapping[str, H], act: Callable[[H], T]) -> dict[str, T]:
    """What `act` comes to on each host, on all at once."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(hosts, pool.map(act, hosts.values()), strict=True))


def on_all(check: Callable[[H], None]) -> Callable[[Mapping[str, H]], None]:
    """A test of every host of the module's fixture `hosts`, of all at once."""

    def test(hosts: Mapping[str, H]) -> None:
        together(hosts, check)

    test.__name__, test.__doc__ = check.__name__, check.__doc__
    return test


def until(
    condition: Callable[[], bool], *, seconds: float = 30, otherwise: Callable[[], str] = lambda: ""
) -> None:
    """Waits for the condition. Fails when it has not come about in time, with the message of `otherwise`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not come about in time {otherwise()}"
        time.sleep(0.2)

"""Which release a host gets: by what it is, and by the GPUs it turns out to have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploys.artifacts import ReleaseArchive
from deploys.component import Component
from deploys.nvidia.settings import NvidiaSettings
from deploys.runtime.settings import settings_for
from inventory.errors import HostError, Mistake
from inventory.load import LoadedInventory
from inventory.model import Inventory
from provision.artifacts import select
from provision.artifacts.engine import variants
from provision.artifacts.engine.wheel import BuildHosts
from provision.artifacts.host_kind import PROBE, HostKind
from provision.assignment import Assignment
from tests.deploys.inventories import REMOTE, inventory

KIND = "clawd-kind x86_64 64 CPython 3.11 glibc 2.36\n"
BOOKWORM = HostKind("x86_64", (3, 11), (2, 36))
GPU = "gpu 0000:01:00.0 0x27b8\n"
SYSTEM = "system debian12\narchitecture amd64\nkernel 6.1.0\n"


class Hosts:
    """A session with hosts that answer the two probes; `gpus` are the lines of the second, by host.

    The host key of each is its name.
    """

    def __init__(self, gpus: Mapping[str, str]) -> None:
        self.gpus = gpus
        self.links = {host: SimpleNamespace(host_key=f"ssh-ed25519 {host}") for host in gpus}

    def run(self, host: str, command: str, *, timeout: int) -> Any:
        output = KIND if command == PROBE else self.gpus[host] + SYSTEM
        return SimpleNamespace(succeeded=True, stdout=output, stderr="")

    def everywhere(self, ask: Callable[[str], Any], hosts: Any) -> dict[str, Any]:
        return {host: ask(host) for host in hosts}


def kinds(
    monkeypatch: pytest.MonkeyPatch, gpus: Mapping[str, str], settings: Mapping[str, NvidiaSettings]
) -> tuple[Mapping[str, HostKind], Mapping[str, Any]]:
    """What `engine_wheels` is asked for: kinds and repositories by host."""
    asked: dict[str, Any] = {}

    def engine_wheels(wanted: Any, cache: Any, machines: BuildHosts, **_: Any) -> dict[HostKind, None]:
        asked.update(hosts=machines.hosts, repositories=machines.repositories)
        return dict.fromkeys(wanted)

    archive = ReleaseArchive(Path("release.tar.gz"), "ab" * 32, 1, "cd" * 32)
    monkeypatch.setattr(select, "engine_wheels", engine_wheels)
    monkeypatch.setattr(select, "release_for", lambda *_, **__: SimpleNamespace(archive=archive))
    whole: Inventory = inventory(models={"default": REMOTE})
    assignments = {
        host: [
            Assignment(Component("runtime", ""), settings_for(whole, "bot1")),
            *([Assignment(Component("nvidia", ""), settings[host])] if host in settings else []),
        ]
        for host in gpus
    }
    loaded: Any = SimpleNamespace(
        inventory=whole, state_folder=Path("state"), folder=Path("nowhere"), warnings=()
    )
    found = select.gather(
        loaded, Hosts(gpus), assignments, SimpleNamespace(detail=None, warn=lambda _: None), may_build=True  # type: ignore[arg-type]
    )  # fmt: skip
    assert all(item.release is archive for item in found.values())
    return asked["hosts"], asked["repositories"]


def test_warnings_of_the_inventory_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(select, "keep_out_of_git", lambda _: None)
    warning = Mistake("prod.yml", 3, 5, "it might not fit", "shorten it")
    loaded = LoadedInventory(
        inventory(tls={"mode": "self-signed"}), tmp_path / "prod.yml", warnings=(warning,)
    )
    reported: list[str] = []
    select.gather(loaded, Hosts({}), {}, SimpleNamespace(detail=None, warn=reported.append), may_build=False)  # type: ignore[arg-type]
    assert reported == ["prod.yml:3:5: it might not fit; shorten it"]


def test_hosts_with_a_declared_gpu_get_an_engine_for_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = NvidiaSettings(engine=True, key=Path("/keys/nvidia.asc"), repository="https://mirror.example")
    found, repositories = kinds(
        monkeypatch,
        {"gpu": GPU, "none there": "", "not for the engine": GPU, "not declared": GPU},
        {
            "gpu": settings,
            "none there": settings,
            "not for the engine": settings.model_copy(update={"engine": False}),
        },
    )
    assert found["gpu"].cuda == "cuda12.9-80.86.89.90"
    assert {found[name] for name in found if name != "gpu"} == {BOOKWORM}
    assert set(repositories) == {"gpu"}
    assert repositories["gpu"].uri == "https://mirror.example/debian12/x86_64"


def test_only_hosts_on_this_machine_get_an_engine_for_its_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = frozenset({"ssh-ed25519 bot1", "ssh-ed25519 bot7"})
    monkeypatch.setattr(select, "host_keys_on_this_machine", lambda: keys)
    monkeypatch.setattr(variants, "of_this_machine", lambda: "zen4")
    found, _ = kinds(monkeypatch, {"bot1": "", "elsewhere": ""}, {})
    assert found == {"bot1": replace(BOOKWORM, cpu="zen4"), "elsewhere": BOOKWORM}


def test_gpu_unknown_to_cuda_is_refused_before_any_build(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = NvidiaSettings(engine=True, key=Path("/keys/nvidia.asc"), cuda="13.1")
    with pytest.raises(HostError, match=r"^gpu: .*Pascal.* is known to CUDA 12\.9 and earlier only"):
        kinds(monkeypatch, {"gpu": "gpu 0000:01:00.0 0x1bb3\n"}, {"gpu": settings})


def test_secure_boot_is_refused_before_any_build(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = NvidiaSettings(engine=True, key=Path("/keys/nvidia.asc"))
    with pytest.raises(HostError, match=r"^gpu: Secure Boot is on"):
        kinds(monkeypatch, {"gpu": f"{GPU}secure_boot yes\n"}, {"gpu": settings})


@pytest.mark.parametrize(
    ("firewall", "roles", "warned"),
    [
        ({}, ["runtime", "nginx"], []),
        ({"enabled": False}, ["runtime"], ["every network may use SSH"]),
        (
            {"enabled": False},
            ["runtime", "nginx"],
            ["every network may use SSH", "may take every connection of bot1"],
        ),
    ],
)
def test_ports_open_without_the_firewall_are_a_warning(
    firewall: dict[str, Any], roles: list[str], warned: list[str]
) -> None:
    found = list(select.exposed(inventory({"bot1": roles}, firewall=firewall)))
    assert len(found) == len(warned)
    for part, warning in zip(warned, found, strict=True):
        assert part in warning

"""Which tier runs on which host, and why."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from deploys.resources import Amount, HostResources
from inventory.errors import ConnectError
from inventory.model import Inventory
from inventory.model_files.footprint import tier_of
from provision.model_tools import host_machines
from provision.model_tools.fitting import TIERS, FitSettings, HostFit, HostMachine, TierFit, declared, fit
from provision.reporting.model_tools.fitting import show_fit
from tests.deploys.inventories import REMOTE
from tests.deploys.inventories import inventory as of_roles

GIB = 1 << 30
USUAL = FitSettings()


def with_host(**host: Any) -> Inventory:
    """Return an inventory with one runtime host."""
    hosts = {"bot1": {"address": "10.0.0.1", "roles": ["runtime"], **host}}
    return of_roles(hosts={"bot1": ["runtime"]}, models={"default": REMOTE}).model_validate(
        {"hosts": hosts, "models": {"default": REMOTE}, "channels": {"console": {"jwt_secret": "x" * 32}}}
    )


def fits(inventory: Inventory, settings: FitSettings = USUAL, **machines: HostMachine) -> HostFit:
    (found,) = fit(inventory, settings, machines)
    return found


def tier(found: HostFit, name: str) -> TierFit:
    return next(item for item in found.tiers if item.tier == name)


def shown(*found: HostFit) -> str:
    output = io.StringIO()
    show_fit(Console(file=output, width=250), found, USUAL)
    return output.getvalue()


def test_tiers_are_of_their_size_and_cover_all_three() -> None:
    assert [(model.tier, tier_of(model.parameters)) for model in TIERS] == [
        (name, name) for name in ("light", "balanced", "professional")
    ]


def test_server_of_4_gb_runs_no_tier_and_the_reason_has_the_arithmetic() -> None:
    found = fits(with_host(cores=2, memory="4G"))
    assert [item.verdict for item in found.tiers] == ["no"] * 3
    assert found.recommended is None
    light = tier(found, "light")
    assert light.available is not None
    assert light.needed > light.available
    assert "5453 MiB needed, " in light.why
    assert "no tier is comfortable here: use a smaller model" in shown(found)


@pytest.mark.parametrize(
    ("cores", "memory", "recommended"),
    [(8, "16G", "light"), (16, "32G", "balanced"), (4, "128G", "light")],
)
def test_largest_tier_that_fits_and_is_fast_enough_is_recommended(
    cores: int, memory: str, recommended: str
) -> None:
    found = fits(with_host(cores=cores, memory=memory))
    assert found.recommended == recommended
    assert f"recommended: {recommended}" in shown(found)


def test_tier_that_fits_but_is_too_slow_is_not_recommended() -> None:
    professional = tier(fits(with_host(cores=4, memory="128G")), "professional")
    assert professional.verdict == "slow"
    assert professional.generation is not None
    assert professional.generation[1] < 5
    assert "more slowly than people read" in professional.why


def test_tier_whose_answers_begin_late_is_not_recommended() -> None:
    found = fits(with_host(cores=2, memory="24G"))
    assert tier(found, "light").verdict == "slow"
    assert "answers begin only 15 s after a new prompt" in tier(found, "light").why
    assert found.recommended is None


def test_gpu_with_enough_memory_computes_the_model() -> None:
    gpu = HostResources(Amount.found(64 * GIB), Amount.found(48 * GIB))
    found = fits(with_host(gpu="auto"), bot1=HostMachine(gpu, 16, "found"))
    assert found.recommended == "professional"
    professional = tier(found, "professional")
    assert professional.place == "GPU"
    assert professional.generation is not None
    assert professional.generation[0] > 3


def test_gpu_that_is_too_small_is_named_in_the_reason() -> None:
    gpu = HostResources(Amount.found(64 * GIB), Amount.found(8 * GIB))
    found = fits(with_host(gpu="auto"), bot1=HostMachine(gpu, 16, "found"))
    assert tier(found, "light").place == "GPU"
    assert tier(found, "balanced").place == "processor"
    assert "the GPU has 8192 MiB, too little for" in tier(found, "balanced").why


def test_gpu_that_the_inventory_does_not_use_does_not_count() -> None:
    gpu = HostResources(Amount.found(64 * GIB), Amount.found(80 * GIB))
    found = fits(with_host(gpu="none"), bot1=HostMachine(gpu, 16, "found"))
    assert {item.place for item in found.tiers} == {"processor"}


def test_unknown_resources_are_reported_and_not_guessed() -> None:
    without_memory, without_cores = fits(with_host()), fits(with_host(memory="16G"))
    assert [item.verdict for item in without_memory.tiers] == ["unknown"] * 3
    assert "declare `memory:`" in without_memory.tiers[0].why
    assert tier(without_cores, "light").verdict == "unknown"
    assert tier(without_cores, "balanced").verdict == "no"
    assert "nothing can be recommended" in shown(without_memory)


def test_memory_of_other_components_is_left_to_them() -> None:
    alone = of_roles({"bot1": ["runtime"]}, models={"default": REMOTE})
    crowded = of_roles({"bot1": ["runtime", "nginx", "database"]}, models={"default": REMOTE},
                       database={"password": "a-password-of-sixteen"})  # fmt: skip
    machine = HostMachine(HostResources(Amount.found(8 * GIB), None), 4, "found")
    left = [tier(fits(inventory, bot1=machine), "light").available for inventory in (alone, crowded)]
    assert left[0] is not None
    assert left[1] is not None
    assert left[1] < left[0] < 8 * GIB


def test_more_conversations_and_finer_quantisation_need_more() -> None:
    inventory = with_host(cores=8, memory="64G")
    small, many, fine = (
        tier(fits(inventory, FitSettings(kind, 4096, slots)), "light").needed
        for kind, slots in (("Q4_K_M", 4), ("Q4_K_M", 32), ("Q8_0", 4))
    )
    assert small < min(many, fine)


def test_context_is_at_most_the_one_a_tier_is_trained_for() -> None:
    inventory = with_host(cores=8, memory="64G")
    short, long = (fits(inventory, FitSettings("Q4_K_M", context, 4)) for context in (4096, 16384))
    assert tier(short, "balanced").needed == tier(long, "balanced").needed
    assert "with a context of 4096, for which it is trained" in tier(long, "balanced").why
    assert tier(short, "light").needed < tier(long, "light").needed


def test_host_without_the_role_runtime_is_shown_as_such() -> None:
    inventory = of_roles({"bot1": ["runtime"], "front": ["nginx"]}, models={"default": REMOTE})
    bot, front = fit(inventory, FitSettings())
    assert (bot.has_runtime, front.has_runtime) == (True, False)
    assert "front" in shown(front)
    assert "it has no role `runtime`" in shown(front)
    assert front.to_json()["has_runtime"] is False


def test_machines_of_hosts_are_read_with_the_script_of_preflight(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script runs here, in place of a host."""
    inventory = with_host(cores=1, memory="1G")
    missing = {"bot2": ConnectError("bot2: connection refused")}

    def run(host: str, script: str, timeout: int) -> Any:
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=timeout)
        return SimpleNamespace(succeeded=done.returncode == 0, stdout=done.stdout, stderr=done.stderr)

    @contextmanager
    def connected(_: Any) -> Iterator[Any]:
        yield SimpleNamespace(run=run, everywhere=lambda ask: {"bot1": ask("bot1")}), missing

    monkeypatch.setattr(host_machines, "connected", connected)
    machines, unreachable = host_machines.host_machines(
        SimpleNamespace(loaded=SimpleNamespace(inventory=inventory))  # type: ignore[arg-type]
    )
    assert unreachable == missing
    assert machines["bot1"].source == "found"
    assert machines["bot1"].cores == len(os.sched_getaffinity(0))
    memory = machines["bot1"].resources.memory
    assert memory is not None
    assert memory.size > 1 * GIB
    assert declared(inventory, "bot1").cores == 1

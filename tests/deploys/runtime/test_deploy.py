from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploys.artifacts import ModelFile, ReleaseArchive, Supplies
from deploys.model.settings import settings_for as model_settings_for
from deploys.model.space import RESERVE, Space, SpaceFact
from deploys.ops.accounts import GroupFact, UserFact, UserState
from deploys.ops.facts import OwnersFact, PathFact, PathState, UnitFact, UnitState
from deploys.runtime.container.image import ImagesFact
from deploys.runtime.deploy import apply, probe, remove
from deploys.runtime.further_engines import EngineNamesFact
from deploys.runtime.journal import MachineIdFact, StateFact
from deploys.runtime.last_good import KEPT
from deploys.runtime.prune import Entries, EntriesFact
from deploys.runtime.settings import ENGINE_STATES, settings_for
from deploys.settings import supplies_from
from inventory.errors import ArtifactError, CapacityError
from inventory.model import Inventory
from tests.deploys.harness import Machine, Run
from tests.deploys.inventories import LOCAL, REMOTE, SECRETS, inventory

MODEL = ModelFile("smollm2-135m-q8_0", "ab" * 32, 1000, source=Path("m.gguf"))
OTHER_MODEL = ModelFile("other", "12" * 32, 1000, source=Path("other.gguf"))
RELEASE = ReleaseArchive(Path("release.tar.gz"), "ab" * 32, 1000, "cd" * 32, engine_digest="ef" * 8)
BARE: dict[Any, Any] = {
    StateFact: "stopped",
    MachineIdFact: "0" * 32,
    PathFact: PathState(),
    OwnersFact: {},
    UserFact: None,
    UnitFact: UnitState(),
    EntriesFact: Entries(),
    EngineNamesFact: (),
    SpaceFact: Space(free=RESERVE + 5000, there=False, partial=0),
}


def plan(
    declared: Inventory,
    *,
    release: ReleaseArchive | None = RELEASE,
    model: ModelFile | None = MODEL,
    facts: dict[Any, Any] | None = None,
) -> Run:
    data = {
        "runtime": settings_for(declared, "bot1"),
        "model": model_settings_for(declared, "bot1"),
        "supplies": Supplies(
            Path("state"), release=release, model=model, further_models={"new": OTHER_MODEL}
        ),
    }
    return Machine(data, facts={**BARE, **(facts or {})}).run(apply, execute=False)


def place(run: Run, name: str) -> int:
    return next(number for number, found in enumerate(run.names) if found.endswith(name))


def test_first_installation_runs_operations_in_order() -> None:
    run = plan(inventory())
    in_order = [
        "User clawd-engine",
        "User clawd-bot",
        "Unpack /opt/clawd/releases/cdcdcdcdcdcdcdcd",
        "Clear /opt/clawd/releases",
        "Link /opt/clawd/current",
        "Write /etc/clawd/engine.json",
        "Write /etc/systemd/system/clawd-engine.service",
        "Service clawd-engine",
        "Write /etc/clawd/secrets/telegram-token",
        "Write /etc/clawd/bot.json",
        "Write /etc/systemd/system/clawd-bot.service",
        "Service clawd-bot",
        "Clear /etc/clawd/secrets",
        "Clear /var/lib/clawd/models",
    ]
    places = [place(run, name) for name in in_order]
    assert places == sorted(places)


SEVERAL = {"default": LOCAL, "new": {**LOCAL, "path": "/models/other.gguf"}}


def test_engine_of_a_further_model_serves_before_the_bot_is_told_of_it() -> None:
    run = plan(inventory(models=SEVERAL))
    in_order = [
        "Write /etc/systemd/system/clawd-engines.slice",
        "Service clawd-engine",
        "Write /etc/clawd/engines/new.json",
        "Write /etc/systemd/system/clawd-engine@new.service",
        "Service clawd-engine@new",
        "Write /etc/clawd/routes.json",
        "Clear /var/lib/clawd/models",
    ]
    places = [place(run, name) for name in in_order]
    assert places == sorted(places)
    lines = {change.path: "\n".join(change.diff) for change in run.changes}
    assert "MemoryMax=75%" in lines["/etc/systemd/system/clawd-engines.slice"]
    unit = lines["/etc/systemd/system/clawd-engine@new.service"]
    assert "--config /etc/clawd/engines/new.json" in unit
    assert "RuntimeDirectory=clawd-engines/new" in unit
    assert f"other-{'12' * 6}.gguf" in lines["/etc/clawd/engines/new.json"]


def test_engine_of_a_removed_model_ends_after_the_bot_has_other_routes() -> None:
    unit = {UnitFact: UnitState(load="loaded", active="active", enabled="enabled")}
    run = plan(inventory(), facts={EngineNamesFact: ("old",), **unit})
    assert place(run, "Write /etc/clawd/routes.json") < place(run, "No service clawd-engine@old")
    assert "MemoryMax=infinity" in repr(run.changes)


def test_engines_are_found_by_their_units(tmp_path: Path) -> None:
    fact = EngineNamesFact()
    for name in ("clawd-engine.service", "clawd-engine@b.service", "clawd-engine@a-1.service", "x@y.service"):
        (tmp_path / name).touch()
    command = fact.command().replace("/etc/systemd/system", str(tmp_path))
    shown = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert fact.process(shown.splitlines()) == ("a-1", "b")


def test_database_readable_by_others_is_made_private() -> None:
    database = "/var/lib/clawd-bot/bot.db"
    open_to_all = {OwnersFact: {database: ("clawd-bot", "0644"), f"{database}-wal": ("clawd-bot", "0600")}}
    (change,) = [change for change in plan(inventory(), facts=open_to_all).changes if database in change.path]
    assert (change.path, change.diff) == (database, ("mode 0644 → 0600",))


def test_plan_shows_no_secret() -> None:
    run = plan(inventory())
    shown = repr(run.names) + repr(run.changes)
    assert not [name for name, value in SECRETS.items() if value in shown]
    masked = {change.path for change in run.changes if change.secret}
    assert masked == {f"/etc/clawd/secrets/{name}" for name in SECRETS}


def test_release_that_changes_only_the_bot_does_not_change_the_engine_unit() -> None:
    def engine_unit(release: ReleaseArchive) -> tuple[str, ...]:
        run = plan(inventory(), release=release)
        (change,) = (c for c in run.changes if c.path.endswith("clawd-engine.service") and "/" in c.path)
        return change.diff

    other = replace(RELEASE, manifest_digest="12" * 32)
    assert engine_unit(RELEASE) == engine_unit(other)
    assert engine_unit(RELEASE) != engine_unit(replace(other, engine_digest="99" * 8))
    assert engine_unit(RELEASE) != engine_unit(replace(other, engine_digest=None))


def test_archive_without_a_manifest_is_identified_by_its_own_digest() -> None:
    """As declared in plain data for pyinfra: archive, digest and size."""
    described = {"archive": "r.tar.gz", "sha256": "ab" * 32, "size": 1}
    release = supplies_from({"release": described}).release
    assert release is not None
    assert release.id == "ab" * 8
    assert place(plan(inventory(), release=release), f"Unpack /opt/clawd/releases/{'ab' * 8}") >= 0


def test_the_same_release_in_another_archive_changes_nothing() -> None:
    """As from a laptop with another zlib: its archive differs, its files do not."""
    marker = {PathFact: PathState("file", content=f"{RELEASE.manifest_digest}\n".encode())}
    repacked = replace(RELEASE, archive=Path("other.tar.gz"), sha256="34" * 32, size=999)
    mine, theirs = (plan(inventory(), release=release, facts=marker) for release in (RELEASE, repacked))
    assert mine.changes == theirs.changes
    other = plan(inventory(), release=replace(RELEASE, manifest_digest="12" * 32), facts=marker)
    new = f"/opt/clawd/releases/{'12' * 8}"
    assert new in [change.path for change in other.changes]
    assert not [change for change in mine.changes if change.path == f"/opt/clawd/releases/{RELEASE.id}"]


def test_engine_is_omitted_with_a_remote_model() -> None:
    declared = inventory(models={"default": REMOTE})
    run = plan(declared, model=None)
    assert not [change for change in run.changes if "clawd-engine.service" in change.path]
    before = {UnitFact: UnitState(load="loaded", active="active", enabled="enabled")}
    run = plan(declared, model=None, facts=before)
    assert ("stop and remove",) in [change.diff for change in run.changes]


def test_undeclared_secrets_are_removed() -> None:
    run = plan(inventory(), facts={EntriesFact: Entries(("old-secret", *SECRETS))})
    removed = {change.path for change in run.changes if change.diff == ("removed",)}
    assert "/etc/clawd/secrets/old-secret" in removed
    assert "/etc/clawd/secrets/telegram-token" not in removed


def test_removed_files_are_kept_for_a_rollback() -> None:
    """A rollback puts back the settings, and everything that they name has to be there."""
    there: dict[Any, Any] = {
        PathFact: PathState("file", "0644", "root", "root"),
        UnitFact: UnitState(load="loaded", active="active", enabled="enabled"),
        EntriesFact: Entries(("old-secret",)),
    }
    declared = inventory({"bot1": ["runtime"]}, channels={}, models={"default": REMOTE})
    run = plan(declared, model=None, facts=there)
    removed = {change.path for change in run.changes if set(change.diff) & {"removed", "stop and remove"}}
    paths = {f"/etc/systemd/system/{path}" if path.endswith(".service") else path for path in removed}
    # Of releases, those that it may go back to stay: tests/deploys/runtime/test_last_good.py.
    # States of conversations are a cache.
    kept = {*(f"/{path}" for path in KEPT), "/opt/clawd/releases", ENGINE_STATES}
    assert {path for path in paths if not any(f"{path}/".startswith(f"{each}/") for each in kept)} == set()
    assert {"/etc/clawd/engine.json", "/etc/clawd/bot-internal", "/etc/clawd/secrets/old-secret"} <= paths


def test_group_of_an_existing_user_is_corrected() -> None:
    run = plan(inventory(), facts={UserFact: UserState("/nonexistent", "nogroup")})
    assert ("group nogroup → clawd",) in [change.diff for change in run.changes]
    run = plan(inventory(), facts={UserFact: UserState("/nonexistent", "clawd")})
    assert not [change for change in run.changes if change.path.startswith("user ")]


def test_missing_release_is_refused() -> None:
    with pytest.raises(ArtifactError, match="no release of clawd-runtime"):
        plan(inventory(), release=None)


def test_too_little_disk_space_for_a_release_is_refused() -> None:
    with pytest.raises(CapacityError, match="a release of clawd-runtime"):
        plan(inventory(), facts={SpaceFact: Space(free=RESERVE, there=False, partial=0)})


@pytest.mark.parametrize("purge", [False, True])
def test_removal_keeps_conversations_unless_purged(purge: bool) -> None:
    there: dict[Any, Any] = {
        PathFact: PathState("directory", "0755", "root", "root"),
        UnitFact: UnitState(load="loaded", active="active", enabled="enabled"),
        ImagesFact: frozenset(),
        EngineNamesFact: ("new",),
        UserFact: UserState("/nonexistent", "clawd"),
        GroupFact: None,
        StateFact: "running",
        MachineIdFact: "0" * 32,
    }
    run = Machine({"purge": purge}, facts=there).run(remove, execute=False)
    assert {"clawd-bot.service", "clawd-engine.service", "/opt/clawd", "/etc/clawd/secrets"} <= {
        change.path for change in run.changes
    }
    assert {"clawd-engine@new.service", "/etc/clawd/engines", "/etc/systemd/system/clawd-engines.slice"} <= {
        change.path for change in run.changes
    }
    kept = [change.diff for change in run.changes if change.path == "/var/lib/clawd-bot"]
    if purge:
        assert kept == [("deleted for good: conversations, 1 KiB",)]
    else:
        assert kept == [("mode 0755 → 0700",), ("stays: conversations, 1 KiB; `--purge` deletes it",)]
    assert {"user clawd-bot", "user clawd-engine"} <= {change.path for change in run.changes}
    changed = {change.path for change in run.changes}
    assert {"systemd-journald@clawd-bot.service", f"/var/log/journal/{'0' * 32}.clawd-bot"} <= changed


def test_readiness_probe_asks_loopback() -> None:
    assert "http://127.0.0.1:8080/readyz" in probe(8080, "/readyz")

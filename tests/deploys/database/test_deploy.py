from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from deploys.database.access import (
    EXPECTED_DATABASE,
    RESERVED_CONNECTIONS,
    AccessFact,
    AccessState,
    differences,
    expected_role,
)
from deploys.database.backups import DumpsFact, FolderFact
from deploys.database.deploy import apply, remove
from deploys.database.releases import version_of
from deploys.database.scram import verifier
from deploys.database.server import ClustersFact, OwnDataFact, ServerFact, ServerState, action_for
from deploys.database.settings import DatabaseSettings
from deploys.firewall.deploy import AddressesFact
from deploys.ops.accounts import GroupFact, UserFact
from deploys.ops.debian.packages import BroughtFact, WantedFact
from deploys.ops.facts import OsReleaseFact, PackagesFact, PathFact, PathState, UnitFact, UnitState
from deploys.os_releases import RELEASES
from deploys.tls.certificate import Installed
from deploys.tls.deploy import CertificateFact
from inventory.errors import HostError
from tests.deploys.harness import Machine, Run

PASSWORD = "a-password-of-24-letters"
SETTINGS = DatabaseSettings(names=("10.0.0.4",), clients=("10.0.0.2",), password=PASSWORD)
LIMIT = SETTINGS.max_connections - RESERVED_CONNECTIONS
BARE: dict[Any, Any] = {
    OsReleaseFact: ("debian", "12"),
    ClustersFact: (),
    OwnDataFact: (),
    AddressesFact: {},
    PathFact: PathState(),
    PackagesFact: frozenset(),
    WantedFact: frozenset(),
    BroughtFact: None,
    UnitFact: UnitState(),
    ServerFact: ServerState(),
    AccessFact: AccessState(),
    CertificateFact: Installed(),
    DumpsFact: (),
    FolderFact: "",
    UserFact: None,
    GroupFact: None,
}
RUNS = ServerState(
    active=True, enabled=True, answers=True, started=100, loaded=110, newest_at_start=99, newest=110
)


def plan(operations: Any = apply, settings: DatabaseSettings = SETTINGS, **facts: Any) -> Run:
    known = {cls: facts.get(cls.__name__, answer) for cls, answer in BARE.items()}
    return Machine({"database": settings}, facts=known).run(operations, execute=False)


def test_first_installation_plans_packages_configuration_and_backups() -> None:
    changed = [change.path for change in plan().changes]
    assert changed[0] == "packages"
    assert "/etc/postgresql/15/main/pg_hba.conf" in changed
    assert changed[-1] == "/var/backups/clawd"
    assert changed.index("postgresql.service") < changed.index("database clawd")


def test_plan_contains_no_password_and_no_verifier() -> None:
    run = plan()
    assert PASSWORD not in repr(run.changes) + repr(run.names)


def test_every_host_release_has_its_postgresql_version() -> None:
    assert version_of("db1", ("debian", "13")) == "17"
    assert sorted(str(item.postgresql) for item in RELEASES) == ["14", "15", "16", "17"]
    with pytest.raises(HostError, match="db1: database: there is no PostgreSQL known for debian 11"):
        version_of("db1", ("debian", "11"))


def test_cluster_of_an_older_postgresql_is_refused() -> None:
    with pytest.raises(HostError, match="belongs to PostgreSQL 13, and its release has 15"):
        plan(ClustersFact=("13/main",))
    assert plan(ClustersFact=("13/main", "15/main")).predicted
    assert plan(ClustersFact=("13/other",)).predicted


def test_client_name_that_cannot_be_resolved_is_refused() -> None:
    with pytest.raises(HostError, match="bot1\\.lan cannot be resolved there"):
        plan(settings=SETTINGS.model_copy(update={"clients": ("bot1.lan",)}))


@pytest.mark.parametrize(
    ("changes", "new", "action"),
    [
        ({}, (False, False), None),
        ({"active": False}, (True, True), "start"),
        ({"answers": False}, (True, True), "wait"),
        ({"newest_at_start": 101}, (False, False), "restart"),
        ({"pending": True}, (False, False), "restart"),
        ({}, (True, False), "restart"),
        ({}, (True, True), "restart"),
        ({}, (False, True), "reload"),
        ({"newest": 111}, (False, False), "reload"),
        ({"enabled": False}, (False, False), "enable"),
    ],
)
def test_changed_settings_decide_between_restart_reload_and_nothing(
    changes: dict[str, Any], new: tuple[bool, bool], action: str | None
) -> None:
    values = {name: getattr(RUNS, name) for name in RUNS.__slots__} | changes
    needed = action_for(ServerState(**values), new_at_start=new[0], new=new[1])
    assert (needed.split()[0] if needed else None) == action


def state(**changes: str) -> AccessState:
    made = verifier(PASSWORD)
    good = {
        "role": expected_role(LIMIT),
        "verifier_head": made.rsplit("$", 1)[0],
        "verifier_digest": sha256(made.encode()).hexdigest(),
        "database": EXPECTED_DATABASE,
    }
    return AccessState(answers=True, **good | changes)


@pytest.mark.parametrize(
    ("changes", "different"),
    [
        ({}, ()),
        ({"role": ""}, ("new login and database",)),
        ({"database": ""}, ("new database",)),
        ({"verifier_digest": "0"}, ("another password",)),
        ({"role": f"t,t,f,f,f,f,{LIMIT},0"}, ("rights of the login",)),
        ({"database": "clawd,UTF8,t,pg_database_owner,f"}, ("rights on the database",)),
    ],
)
def test_plan_shows_differing_rights_of_the_database(
    changes: dict[str, str], different: tuple[str, ...]
) -> None:
    run = plan(AccessFact=state(**changes), ClustersFact=("15/main",))
    diff = [line for change in run.changes if change.path == "database clawd" for line in change.diff]
    assert len(diff) == len(different)
    assert all(line.startswith(part) for line, part in zip(diff, different, strict=True))


def test_plan_shows_no_rights_of_a_stopped_server() -> None:
    run = plan(ClustersFact=("15/main",))
    assert "database clawd" not in [change.path for change in run.changes]
    assert list(differences(AccessState(), False, LIMIT)) == ["new login and database"]


def test_removal_of_nothing_changes_nothing() -> None:
    assert not plan(remove).predicted


def test_removal_deletes_configuration_before_packages() -> None:
    run = plan(
        remove,
        ClustersFact=("15/main",),
        BroughtFact=frozenset({"postgresql-15"}),
        PathFact=PathState("directory", "0755", "postgres", "postgres"),
    )
    changed = [change.path for change in run.changes]
    assert changed.index("/etc/postgresql/15/main") < changed.index("packages")


def test_removal_keeps_configuration_of_other_clusters() -> None:
    run = plan(
        remove,
        ClustersFact=("15/main", "15/theirs"),
        BroughtFact=frozenset({"postgresql-15"}),
        PathFact=PathState("directory", "0755", "postgres", "postgres"),
    )
    changed = [change.path for change in run.changes]
    assert "/etc/postgresql" not in changed
    assert "/etc/postgresql/15/main" in changed

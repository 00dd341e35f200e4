"""What base writes, and when it refuses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from deploys.base import deploy as base_deploy
from deploys.base.deploy import DroppedFact, EmptyFact, GroupUsersFact, apply, remove
from deploys.base.settings import ALWAYS, BaseSettings, settings_for
from deploys.ops.accounts import GroupFact, UserFact, UserState
from deploys.ops.debian.packages import BroughtFact, WantedFact
from deploys.ops.debian.upgrades import Pending, PendingFact
from deploys.ops.facts import (
    Connection,
    ConnectionFact,
    PackagesFact,
    PathFact,
    PathState,
    UnitFact,
    UnitState,
)
from deploys.ops.removal import Originals, OriginalsFact
from inventory.errors import HostError
from inventory.sections.base import Operator
from tests.deploys.golden import assert_golden
from tests.deploys.harness import Machine, Run
from tests.deploys.inventories import inventory

GOLDEN = Path(__file__).parent / "golden"
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
ANNA = {"name": "anna", "keys": [f"ssh-ed25519 {KEY} anna@desk"]}


def bare_host(
    settings: dict[str, object],
    *,
    port: int = 22,
    login: str = "root",
    key: str = KEY,
    former: tuple[str, ...] = ("boris",),
    wanted: tuple[str, ...] = (),
    dropped: tuple[str, ...] = (),
    user: UserState | None = None,
) -> Run:
    """Base prepared on a host with nothing but `former` operators, over an SSH connection."""
    transport = SimpleNamespace(
        auth_handler=SimpleNamespace(private_key=SimpleNamespace(get_base64=lambda: key))
    )
    facts = {
        ConnectionFact: Connection("192.0.2.7", port),
        GroupFact: frozenset(former),
        PackagesFact: frozenset(),
        WantedFact: frozenset(wanted),
        DroppedFact: frozenset(dropped),
        PathFact: PathState(),
        UnitFact: UnitState(),
        UserFact: user,
        PendingFact: Pending(("openssl=3.0.17-1",)),
    }
    machine = Machine(
        {"base": settings, "ssh_user": login},
        facts=facts,
        ssh=SimpleNamespace(get_transport=lambda: transport),
    )
    return machine.run(apply, execute=False)


def written(run: Run, path: str) -> str:
    (change,) = [change for change in run.changes if change.path == path]
    return "".join(f"{line[1:]}\n" for line in change.diff if line.startswith("+"))


@pytest.mark.parametrize(
    "path",
    [
        "/etc/ssh/sshd_config.d/10-clawd.conf",
        "/etc/sudoers.d/clawd",
        "/etc/systemd/journald.conf.d/10-clawd.conf",
        "/etc/timezone",
        "/home/anna/.ssh/authorized_keys",
    ],
)
def test_written_files_equal_golden_files(path: str) -> None:
    run = bare_host({"operators": [ANNA], "time_zone": "Asia/Shanghai", "journal_max": "1G"})
    assert_golden(GOLDEN / path.strip("/").replace("/", "-"), written(run, path))


def test_operations_on_a_bare_host_equal_golden_order() -> None:
    names = bare_host({"operators": [ANNA]}).names
    assert_golden(GOLDEN / "operations.txt", "".join(f"{name.removeprefix('Base | ')}\n" for name in names))


@pytest.mark.parametrize(
    ("settings", "ports"),
    [({"ssh_port": 2022}, ["Port 2022", "Port 2222"]), ({}, ["Port 2222"])],
)
def test_sshd_listens_on_the_port_in_use_and_on_the_declared_one(
    settings: dict[str, object], ports: list[str]
) -> None:
    text = written(bare_host(settings, port=2222), "/etc/ssh/sshd_config.d/10-clawd.conf")
    assert [line for line in text.splitlines() if line.startswith("Port")] == ports


def test_ssh_port_defaults_to_22_without_an_ssh_connection() -> None:
    assert Connection().ssh_ports(None) == {22}
    assert Connection().ssh_ports(2022) == {2022}


def test_undeclared_operator_is_retired() -> None:
    names = bare_host({"operators": []}, login="carla", former=("boris", "root")).names
    assert [name for name in names if "Retire" in name] == ["Base | Retire login boris"]
    there = UserState("/home/boris", "boris", frozenset({"clawd-operators"}))
    (said,) = [
        change.diff
        for change in bare_host({"operators": []}, login="carla", user=there).changes
        if change.path == "user boris"
    ]
    assert said == (
        "it may not log in any more, its keys and its sudo are removed",
        "its account, home folder and files stay",
    )


def test_undeclared_package_is_shown_once_and_stays_installed() -> None:
    declared: dict[str, object] = {"packages": ["sudo", "less"]}

    def said(*dropped: str) -> list[tuple[str, ...]]:
        run = bare_host(declared, wanted=("sudo", "less", "tree"), dropped=dropped)
        return [change.diff for change in run.changes if "declared" in str(change.diff)]

    assert said() == [
        ("tree: no longer declared; it stays installed until base is removed (`apt-get purge tree` there)",)
    ]
    assert said("tree") == []
    assert said("tree", "less") == [("less: declared again",)]


def test_undeclared_login_in_use_is_refused() -> None:
    with pytest.raises(
        HostError, match=r"boris is the login in use, and base\.operators no longer"
    ) as refused:
        bare_host({"operators": [ANNA]}, login="boris")
    assert "connect with another login first" in str(refused.value.advice)
    declared = {"name": "boris", "keys": ANNA["keys"]}
    assert bare_host({"operators": [declared]}, login="boris").predicted


def test_operator_keys_without_the_key_in_use_are_refused() -> None:
    with pytest.raises(HostError, match="anna is the login in use"):
        bare_host({"operators": [ANNA]}, login="anna", key="AAAAsomeotherkey")
    assert bare_host({"operators": [ANNA]}, login="anna").predicted
    assert bare_host({"operators": [ANNA]}, login="root", key="AAAAsomeotherkey").predicted


def test_settings_are_the_same_on_every_host() -> None:
    declared = inventory(
        {"bot1": ["runtime"], "web1": ["nginx"]}, base={"packages": ["htop", "sudo"], "operators": [ANNA]}
    )
    settings = settings_for(declared, "bot1")
    assert settings == settings_for(declared, "web1")
    assert settings.packages == tuple(sorted({*ALWAYS, "htop"}))
    assert settings.operators == (Operator.model_validate(ANNA),)


def test_settings_are_read_from_plain_data() -> None:
    assert BaseSettings.model_validate({}).packages == ALWAYS


def test_home_and_group_of_an_existing_user_are_used() -> None:
    facts = {
        UserFact: UserState("/srv/anna", "users", frozenset({"clawd-operators"})),
        PathFact: PathState(),
    }
    run = Machine(facts=facts).run(
        lambda: base_deploy._operator(Operator.model_validate(ANNA)), execute=False
    )
    assert [change.path for change in run.changes] == ["/srv/anna/.ssh", "/srv/anna/.ssh/authorized_keys"]
    assert run.changes[0].diff == ("new folder 0700 anna:users",)


@pytest.mark.parametrize("upgrade", ["never", "security", "all"])
def test_updates_are_installed_unless_declared_never(upgrade: str) -> None:
    run = bare_host({"upgrade": upgrade})
    lines = [line for change in run.changes if change.path == "packages" for line in change.diff]
    assert ("upgrade 1 package: openssl=3.0.17-1" in lines) == (upgrade != "never")


def removed(*, purge: bool) -> Run:
    """Removal of base, planned over the login carla, with boris as another operator."""
    facts = {
        ConnectionFact: Connection("192.0.2.7", 22),
        GroupFact: frozenset({"boris", "carla"}),
        UserFact: UserState("/home/carla", "carla", frozenset({"clawd-operators"})),
        PathFact: PathState(),
        BroughtFact: frozenset(),
        WantedFact: frozenset(),
        EmptyFact: False,
        GroupUsersFact: True,
        OriginalsFact: Originals(("/home/carla/.ssh/authorized_keys", "/etc/timezone"), True),
    }
    return Machine({"ssh_user": "carla", "purge": purge}, facts=facts).run(remove, execute=False)


def test_removal_keeps_current_keys_of_the_remaining_login() -> None:
    """A key that was revoked since is not let in again, nor the one in use shut out."""
    said = {change.path: change.diff for change in removed(purge=False).changes}
    (why,) = said["/home/carla/.ssh/authorized_keys"]
    assert why.startswith("not restored: carla stays, and logs in with the keys that are there now")
    assert said["/etc/timezone"] == ("original restored",)


def test_purge_restores_files_before_it_deletes_their_owner() -> None:
    names = removed(purge=True).names
    order = [name.removeprefix("Remove base | ") for name in names]
    assert order.index("Retire login boris") < order.index("Files as before base")
    assert order.index("Files as before base") < order.index("No user boris")
    assert "No user carla" not in order

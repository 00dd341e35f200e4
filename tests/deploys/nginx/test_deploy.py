from __future__ import annotations

from typing import Any

from deploys.nginx.deploy import INTERNAL_FILES, apply, reads, remove, values
from deploys.nginx.settings import settings_for
from deploys.ops.debian.added import Added, AddedFact
from deploys.ops.debian.packages import BroughtFact, WantedFact
from deploys.ops.facts import OsReleaseFact, PackagesFact, PathFact, PathState, UnitFact, UnitState
from deploys.ops.paths.files import rendered
from tests.deploys.harness import Machine, Run
from tests.deploys.inventories import inventory

BARE: dict[Any, Any] = {
    PathFact: PathState(),
    PackagesFact: frozenset(),
    WantedFact: frozenset(),
    UnitFact: UnitState(),
    OsReleaseFact: ("debian", "12"),
}


def plan(path: PathState = BARE[PathFact]) -> Run:
    data = {"nginx": settings_for(inventory(), "bot1")}
    return Machine(data, facts={**BARE, PathFact: path}).run(apply, execute=False)


def test_first_installation_starts_nginx_after_its_files_are_written() -> None:
    changed = [change.path for change in plan().changes]
    assert changed[0] == "packages"
    served = changed.index("nginx.service")
    assert changed[served - 2 : served] == ["/etc/nginx/clawd/upstreams.conf", "/etc/nginx/nginx.conf"]
    assert changed[served + 1 :] == [
        "/etc/logrotate.d/nginx",
        "/etc/systemd/system/clawd-nginx-logs.service",
        "/etc/systemd/system/clawd-nginx-logs.timer",
        "clawd-nginx-logs.timer",
    ]
    assert "/usr/local/lib/clawd/upstream" in changed


def test_nginx_listens_on_ipv6_only_when_the_kernel_has_it() -> None:
    def listens(path: PathState) -> bool:
        (config,) = (change for change in plan(path).changes if change.path == "/etc/nginx/nginx.conf")
        return any("[::]:443" in line for line in config.diff)

    assert listens(PathState("file", content=b""))
    assert not listens(PathState("absent"))


def test_unknown_names_are_refused_in_the_handshake_only_by_nginx_that_can() -> None:
    def refuses(*release: str) -> bool:
        data = {"nginx": settings_for(inventory(), "bot1")}
        run = Machine(data, facts={**BARE, OsReleaseFact: release}).run(apply, execute=False)
        (config,) = (change for change in run.changes if change.path == "/etc/nginx/nginx.conf")
        assert any("return 444;" in line for line in config.diff)
        return any("ssl_reject_handshake on;" in line for line in config.diff)

    assert refuses("debian", "12")
    assert refuses("ubuntu", "24.04")
    assert not refuses("ubuntu", "22.04")


def test_drained_bot_is_a_change_in_the_plan() -> None:
    settings = settings_for(inventory(), "bot1")
    assert settings is not None
    text = rendered("nginx/upstreams.conf", values(settings, ipv6=True))
    drained = text.replace("fail_timeout=5s;", "fail_timeout=5s down;")
    run = plan(PathState("file", "0644", "root", "root", "of another content", drained.encode()))
    (change,) = (change for change in run.changes if change.path == "/etc/nginx/clawd/upstreams.conf")
    assert [line for line in change.diff if line.startswith("-")] == [
        "-    server 127.0.0.1:8080 max_fails=3 fail_timeout=5s down;"
    ] * 2


def test_removal_removes_services_packages_and_files() -> None:
    running = UnitState(load="loaded", active="active", enabled="enabled")
    facts = {
        UnitFact: running,
        PathFact: PathState("file"),
        BroughtFact: frozenset({"nginx", "nginx-common"}),
    }
    run = Machine(facts=facts).run(remove, execute=False)
    assert [change.path for change in run.changes] == [
        "clawd-nginx-logs.timer",
        "clawd-nginx-logs.service",
        "nginx.service",
        "packages",
        "/etc/logrotate.d/nginx",
        "/etc/systemd/system/nginx.service.d",
        "/etc/nginx/clawd",
        "/usr/local/lib/clawd/upstream",
        "/run/clawd-upstream",
        "/var/lib/clawd/acme",
        "/etc/clawd/nginx-internal",
        "/etc/clawd/nginx-internal.d",
    ]
    assert run.changes[3].diff == ("remove nginx nginx-common",)


def test_removal_names_administrator_files_that_the_package_purge_would_delete() -> None:
    site = "/etc/nginx/sites-enabled/theirs"
    facts = {
        UnitFact: UnitState(),
        PathFact: PathState("absent"),
        BroughtFact: frozenset({"nginx", "nginx-common"}),
        AddedFact: Added((site,)),
    }
    run = Machine(facts=facts).run(remove, execute=False)
    (packages,) = (change for change in run.changes if change.path == "packages")
    assert packages.diff == (
        "remove nginx nginx-common",
        f"stays: {site}, which is not of clawd-provision",
    )


def test_files_removed_after_the_reload_are_not_in_the_stamp() -> None:
    """A host whose bots are all its own again loses the certificate that it showed to others."""
    alone, front = settings_for(inventory(), "bot1"), settings_for(inventory(APART), "web1")
    assert alone
    assert front
    assert set(INTERNAL_FILES) <= set(reads(front))
    assert not set(INTERNAL_FILES) & set(reads(alone))


APART = {"web1": ["nginx"], "bot1": ["runtime"]}

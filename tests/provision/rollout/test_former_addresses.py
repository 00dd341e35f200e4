"""Bots listen where nginx reaches them, while both change that."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploys.firewall.settings import FirewallSettings
from deploys.nginx.deploy import values
from deploys.nginx.settings import settings_for as nginx_settings
from deploys.ops.paths.files import rendered
from deploys.runtime.config import bot_config
from deploys.runtime.settings import RuntimeSettings, settings_for
from deploys.topology.addresses import host_and_port
from deploys.topology.bots import bots_over_tls, fronts_of, upstream
from inventory.errors import HostError
from inventory.model import Inventory
from provision.plan import FileChange, HostPlan, Plan, PlannedOperation
from provision.rollout import former_addresses
from provision.rollout.plan_changes import UPSTREAMS, changes_upstreams
from provision.rollout.stages import HostStates, stages
from provision.selection import Selection, assign

BOTH = ["runtime", "nginx"]
TEAM = {"web1": ["nginx"], "web2": ["nginx"], "bot1": ["runtime"], "bot2": ["runtime"], "db": ["database"]}
MIXED = {"bot1": BOTH, "bot2": BOTH, "db": ["database"]}
REMOTE = {"engine": "openai-compatible", "endpoint": "http://127.0.0.1:1/v1"}


def inventory(roles: dict[str, list[str]], **changes: Any) -> Inventory:
    addresses = {name: f"10.0.0.{number}" for number, name in enumerate(sorted({*TEAM, *MIXED, "bot3"}), 1)}
    hosts = {name: {"address": addresses[name], "roles": of} for name, of in roles.items()}
    database = {"database": {"password": "of-the-database"}} if "db" in roles else {}
    whole = {"hosts": hosts, "models": {"default": REMOTE}, **database, **changes}
    return Inventory.model_validate(whole)


def uses(declared: Inventory, front: str) -> former_addresses.Uses:
    """What the nginx of `front` passes to once it is as declared."""
    bots = declared.with_role("runtime") if declared.database else [front]
    scheme = "https" if bots_over_tls(declared, front) else "http"
    return frozenset((scheme, upstream(declared, front, bot)) for bot in bots)


OLD = inventory(TEAM)
NEW = inventory(TEAM, bot={"internal_port": 9444})


def test_bot_keeps_the_port_that_an_nginx_uses() -> None:
    both = {"web1": uses(OLD, "web1"), "web2": uses(NEW, "web2")}
    (kept,) = former_addresses.former(NEW, "bot1", both, ())
    assert (kept.host, kept.port, kept.tls, kept.sources) == ("0.0.0.0", 8444, True, (NEW.internal("web1"),))
    assert (
        former_addresses.former(NEW, "bot1", {front: uses(NEW, front) for front in ("web1", "web2")}, ())
        == ()
    )


def test_bot_keeps_every_former_port_for_an_nginx_that_was_not_read() -> None:
    (kept,) = former_addresses.former(NEW, "bot1", {"web2": uses(NEW, "web2")}, ((8444, True), (9444, True)))
    assert (kept.port, kept.sources) == (8444, (NEW.internal("web1"),))


def test_bot_keeps_its_internal_listener_until_nginx_stops_using_it() -> None:
    """A host with both roles remains: its nginx goes back to loopback."""
    before, after = (
        inventory({"bot1": BOTH, "bot2": ["runtime"], "db": ["database"]}),
        inventory({"bot1": BOTH}),
    )
    (kept,) = former_addresses.former(after, "bot1", {"bot1": uses(before, "bot1")}, ())
    assert (kept.port, kept.tls, kept.sources) == (8444, True, ())
    found = runtime(former_addresses.keeping(assign(after, Selection()), after, {"bot1": (kept,)}), "bot1")
    assert found == settings_for(before, "bot1").model_copy(  # type: ignore[union-attr]
        update={"database": None, "credentials": found.credentials}
    )


def test_bot_listens_without_tls_until_nginx_uses_tls() -> None:
    """As bots of earlier versions were: at their port, from other hosts."""
    plain = {front: frozenset({("http", "10.0.0.1:8080")}) for front in ("web1", "web2")}
    places = {"bot1": former_addresses.former(OLD, "bot1", plain, ())}
    found = runtime(former_addresses.keeping(assign(OLD, Selection()), OLD, places), "bot1")
    config = json.loads(bot_config(found))
    assert config["listen"] == {"host": "0.0.0.0", "port": 8080}
    assert config["internal"] == {"host": "0.0.0.0", "port": 8444}
    assert "further" not in config


def test_bot_and_firewall_keep_the_former_port_open() -> None:
    places = {"bot1": former_addresses.former(NEW, "bot1", {f: uses(OLD, f) for f in ("web1", "web2")}, ())}
    whole = former_addresses.keeping(assign(NEW, Selection()), NEW, places)
    config = json.loads(bot_config(runtime(whole, "bot1")))
    assert config["internal"]["port"] == 9444
    assert config["further"] == [{"host": "0.0.0.0", "port": 8444, "tls": True}]
    (firewall,) = (item.settings for item in whole["bot1"] if isinstance(item.settings, FirewallSettings))
    sources = {opening.port: opening.sources for opening in firewall.openings}
    assert sources[8444] == tuple(sorted(NEW.internal(front) for front in ("web1", "web2")))
    assert sources[9444]
    assert runtime(whole, "bot2") == settings_for(NEW, "bot2")


@pytest.mark.parametrize(
    ("use", "kept"),
    [
        ({"web1": "http", "web2": "https"}, (True, "0.0.0.0")),
        ({"bot1": "http", "bot2": "http"}, (False, "0.0.0.0")),
        ({"bot1": "http"}, (False, "127.0.0.1")),
    ],
    ids=["with and without TLS", "on the same host and elsewhere", "on the same host"],
)
def test_bot_has_one_listener_at_a_former_port(use: dict[str, str], kept: tuple[bool, str]) -> None:
    declared = inventory(MIXED) if "bot1" in use else OLD
    address = declared.internal("bot1")
    places = {
        front: frozenset({(scheme, f"{'127.0.0.1' if front == 'bot1' else address}:7000")})
        for front, scheme in use.items()
    }
    places = {front: places.get(front, frozenset()) for front in fronts_of(declared, "bot1")}
    (found,) = former_addresses.former(declared, "bot1", places, ((7000, True),))
    assert (found.port, found.tls, found.host) == (7000, *kept)


@pytest.mark.parametrize(
    ("changes", "use", "why"),
    [
        ({"bot": {"port": 8444, "internal_port": 8080}}, ("https", 8444), "8444 cannot be given to runtime"),
        ({"bot": {"port": 8090, "internal_port": 8080}}, ("http", 8080), "8080 cannot be given to runtime"),
        (
            {"monitoring": {"grafana": {"port": 8444, "admin_password": "a-password-of-sixteen"}}},
            ("https", 8444),
            "8444 cannot be given to grafana",
        ),
        ({}, ("http", 8080), ""),
        ({"bot": {"port": 8090}}, ("http", 8080), ""),
    ],
    ids=["swapped", "reused without TLS", "of another component", "bot's own", "free"],
)
def test_former_port_assigned_to_another_listener_is_refused(
    tmp_path: Path, changes: dict[str, Any], use: tuple[str, int], why: str
) -> None:
    if "monitoring" in changes:
        changes = {"bot": {"internal_port": 9444}, **changes}
    declared = inventory({"web1": ["nginx"], "bot1": ["runtime", "monitoring"]}, **changes)
    session = Hosts(tmp_path, ("bot1",), ("bot1", "web1"))
    place = host_and_port(declared.internal("bot1"), use[1])
    text = configuration(frozenset({(use[0], place)}))
    session.put("web1", "etc/nginx/nginx.conf", text)
    session.put("bot1", "etc/clawd/bot.json", "{}")
    if not why:
        assert former_addresses.find(session, declared)  # type: ignore[arg-type]
        return
    with pytest.raises(HostError, match=f"bot1: port {why}: nginx still reaches the bot there") as refused:
        former_addresses.find(session, declared)  # type: ignore[arg-type]
    assert "change the port in two steps" in refused.value.advice


def test_explanation_names_the_run_that_ends_former_ports() -> None:
    places = {"bot1": former_addresses.former(NEW, "bot1", {f: uses(OLD, f) for f in ("web1", "web2")}, ())}
    limited = former_addresses.explained(NEW, ("bot1", "web1"), places)
    assert limited.startswith("bot1: the bot still listens on port 8444, which nginx of ")
    assert limited.endswith("hint: run `up` for the hosts with nginx as well")
    whole = former_addresses.explained(NEW, tuple(NEW.hosts), places)
    assert whole.endswith("hint: a second pass of `up`, without `--tags`, ends this after nginx has moved")
    assert former_addresses.explained(NEW, tuple(NEW.hosts), {}) == ""


def configuration(
    used: former_addresses.Uses, *, mark: str = former_addresses.MARK, pool: str = "webhooks"
) -> str:
    """What nginx reads where it passes to these servers, next to upstreams of an administrator."""
    schemes = {scheme for scheme, _ in used} or {"http"}
    (scheme,) = schemes
    addresses = {"127.0.0.1", *(server.rpartition(":")[0] for _, server in used)}
    foreign = "".join(f"    server {address}:3000;\n" for address in sorted(addresses))
    servers = "".join(f"    server {server} max_fails=0;\n" for _, server in sorted(used))
    return (
        f"{mark}: changes by hand are undone.\n"
        f"upstream app {{\n{foreign}}}\nupstream {pool} {{\n{servers}}}\n"
        f"server {{\n    location / {{\n        proxy_pass {scheme}://{pool};\n    }}\n}}\n"
    )


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (configuration(uses(OLD, "web1")), 2),
        (configuration(uses(OLD, "web1"), pool="console"), 2),
        (configuration(uses(OLD, "web1"), pool="app"), 0),
        (configuration(uses(OLD, "web1"), mark="# Of the administrator"), 0),
        ("upstream webhooks {\n    server 10.0.0.1:8000;\n}\n", 0),
    ],
    ids=["webhooks", "console", "another upstream", "a file without the mark", "an administrator's file"],
)
def test_only_bot_upstreams_in_own_nginx_files_are_read(tmp_path: Path, text: str, count: int) -> None:
    session = Hosts(tmp_path, (), ("web1",))
    session.put("web1", "etc/nginx/nginx.conf", text)
    found = former_addresses.parse(session.run("web1", former_addresses.ASK_FRONT, timeout=10).stdout)
    assert found == (uses(OLD, "web1") if count else frozenset())
    assert len(found) == count


def test_maintenance_does_not_change_upstreams() -> None:
    given = nginx_settings(OLD, "web1")
    assert given is not None
    given = given.model_copy(update={"maintenance": True})
    files = ("nginx/nginx.conf", "nginx/upstreams.conf")
    assert former_addresses.parse(
        "".join(rendered(name, values(given, ipv6=True)) for name in files)
    ) == uses(OLD, "web1")


def runtime(whole: Any, host: str) -> RuntimeSettings:
    (found,) = (item.settings for item in whole[host] if isinstance(item.settings, RuntimeSettings))
    return found


def test_upstreams_are_read_from_current_and_last_started_nginx_files(tmp_path: Path) -> None:
    nginx, state = tmp_path / "etc/nginx", tmp_path / "var/lib/clawd/state/nginx.service.good"
    (nginx / "clawd").mkdir(parents=True)
    state.mkdir(parents=True)

    def write(declared: Inventory) -> None:
        given = nginx_settings(declared, "web1")
        assert given is not None
        for name, path in (("nginx.conf", "nginx.conf"), ("upstreams.conf", "clawd/upstreams.conf")):
            (nginx / path).write_text(rendered(f"nginx/{name}", values(given, ipv6=True)))

    def asked(active: str = "true") -> former_addresses.Uses:
        script = former_addresses.ASK_FRONT.replace("cd /\n", f"cd {tmp_path}\n").replace(
            "systemctl is-active --quiet nginx", active
        )
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=10, check=True)
        return former_addresses.parse(done.stdout)

    assert asked() == frozenset()
    write(OLD)
    assert asked() == uses(OLD, "web1")
    files = ["etc/nginx/nginx.conf", "etc/nginx/clawd/upstreams.conf"]
    subprocess.run(["tar", "-C", str(tmp_path), "-cf", str(state / "files.tar"), *files], check=True)
    write(NEW)
    assert asked() == uses(OLD, "web1") | uses(NEW, "web1")
    assert asked("false") == frozenset()


class Hosts:
    """A session whose hosts are folders."""

    def __init__(self, root: Path, hosts: Sequence[str], reached: Sequence[str]) -> None:
        self.hosts, self.reached, self._root = tuple(hosts), tuple(reached), root

    def run(self, host: str, script: str, *, timeout: float) -> Any:
        here = script.replace("cd /\n", f"cd {self._root / host}\n").replace("systemctl", "true")
        here = here.replace("/etc/clawd", f"{self._root / host}/etc/clawd")
        done = subprocess.run(["sh", "-c", here], capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, done.stderr
        return done

    def everywhere(self, function: Any, hosts: Sequence[str]) -> dict[str, Any]:
        return {host: function(host) for host in hosts}

    def put(self, host: str, path: str, text: str) -> None:
        file = self._root / host / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.mark.parametrize(
    ("moved", "reached", "kept"),
    [
        ((), ("web1", "web2"), {8444}),
        (("web1",), ("web1", "web2"), {8444}),
        (("web1", "web2"), ("web1", "web2"), set()),
        (("web1", "web2"), ("web1",), {8444}),
    ],
    ids=["none has moved", "one has moved", "all have moved", "one was not asked"],
)
def test_find_returns_former_addresses_in_use_on_hosts(
    tmp_path: Path, moved: Sequence[str], reached: Sequence[str], kept: set[int]
) -> None:
    session = Hosts(tmp_path, ("bot1", "bot2", *reached), ("bot1", "bot2", *reached))
    for front in ("web1", "web2"):
        settings = nginx_settings(NEW if front in moved else OLD, front)
        assert settings is not None
        session.put(front, "etc/nginx/nginx.conf", rendered("nginx/nginx.conf", values(settings, ipv6=True)))
        upstreams = rendered("nginx/upstreams.conf", values(settings, ipv6=True))
        session.put(front, "etc/nginx/clawd/upstreams.conf", upstreams)
    for bot in ("bot1", "bot2"):
        declared = settings_for(OLD, bot)
        assert declared is not None
        session.put(bot, "etc/clawd/bot.json", bot_config(declared))
        (tmp_path / bot / "etc/nginx").mkdir()
    found = former_addresses.find(session, NEW)  # type: ignore[arg-type]
    assert {bot: set(former_addresses.ports(found, bot)) for bot in ("bot1", "bot2")} == {
        "bot1": kept,
        "bot2": kept,
    }


def test_listeners_are_read_from_the_bot_settings() -> None:
    whole = former_addresses.keeping(
        assign(NEW, Selection()),
        NEW,
        {"bot1": former_addresses.former(NEW, "bot1", {f: uses(OLD, f) for f in ("web1", "web2")}, ())},
    )
    assert former_addresses.listeners(bot_config(runtime(whole, "bot1"))) == ((9444, True), (8444, True))
    plain = {front: frozenset({("http", "10.0.0.1:8080")}) for front in ("web1", "web2")}
    whole = former_addresses.keeping(
        assign(OLD, Selection()), OLD, {"bot1": former_addresses.former(OLD, "bot1", plain, ())}
    )
    assert former_addresses.listeners(bot_config(runtime(whole, "bot1"))) == ((8080, False), (8444, True))
    assert former_addresses.listeners(bot_config(runtime(assign(OLD, Selection()), "bot1"))) == (
        (8444, True),
    )
    for nonsense in ('{"internal": {"port": 0}}', '{"listen": {"host": "0.0.0.0"}}'):
        assert former_addresses.listeners(nonsense) == ()
    for nonsense in ("", "{", "[]", '{"internal": 1}', '{"further": [{}]}'):
        assert former_addresses.listeners(nonsense) == ()


class Deployed:
    """Hosts as far as nginx and bots reach each other, and runs that may be interrupted after any step."""

    def __init__(self, declared: Inventory) -> None:
        self.bots: dict[str, frozenset[tuple[int, bool]]] = {}
        self.disk: dict[str, former_addresses.Uses] = {}
        self.live: dict[str, former_addresses.Uses] = {}
        self.checks = 0
        self._declared = declared
        for host, declared_host in declared.hosts.items():
            if "runtime" in declared_host.roles:
                self.bots[host] = self._listens(host, ())
            if "nginx" in declared_host.roles:
                self.disk[host] = self.live[host] = uses(declared, host)

    def run(self, declared: Inventory, *, kill_after: int | None = None) -> int:
        """Return after how many steps the run ended."""
        self._declared, steps = declared, 0
        for _ in range(4):
            found = {
                front: former_addresses.parse(
                    former_addresses.STARTED.join(map(configuration, (self.disk[front], self.live[front])))
                )
                for front in self.live
            }
            bots = declared.with_role("runtime")
            places = {
                bot: former_addresses.former(declared, bot, found, tuple(self.bots.get(bot, ())))
                for bot in bots
            }
            planned = self._plan(places)
            passing = [host.host for host in planned.hosts if changes_upstreams(host)]
            lacking = [
                bot for bot in bots if former_addresses.lacks(declared, bot, found, self.bots.get(bot, ()))
            ]
            for stage in stages(
                declared, planned, HostStates(serving=tuple(self.bots), passing=passing, lacking=lacking)
            ):
                for host in stage.hosts:
                    for _ in self._change(planned.for_host(host), places.get(host, ())):
                        steps += 1
                        if steps == kill_after:
                            return steps
            if not any(places.values()) or not planned.changes:
                break
        return steps

    def converged(self) -> bool:
        bots, fronts = self._declared.with_role("runtime"), self._declared.with_role("nginx")
        return all(self.bots[bot] == self._listens(bot, ()) for bot in bots) and all(
            self.disk[front] == self.live[front] == uses(self._declared, front) for front in fronts
        )

    def _listens(self, bot: str, kept: Sequence[Any]) -> frozenset[tuple[int, bool]]:
        declared = settings_for(self._declared, bot)
        assert declared is not None
        found = {(declared.port, False), *((place.port, place.tls) for place in kept)}
        found |= {(declared.internal.port, True)} if declared.internal else set()
        assert len({port for port, _ in found}) == len(found), "a port has one listener"
        return frozenset(found)

    def _plan(self, places: former_addresses.Former) -> Plan:
        found = []
        for host in self._declared.hosts:
            operations = []
            if host in places and self.bots.get(host) != self._listens(host, places[host]):
                operations.append(PlannedOperation("runtime", "Service clawd-bot", changes=True))
            if host in self._declared.with_role("nginx"):
                old, new = self.disk.get(host, frozenset()), uses(self._declared, host)
                diff = tuple(
                    f"{sign}    server {server} max_fails=0;"
                    for sign, group in (("-", old), ("+", new))
                    for _, server in sorted(group)
                )
                if old != new or self.live.get(host) != new:
                    files = (FileChange(UPSTREAMS, diff),) if old != new else ()
                    operations.append(PlannedOperation("nginx", "Service nginx", changes=True, files=files))
            found.append(HostPlan(host, tuple(operations)))
        return Plan(tuple(found))

    def _change(self, plan: HostPlan, kept: Sequence[Any]) -> Iterator[None]:
        for operation in plan.changing:
            if operation.component == "runtime":
                self.bots[plan.host] = frozenset()
                if len(self.bots) > 1:
                    self.check()
                self.bots[plan.host] = self._listens(plan.host, kept)
                self.check()
                yield
            else:
                self.disk[plan.host] = uses(self._declared, plan.host)
                yield
                self.live[plan.host] = self.disk[plan.host]
                self.check()
                yield

    def check(self) -> None:
        """Assert that every nginx reaches a bot."""
        self.checks += 1
        for front in set(self.live) & set(self._declared.with_role("nginx")):
            assert any(self._reached(front, bot) for bot in self.bots), front

    def _reached(self, front: str, bot: str) -> bool:
        if bot not in self._declared.hosts:
            return False
        address = "127.0.0.1" if front == bot else self._declared.internal(bot)
        reached = former_addresses._places(self.live[front]).get(address, set())
        return bool({(port, tls) for port, tls in reached if tls or front == bot} & self.bots[bot])


# In each group the same hosts have an nginx: one that is not declared for a while is not considered.
PORTS = [{"internal_port": internal, "port": port} for internal in (8444, 9444) for port in (8080, 8090)]
GROUPS = [
    [inventory({**roles, **more}, bot=ports) for more in ({}, {"bot3": ["runtime"]}) for ports in PORTS]
    for roles in (TEAM, MIXED, {**MIXED, "bot2": ["runtime"]})
]
GROUPS.append([inventory({"bot1": BOTH}, bot=ports) for ports in PORTS])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_nginx_reaches_a_bot_during_changes_and_interrupted_runs(data: st.DataObject) -> None:
    declared = st.sampled_from(data.draw(st.sampled_from(GROUPS)))
    deployed = Deployed(data.draw(declared))
    for _ in range(data.draw(st.integers(0, 3))):
        deployed.run(data.draw(declared), kill_after=data.draw(st.integers(1, 20)))
    last = data.draw(declared)
    deployed.run(last)
    assert deployed.converged()
    assert deployed.run(last) == 0


@pytest.mark.parametrize("back", [False, True])
def test_every_nginx_reaches_a_bot_when_a_port_change_is_interrupted_anywhere(back: bool) -> None:
    steps = Deployed(OLD).run(NEW)
    assert steps > 6
    for kill_after in range(1, steps + 1):
        deployed = Deployed(OLD)
        deployed.run(NEW, kill_after=kill_after)
        deployed.run(OLD if back else NEW)
        assert deployed.converged()
        assert deployed.checks >= 4


def test_bot_left_behind_by_an_interrupted_run_changes_first() -> None:
    """Its nginx reaches the other bot at that time; that of the other one has moved and reaches no third."""
    begun, last = (inventory(MIXED, bot={"port": port, "internal_port": 9444}) for port in (8080, 8090))
    deployed = Deployed(inventory(MIXED))
    deployed.run(begun, kill_after=3)
    assert deployed.live["bot1"] == uses(begun, "bot1")
    assert [(9444, True) in deployed.bots[bot] for bot in ("bot1", "bot2")] == [True, False]
    deployed.run(last)
    assert deployed.converged()


@pytest.mark.parametrize(("moved", "behind"), [((), ()), (("web1",), ("bot1", "bot2"))])
def test_bots_that_do_not_listen_where_nginx_expects_them_are_behind(
    tmp_path: Path, moved: Sequence[str], behind: Sequence[str]
) -> None:
    session = Hosts(tmp_path, ("bot1", "bot2", "web1", "web2"), ("bot1", "bot2", "web1", "web2"))
    for front in ("web1", "web2"):
        used = uses(NEW if front in moved else OLD, front)
        session.put(front, "etc/nginx/nginx.conf", configuration(used))
    for bot in ("bot1", "bot2"):
        given = settings_for(OLD, bot)
        assert given is not None
        session.put(bot, "etc/clawd/bot.json", bot_config(given))
    found = former_addresses.lacking(session, NEW, ("bot1", "bot2", "db"))  # type: ignore[arg-type]
    assert found == tuple(behind)

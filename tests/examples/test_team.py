"""`team.yml`: six hosts, one for each part, all but one reached through the first."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Network
from typing import Any, ClassVar

import pytest

from provision.sandbox import DebianRelease, Layout
from tests.deploys.disk.attached import Attached, works
from tests.deploys.tls.acme import Authority, pebble
from tests.examples.given import SECRETS
from tests.examples.shipped import Shipped, ask_on_feishu, ask_on_telegram
from tests.platforms import feishu_at, telegram_at
from tests.standins.control import Control
from tests.standins.elastic.asking import asking
from tests.standins.elastic.build import Repository, build, serving
from tests.standins.feishu.state import Credentials
from tests.standins.outbound import Reach

pytestmark = pytest.mark.skipif(not works(), reason="needs root, and loop devices for the disks")

APP = Credentials(
    "cli_a1b2c3d4e5f6",
    SECRETS["CLAWD_FEISHU_APP_SECRET"],
    SECRETS["CLAWD_FEISHU_ENCRYPT_KEY"],
    SECRETS["CLAWD_FEISHU_VERIFICATION_TOKEN"],
)
DISK_SIZE = 64 << 30
TARGETS = """python3 -c 'import urllib.request as u
print(u.urlopen("http://127.0.0.1:9090/api/v1/targets?state=active", timeout=10).read().decode())'"""


class Team(Shipped):
    """Its six hosts, of both releases in turn."""

    NAME = "team"
    RELEASES: ClassVar[dict[str, DebianRelease]] = {
        "web1": "bookworm",
        "bot1": "trixie",
        "bot2": "bookworm",
        "db1": "trixie",
        "mon1": "bookworm",
        "log1": "trixie",
    }

    def answers_of_elasticsearch(self, path: str) -> Any:
        """What it says to `elastic`."""
        return json.loads(self.on("log1", asking("GET", path)).stdout)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """The team's hosts after one `up`: disks, authority, packages and platforms are stand-ins."""
    folder = tmp_path_factory.mktemp("team")
    subnet = IPv4Network("10.213.100.0/24")
    made = Team(folder, Layout(folder / "sandbox", bridge="clawdt", subnet=subnet, table="clawd_team"))
    with made.fresh(), ExitStack() as stack:
        enter = stack.enter_context
        disks = {
            host: enter(Attached(made.layout, made.machine(host), folder / f"{host}.img", size=DISK_SIZE))
            for host in ("db1", "log1")
        }
        (folder / "pebble").mkdir()
        acme = enter(pebble(folder / "pebble", made.here))
        (folder / "elastic").mkdir()
        elastic = build(folder / "elastic", "9.4.9")
        mirror = enter(serving(elastic.folder, made.here))
        whole = made.adapted()
        substitute(whole, made, disks, acme, elastic, mirror)
        made.write(whole)
        (name,) = whole["tls"]["names"]
        acme.change_dns("add-a", host=name, addresses=[made.address("web1")])
        reach = Reach({name: made.address("web1")}, acme.roots)
        telegram = enter(telegram_at(made.here, SECRETS["CLAWD_TELEGRAM_TOKEN"], reach))
        telegram.post(
            "chats", id=whole["monitoring"]["alerts"]["telegram_chat"], type="supergroup", title="ops"
        )
        feishu = enter(feishu_at(made.here, APP, reach))
        made.records |= {"telegram": telegram, "feishu": feishu, "name": name}
        assert all(made.up().values())
        yield made


def substitute(
    whole: Any, team: Team, disks: dict[str, Attached], acme: Authority, elastic: Repository, mirror: str
) -> None:
    """What only a team has, in the parsed example."""
    hosts, web1 = whole["hosts"], team.address("web1")
    hosts["web1"]["internal_address"] = web1
    for name in set(hosts) - {"web1"}:
        hosts[name]["bastion"]["address"] = web1
    for name, disk in disks.items():
        # `auto` passes loop devices over.
        hosts[name]["disk"]["device"] = disk.path
    networks = whole["firewall"]["management"]
    networks[networks.index("10.0.0.0/24")] = str(team.layout.subnet)
    whole["tls"]["acme"].update(server=acme.directory, authority=str(acme.ca))
    packages = {"mirror": mirror, "key": str(elastic.key), "fingerprint": elastic.fingerprint}
    whole["logs"]["packages"] = packages


def test_second_up_changes_nothing(team: Team) -> None:
    assert team.up() == {host: [] for host in team.hosts}


def test_people_on_telegram_and_feishu_are_answered_through_the_load_balancer(team: Team) -> None:
    telegram: Control = team.records["telegram"]
    feishu: Control = team.records["feishu"]
    feishu.post("webhook", url=f"https://{team.records['name']}/feishu/webhook")
    for person in range(1, 4):
        ask_on_telegram(telegram, 1000 + person)
        ask_on_feishu(feishu, f"ou_{person}")
    assert not [delivery for delivery in telegram.get("deliveries") if delivery["error"]]
    passed = team.on("web1", "cat /var/log/nginx/access.log").stdout
    assert passed.count("POST /telegram/webhook 200") == 3
    bots = {team.address(host) for host in ("bot1", "bot2")}
    assert bots <= {word.partition(":")[0] for word in passed.split()}, "one of the bots was never asked"


def test_log_lines_of_every_host_arrive_in_elasticsearch(team: Team) -> None:
    wanted = {"web1": "nginx_access", "bot1": "bot", "bot2": "bot"} | dict.fromkeys(team.hosts[3:], "audit")
    deadline = time.monotonic() + 60
    while missing := set(wanted.items()) - (found := lines_in(team)):
        assert time.monotonic() < deadline, f"missing {missing}, found {found}"
        time.sleep(1)
    print(sorted(found))


def lines_in(team: Team) -> set[tuple[str, str]]:
    """The hosts whose lines Elasticsearch has, with the kind of lines."""
    hits = team.answers_of_elasticsearch("/logs-clawd.*-default/_search")["hits"]["hits"]
    return {
        (hit["_source"]["host"]["name"], hit["_index"].removeprefix("logs-clawd.").removesuffix("-default"))
        for hit in hits
    }


def test_prometheus_scrapes_every_host(team: Team) -> None:
    targets = json.loads(team.on("mon1", TARGETS).stdout)["data"]["activeTargets"]
    seen = {(target["labels"]["job"], target["labels"]["host"]): target["health"] for target in targets}
    print(sorted(seen))
    assert set(seen.values()) == {"up"}
    assert {host for job, host in seen if job == "node"} == set(team.hosts)
    assert {host for job, host in seen if job in {"clawd-bot", "clawd-engine"}} == {"bot1", "bot2"}
    assert {("nginx", "web1"), ("front", "web1"), ("postgres", "db1"), ("prometheus", "mon1")} <= set(seen)


def test_data_folders_are_on_the_data_disks(team: Team) -> None:
    for host, folder in (("db1", "/var/lib/postgresql"), ("log1", "/var/lib/elasticsearch")):
        source = team.on(host, f"findmnt -no SOURCE --target {folder}").stdout
        assert source.startswith("/dev/loop"), f"{host}: {source}"


def test_verify_passes_and_plan_has_no_changes(team: Team) -> None:
    team.check()

"""A new authority signs the certificates of every deployment in one `up`, and hosts never refuse each other.

People write slowly: on a busy machine bots are late, which says nothing about certificates.
"""

from __future__ import annotations

import time
from collections import Counter

import pytest

from tests.cluster.deployment import ROLES, Cluster, People
from tests.standins.control import Control

DEPLOYMENTS = {
    "bots and a database behind an nginx": ROLES,
    "several nginx hosts, each with a bot": {
        "front": "nginx",
        "app1": "runtime, nginx",
        "app2": "runtime, nginx",
        "data": "database",
    },
    "one bot behind two nginx hosts": {"front": "nginx", "app1": "nginx", "app2": "runtime"},
}
TRUSTED = "cat /etc/clawd/authority.pem /etc/clawd/*/ca.pem 2>/dev/null | grep -c BEGIN || true"
REFUSED = "grep -iE 'certificate|handshake failure|SSL alert' /var/log/nginx/error.log || true"
FILES = "ls /etc/clawd/authority.pem /etc/clawd/*/ca.pem 2>/dev/null | wc -l"


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_rotation_completes_in_one_up_and_hosts_never_refuse_each_other(
    deployed: Cluster, telegram: Control, name: str
) -> None:
    roles = DEPLOYMENTS[name]
    fronts = [host for host, of in roles.items() if "nginx" in of]
    deployed.inventory(roles=roles)
    deployed.json("up", "-i", "e2e", "--yes")
    ca = deployed.authority.parent
    before = deployed.authority.read_bytes()
    former = ca.with_name(f"ca.{len(list(ca.parent.glob('ca*')))}")
    ca.rename(former)
    # Feishu trusts public authorities only; Telegram what the bot uploads.
    with People(telegram, None, name=f"rotation-{former.name}", pause=0.5) as people:
        people.wait_for(20, 60)
        printed = deployed.json("up", "-i", "e2e", "--yes")
        people.wait_for(len(people.asked) + 20, 60)
    assert deployed.authority.read_bytes() != before
    assert printed["verification"]["failed"] == 0
    changed = {host["host"]: host["changed"] for host in printed["result"]["hosts"]}
    certificates = {host: sum("Certificate for" in line for line in changed[host]) for host in roles}
    assert all(certificates.values()), changed
    for host in roles:
        assert deployed.on(host, TRUSTED).stdout.split() == deployed.on(host, FILES).stdout.split(), host
    expect_all_answered(people)
    assert [error for error in people.failed_deliveries() if "SSL" in error] == []
    assert {host: deployed.on(host, REFUSED).stdout for host in fronts} == dict.fromkeys(fronts, "")
    assert deployed.json("plan", "-i", "e2e")["plan"]["changes"] == 0


def test_rotation_with_limit_waits_for_the_other_hosts(deployed: Cluster) -> None:
    roles = DEPLOYMENTS["one bot behind two nginx hosts"]
    deployed.inventory(roles=roles)
    deployed.json("up", "-i", "e2e", "--yes")
    serial = "openssl x509 -noout -serial -in /etc/clawd/bot-internal/fullchain.pem"
    before = deployed.on("app2", serial).stdout
    deployed.authority.parent.rename(deployed.authority.parent.with_name("ca.limited"))
    part = deployed.json("up", "-i", "e2e", "--yes", "--no-verify", "--limit", "app1", expect=2)
    assert "a former authority is still trusted" in part["message"]
    assert "for all hosts" in part["message"]
    assert deployed.on("app2", serial).stdout == before
    assert "a former authority is still trusted" in deployed.json("plan", "-i", "e2e", expect=2)["message"]
    deployed.json("up", "-i", "e2e", "--yes")
    assert deployed.on("app2", serial).stdout != before
    assert deployed.json("plan", "-i", "e2e")["plan"]["changes"] == 0


def expect_all_answered(people: People) -> None:
    """Assert that every message was answered once."""
    deadline = time.monotonic() + 300
    while sum(people.answers().values()) < len(people.asked) and time.monotonic() < deadline:
        time.sleep(1)
    assert people.answers() == Counter(dict.fromkeys(people.asked, 1))

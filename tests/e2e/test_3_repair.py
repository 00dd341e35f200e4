"""What is wrong on a host is found by `verify` and `drift`, and repaired by `up`, and nothing else is."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import pytest

from tests.e2e.deployment import World


@dataclass(frozen=True)
class Damage:
    """A change by hand on a host, what `verify` reports, and all that `up` may do about it."""

    done: str
    component: str
    named: str
    repaired: frozenset[str]


def damage(done: str, component: str, named: str, *repaired: str) -> Damage:
    return Damage(done, component, named, frozenset(repaired))


KEY, SSHD = "/etc/clawd/secrets/telegram-token", "/etc/ssh/sshd_config.d/10-clawd.conf"
DAMAGES = (
    damage("systemctl stop clawd-bot", "runtime", "bot", "runtime: Service clawd-bot"),
    damage("systemctl stop nginx", "nginx", "nginx", "nginx: Service nginx"),
    damage("systemctl stop clawd-engine", "runtime", "engine", "runtime: Service clawd-engine"),
    damage(
        "echo '# by hand' >>/etc/nginx/nginx.conf",
        "nginx",
        "nginx.conf",
        "nginx: Write /etc/nginx/nginx.conf",
        "nginx: Service nginx",
    ),
    damage(f"chmod 644 {KEY}", "runtime", "secret", f"runtime: Write {KEY}", "runtime: Service clawd-bot"),
    damage(
        "nft add rule inet clawd input tcp dport 9999 accept", "firewall", "rules", "firewall: Rules in force"
    ),
    damage(
        "rm /var/lib/clawd/models/*.gguf", "model", "model", "model: Push", "runtime: Service clawd-engine"
    ),
    damage(f"rm {SSHD}", "base", "ssh", f"base: Write {SSHD}", "base: Service ssh"),
)


@pytest.mark.parametrize("number", range(len(DAMAGES)), ids=[item.done for item in DAMAGES])
def test_verify_and_drift_report_damage_and_up_repairs_only_that(deployed: World, number: int) -> None:
    """One on the one host and another on the other; over all rounds each of them on both releases."""
    wrong = {"bot1": DAMAGES[number], "bot2": DAMAGES[number - 1]}
    for host, item in wrong.items():
        deployed.on(host, item.done)
    verified = deployed.json("verify", "-i", "e2e", expect=1)["verification"]
    drifted = deployed.json("drift", "-i", "e2e", expect=3)
    document = deployed.json("up", "-i", "e2e", "--yes")
    for host, item in wrong.items():
        failed = [
            check for check in verified["checks"] if check["host"] == host and check["outcome"] != "passed"
        ]
        assert item.component in {check["component"] for check in failed}
        assert item.named in str([check["name"] + check["message"] for check in failed])
        assert host in drifted["message"]
    changed = {
        host["host"]: frozenset(re.sub("(: Push) .*", r"\1", line) for line in host["changed"])
        for host in document["result"]["hosts"]
    }
    assert changed == {host: item.repaired for host, item in wrong.items()}
    assert document["verification"]["failed"] == 0
    assert deployed.json("plan", "-i", "e2e")["plan"]["changes"] == 0


def test_services_run_again_after_a_reboot(deployed: World) -> None:
    def boot_time() -> str:
        return deployed.on("bot2", 'cut -d" " -f22 /proc/1/stat', check=False).stdout

    before = boot_time()
    deployed.on("bot2", "systemctl reboot", check=False)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        again = deployed.on("bot2", "systemctl is-active clawd-bot nginx nftables", check=False)
        if again.stdout.split() == ["active"] * 3 and boot_time() != before:
            break
        time.sleep(1)
    assert boot_time() not in {before, ""}, "it did not reboot"
    assert deployed.json("verify", "-i", "e2e")["verification"]["failed"] == 0
    assert deployed.json("plan", "-i", "e2e")["plan"]["changes"] == 0


def test_changed_inventory_is_pending_and_not_drift(deployed: World) -> None:
    bot = "bot: {system_prompt: Answer in five words., max_reply_tokens: 40}"
    deployed.inventory(replacing={"bot": bot})
    try:
        document = deployed.json("drift", "-i", "e2e", expect=2)
        assert "another inventory" in document["message"]
        planned = deployed.json("plan", "-i", "e2e", expect=2)["plan"]
        lines = str(planned)
        assert "+" in lines
        assert "five words" in lines
        names = {op["component"] for host in planned["hosts"] for op in host["operations"]}
        assert names == {"runtime"}
        engine = deployed.on("bot1", "systemctl show -p MainPID --value clawd-engine").stdout
        deployed.json("up", "-i", "e2e", "--yes")
        assert deployed.on("bot1", "systemctl show -p MainPID --value clawd-engine").stdout == engine
    finally:
        deployed.inventory()
        deployed.json("up", "-i", "e2e", "--yes")

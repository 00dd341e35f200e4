"""What is wrong on a host is found by `verify` and `drift`, and repaired by `up`, and nothing else is."""

from __future__ import annotations

import time

import pytest

from tests.e2e.world import World

DAMAGE = [
    ("runtime", "systemctl stop clawd-bot", {"runtime"}, "bot"),
    ("runtime", "systemctl stop clawd-engine", {"runtime"}, "engine"),
    ("nginx", "systemctl stop nginx", {"nginx"}, "nginx"),
    ("nginx", "echo \"# by hand\" >>/etc/nginx/nginx.conf", {"nginx"}, "nginx.conf"),
    ("firewall", "nft add rule inet clawd input tcp dport 9999 accept", {"firewall"}, ""),
    ("base", "rm /etc/ssh/sshd_config.d/10-clawd.conf", {"base"}, "ssh"),
    ("runtime", "chmod 644 /etc/clawd/secrets/telegram-token", {"runtime"}, "secret"),
    ("model", "rm /var/lib/clawd/models/*.gguf", {"model", "runtime"}, "model"),
]  # fmt: skip


@pytest.mark.parametrize(("component", "damage", "repaired", "named"), DAMAGE, ids=[row[1] for row in DAMAGE])
def test_damage_is_named_found_and_repaired(
    deployed: World, component: str, damage: str, repaired: set[str], named: str
) -> None:
    deployed.on("bot1", damage)
    verified = deployed.json("verify", "-i", "e2e", expect=1)["verification"]
    failed = [check for check in verified["checks"] if check["outcome"] != "passed"]
    assert {check["host"] for check in failed} == {"bot1"}
    assert component in {check["component"] for check in failed}
    assert named in str([check["name"] + check["message"] for check in failed])
    drifted = deployed.json("drift", "-i", "e2e", expect=3)
    assert "bot1" in drifted["message"]
    told = deployed.json("up", "-i", "e2e", "--yes")
    changed = {
        host["host"]: {line.split(":")[0] for line in host["changed"]} for host in told["result"]["hosts"]
    }
    assert changed["bot2"] == set()
    assert component in changed["bot1"]
    assert changed["bot1"] <= repaired
    assert deployed.json("plan", "-i", "e2e")["plan"]["changes"] == 0


def test_after_a_reboot_everything_serves_again(deployed: World) -> None:
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


def test_a_change_of_the_inventory_is_pending_and_not_drift(deployed: World) -> None:
    bot = "bot: {system_prompt: Answer in five words., max_reply_tokens: 40}"
    deployed.inventory(replacing={"bot": bot})
    try:
        told = deployed.json("drift", "-i", "e2e", expect=2)
        assert "another inventory" in told["message"]
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

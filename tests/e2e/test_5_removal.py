"""What the inventory no longer names goes, with nothing of it left but data; a whole host is made bare."""

from __future__ import annotations

from tests.e2e.deployment import World
from tests.host_snapshot import differences


def test_dropped_role_is_removed_and_its_data_is_kept(deployed: World) -> None:
    hosts = "".join(
        f"  {host}: {{address: {deployed.address(host)}, user: operator, ssh_key: {deployed.layout.key}, "
        f"roles: [{roles}]}}\n"
        for host, roles in (("bot1", "runtime, nginx"), ("bot2", "nginx"))
    )
    deployed.inventory("dropped", replacing={"hosts": f"hosts:\n{hosts}"})
    planned = deployed.json("plan", "-i", "dropped", expect=2)["plan"]["hosts"]
    removed = {
        host["host"]: {op["component"] for op in host["operations"] if op["removes"]} for host in planned
    }
    assert removed == {"bot1": set(), "bot2": {"runtime", "model"}}
    deployed.json("up", "-i", "dropped", "--yes")
    for path in ("/opt/clawd/releases", "/etc/clawd/bot.json", "/etc/systemd/system/clawd-bot.service"):
        assert deployed.on("bot2", f"test -e {path}", check=False).returncode != 0, path
    assert deployed.on("bot2", "test -s /var/lib/clawd-bot/bot.db", check=False).returncode == 0
    assert deployed.on("bot2", "ss -Hltn sport = :8080").stdout == ""
    assert deployed.json("verify", "-i", "dropped")["verification"]["failed"] == 0
    assert deployed.json("plan", "-i", "dropped")["plan"]["changes"] == 0
    deployed.json("up", "-i", "e2e", "--yes")
    assert deployed.json("plan", "-i", "e2e")["plan"]["changes"] == 0


def test_remove_with_purge_restores_the_bare_host(deployed: World) -> None:
    document = deployed.json("remove", "-i", "e2e", "--limit", "bot2", "--purge", "--yes")
    assert document["result"]["succeeded"]
    assert differences(deployed.records["bare"], deployed.look("bot2")) == set()
    again = deployed.json("remove", "-i", "e2e", "--limit", "bot2", "--yes")
    assert again["plan"]["changes"] == 0

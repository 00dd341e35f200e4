"""A run of a part of the inventory, a run that is declined, and runs that are killed."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time

from tests.e2e.deployment import World

NGINX, BANNER = "/etc/nginx/nginx.conf", "/etc/clawd/banner"


def by_hand(world: World, host: str, file: str) -> None:
    world.on(host, f"echo '# by hand' >>{file}")


def is_by_hand(world: World, host: str, file: str) -> bool:
    return "# by hand" in world.on(host, f"cat {file}").stdout


def test_limit_and_tags_change_only_selected_hosts_and_components(deployed: World) -> None:
    by_hand(deployed, "bot1", NGINX)
    by_hand(deployed, "bot2", NGINX)
    by_hand(deployed, "bot1", BANNER)
    document = deployed.json("up", "-i", "e2e", "--yes", "--limit", "bot1", "--tags", "nginx")
    (host,) = document["result"]["hosts"]
    assert (host["host"], set(host["changed"])) == ("bot1", {f"nginx: Write {NGINX}", "nginx: Service nginx"})
    assert not is_by_hand(deployed, "bot1", NGINX)
    assert is_by_hand(deployed, "bot2", NGINX)
    assert is_by_hand(deployed, "bot1", BANNER)
    quick = deployed.json("up", "-i", "e2e", "--yes", "--no-verify")
    assert quick["verification"] is None
    assert {host["host"] for host in quick["result"]["hosts"] if host["changed"]} == {"bot1", "bot2"}
    unverified = deployed.json("plan", "-i", "e2e", expect=2)
    assert unverified["plan"]["changes"] == 0
    assert "not verified since the last change" in unverified["message"]
    assert deployed.json("up", "-i", "e2e", "--yes")["result"]["changed"] == 0
    deployed.json("plan", "-i", "e2e")


def test_unreachable_host_is_skipped_with_skip_unreachable(deployed: World) -> None:
    reached = {"bot1": deployed.address("bot1"), "gone": str(deployed.layout.subnet[99])}
    key = deployed.layout.key
    lines = [f"  {name}: {{address: {at}, user: operator, ssh_key: {key}}}" for name, at in reached.items()]
    file = deployed.inventory("partly", replacing={"hosts": "\n".join(["hosts:", *lines])})
    by_hand(deployed, "bot1", BANNER)
    try:
        stopped = deployed.json("up", "-i", "partly", "--yes", "--tags", "hardening", expect=1)
        assert "gone" in str(stopped)
        assert is_by_hand(deployed, "bot1", BANNER)
        document = deployed.json(
            "up", "-i", "partly", "--yes", "--tags", "hardening", "--skip-unreachable", expect=1
        )
        assert list(document["unreachable"]) == ["gone"]
        assert not is_by_hand(deployed, "bot1", BANNER)
    finally:
        file.unlink()


def test_declined_plan_changes_nothing(deployed: World) -> None:
    by_hand(deployed, "bot1", BANNER)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(deployed.program / "cli.py"), "up", "-i", "e2e", "--tags", "hardening"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=deployed.folder,
        env={**os.environ, "XDG_STATE_HOME": str(deployed.folder / "state"), "HOME": str(deployed.folder)},
    )
    assert process.stderr
    said = ""
    deadline = time.monotonic() + 60
    while "changes? [y/N]" not in said and time.monotonic() < deadline:
        if select.select([process.stderr], [], [], 1)[0]:
            said += os.read(process.stderr.fileno(), 4096).decode()
    assert "changes? [y/N]" in said
    os.write(ours, b"n\n")
    printed, _ = process.communicate(timeout=30)
    os.close(ours)
    os.close(theirs)
    assert "nothing was changed" in printed
    assert process.returncode == 2
    assert is_by_hand(deployed, "bot1", BANNER)
    deployed.json("up", "-i", "e2e", "--yes")


def test_killed_up_leaves_no_lock_and_next_up_completes(deployed: World) -> None:
    by_hand(deployed, "bot1", NGINX)
    by_hand(deployed, "bot1", BANNER)
    process = deployed.start("up", "-i", "e2e", "--yes", "--verbose")
    assert process.stderr
    for line in process.stderr:
        if "bot1: hardening: Write" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    document = deployed.json("up", "-i", "e2e", "--yes")
    assert f"nginx: Write {NGINX}" in {
        line for host in document["result"]["hosts"] for line in host["changed"]
    }
    assert deployed.json("plan", "-i", "e2e")["plan"]["changes"] == 0

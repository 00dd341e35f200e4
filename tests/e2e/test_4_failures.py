"""What can go wrong during a run is reported, changes nothing it should not, and the next run completes."""

from __future__ import annotations

import shutil
import subprocess

from tests.e2e.deployment import World


def test_unreachable_host_stops_up_before_any_change(deployed: World) -> None:
    hosts = "hosts:\n" + "".join(
        f"  {name}: {{address: {address}, user: operator, ssh_key: {deployed.layout.key}}}\n"
        for name, address in (("bot1", deployed.address("bot1")), ("gone", str(deployed.layout.subnet[99])))
    )
    deployed.inventory("gone", replacing={"hosts": hosts})
    done = deployed.run("up", "-i", "gone", "--yes")
    assert done.returncode == 1
    assert "gone" in done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot be reached" in done.stderr or "not known" in done.stderr


def test_changed_host_key_stops_up(deployed: World) -> None:
    file = deployed.inventory("imposter", hosts=("bot1",))
    other = deployed.folder / "other_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    key = " ".join(other.with_suffix(".pub").read_text().split()[:2])
    text = file.read_text()
    file.write_text(text.replace("user: operator,", f"user: operator, host_key: {key},"))
    done = deployed.run("up", "-i", "imposter", "--yes")
    assert done.returncode == 1
    assert "another host key" in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_host_key_stops_up(deployed: World) -> None:
    empty = deployed.folder / "no_known_hosts"
    empty.touch()
    file = deployed.inventory("stranger", hosts=("bot1",))
    file.write_text(file.read_text().replace(str(deployed.layout.known_hosts), str(empty)))
    done = deployed.run("up", "-i", "stranger", "--yes")
    assert done.returncode == 1
    assert "host key is not known" in done.stderr
    assert "ssh-keyscan" in done.stderr


def test_second_laptop_without_state_folder_is_refused_with_what_to_copy(deployed: World) -> None:
    state = deployed.folder / "inventory" / ".clawd"
    state.rename(deployed.folder / "first-laptop")
    try:
        for command in (("plan",), ("up", "--yes"), ("remove", "--yes")):
            done = deployed.run(*command, "-i", "e2e")
            assert done.returncode == 1
            assert "bot1: it belongs to the project e2e, which" in done.stderr
            assert "copy the folder .clawd/e2e (project.json and ca/) from" in done.stderr
        assert not (state / "e2e" / "ca").exists(), "no second authority was made"
    finally:
        shutil.rmtree(state, ignore_errors=True)
        (deployed.folder / "first-laptop").rename(state)
    assert deployed.json("plan", "-i", "e2e")["plan"]["changes"] == 0


def test_too_little_disk_space_stops_up_before_any_change(deployed: World) -> None:
    deployed.on("bot1", "mount -t tmpfs -o size=30m tmpfs /var/lib/clawd")
    try:
        done = deployed.run("up", "-i", "e2e", "--yes")
        assert done.returncode == 1
        assert "bot1: not enough free space" in done.stderr
        assert "30 MB free" in done.stderr or "29 MB free" in done.stderr
    finally:
        deployed.on("bot1", "umount /var/lib/clawd")
    assert deployed.json("plan", "-i", "e2e")["plan"]["changes"] == 0


def test_too_little_disk_space_for_a_release_stops_up_before_the_push(deployed: World) -> None:
    deployed.on("bot1", "mount -t tmpfs -o size=8m tmpfs /opt/clawd")
    try:
        done = deployed.run("up", "-i", "e2e", "--yes")
        assert done.returncode == 1
        assert "bot1: a release of clawd-runtime" in done.stderr
        assert "only 8 MiB are free" in done.stderr
    finally:
        deployed.on("bot1", "umount /opt/clawd")
    assert deployed.json("plan", "-i", "e2e")["plan"]["changes"] == 0


def test_full_disk_during_up_is_reported_and_next_up_completes(deployed: World) -> None:
    # Enough bytes to begin with, but after fifty files there is no space left.
    deployed.on("bot1", "mount -t tmpfs -o size=2g,nr_inodes=50 tmpfs /opt/clawd")
    try:
        done = deployed.run("up", "-i", "e2e", "--yes")
        assert done.returncode in {1, 4}
        assert "bot1" in done.stdout
        assert "No space left on device" in done.stdout
        assert "free disk space on the host" in done.stdout
    finally:
        deployed.on("bot1", "umount /opt/clawd")
    deployed.json("up", "-i", "e2e", "--yes")
    assert deployed.json("plan", "-i", "e2e")["plan"]["changes"] == 0


def test_configuration_refused_by_nginx_does_not_go_live(deployed: World) -> None:
    broken = deployed.folder / "templates" / "nginx" / "nginx.conf"
    broken.parent.mkdir(parents=True)
    broken.write_text("this is no nginx configuration;\n")
    try:
        done = deployed.run("up", "-i", "e2e", "--yes")
        assert done.returncode == 1
        assert "unknown directive" in done.stdout
        assert deployed.on("bot1", "systemctl is-active nginx").stdout.strip() == "active"
        assert deployed.on("bot1", "nginx -t", check=False).returncode == 0
    finally:
        broken.unlink()
    # Nothing would change, but the run ended before it could be verified.
    assert deployed.json("plan", "-i", "e2e", expect=2)["plan"]["changes"] == 0
    deployed.json("up", "-i", "e2e", "--yes")


def test_release_that_does_not_start_is_rolled_back(deployed: World) -> None:
    broken = deployed.folder / "templates" / "runtime" / "clawd-bot.service"
    broken.parent.mkdir(parents=True, exist_ok=True)
    broken.write_text("[Service]\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n")
    before = deployed.on("bot1", "cat /etc/systemd/system/clawd-bot.service").stdout
    try:
        document = deployed.json("up", "-i", "e2e", "--yes", expect=4)
        assert [host["status"] for host in document["result"]["hosts"]] == ["rolled back", "not begun"]
        for host in deployed.hosts:
            assert deployed.on(host, "systemctl is-active clawd-bot").stdout.strip() == "active"
        assert deployed.on("bot1", "cat /etc/systemd/system/clawd-bot.service").stdout == before
        mode = deployed.on("bot1", "stat -c '%U %a' /var/lib/clawd/state/runtime.good.tar").stdout
        assert mode.split() == ["root", "600"]
    finally:
        broken.unlink()
    deployed.json("up", "-i", "e2e", "--yes")
    assert deployed.json("plan", "-i", "e2e")["plan"]["changes"] == 0


def test_host_without_internet_installs_packages_through_the_laptop(deployed: World) -> None:
    file = deployed.inventory("offline", hosts=("bot2",), replacing={"base": "base: {packages: [hello]}"})
    deployed.on("bot2", "ip route del default")
    try:
        done = deployed.run("up", "-i", "offline", "--yes")
        assert done.returncode == 1
        assert "set `internet: false`" in done.stdout
        file.write_text(file.read_text().replace("user: operator,", "user: operator, internet: false,"))
        document = deployed.json("up", "-i", "offline", "--yes")
        assert document["result"]["hosts"][0]["changed"]
        assert deployed.on("bot2", "hello").stdout.strip() == "Hello, world!"
    finally:
        deployed.on("bot2", f"ip route add default via {deployed.layout.machine_address}")

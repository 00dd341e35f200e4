"""Engine and bot in containers on real hosts, by the whole program: from bare hosts to bare hosts again.

With the real model. Takes minutes, hence a campaign; CLAWD_TEST_MODEL names the GGUF file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import jwt
import pytest

from deploys.ops.files import TEMPLATES
from tests.e2e.world import World
from tests.hosts import beside, on_hosts, until

pytestmark = on_hosts(pytest.mark.campaign, seconds=1500)

HOSTS = tuple(World.RELEASES)
READY = (
    "python3 -c 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:8080/readyz\", timeout=5).read()'"
)
ASK = """python3 - <<'END'
import json, urllib.request
body = json.dumps({{"text": {text!r}, "conversation": "c", "id": {text!r}}}).encode()
headers = {{"Authorization": "Bearer {token}", "Content-Type": "application/json"}}
request = urllib.request.Request("http://127.0.0.1:8080/console/v1/messages", body, headers)
print(urllib.request.urlopen(request, timeout=90).read().decode())
END"""
ROWS = """python3 -c 'import sqlite3
tables = sqlite3.connect("/var/lib/clawd-bot/bot.db")
print(tables.execute("select count(*) from inbox").fetchone()[0])'"""
RUNNING = "docker ps --no-trunc --format '{{.Names}} {{.ID}}' | sort"
PIDS = "systemctl show --property MainPID --value clawd-bot clawd-engine"
IMAGES = "docker images --format '{{.Repository}}' | sort"


class InContainers(World):
    """Two hosts whose bots run in containers, or not."""

    def declared(self, run_with: str, **more: str) -> None:
        secret = self.layout.secrets / "console-jwt-secret"
        channels = f"channels: {{console: {{jwt_secret: !file {secret}}}}}"
        runtime = f"runtime: {{run_with: {run_with}}}"
        self.inventory(hosts=HOSTS, replacing={"channels": channels, "runtime": runtime, **more})

    def up(self, expect: int = 0) -> dict[str, set[str]]:
        """What changed, by host; afterwards nothing is left to change and every check passes."""
        told = self.json("up", "-i", "e2e", "--yes", expect=expect)
        if expect == 0:
            assert self.json("plan", "-i", "e2e")["plan"]["changes"] == 0
            verified = self.json("verify", "-i", "e2e")["verification"]
            assert verified["failed"] == 0
        return {host["host"]: set(host["changed"]) for host in told["result"]["hosts"]}

    def say(self, host: str, command: str, *, check: bool = True) -> str:
        return self.on(host, command, check=check).stdout.strip()

    def ask(self, host: str, text: str) -> str:
        """What the bot answers on its console."""
        now = int(time.time())
        claims = {"sub": "somebody", "iat": now, "exp": now + 300}
        token = jwt.encode(claims, self.secret("console-jwt-secret"), algorithm="HS256")
        events = self.say(host, ASK.format(text=text, token=token))
        assert "event: done" in events, events
        return str(json.loads(events.strip().rpartition("data: ")[2])["text"])

    def until_ready(self, host: str) -> None:
        until(lambda: self.on(host, READY, check=False).returncode == 0, seconds=60)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InContainers]:
    folder = tmp_path_factory.mktemp("operator")
    with InContainers(folder, beside(folder / "sandbox", "cldo", 91)).fresh() as made:
        made.declared("docker")
        made.up()
        yield made


@pytest.fixture(params=HOSTS, ids=list(World.RELEASES.values()))
def host(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_a_bot_in_a_container_answers_with_the_real_model(made: InContainers, host: str) -> None:
    made.until_ready(host)
    assert made.ask(host, "Say hello.")
    assert [line.split()[0] for line in made.say(host, RUNNING).splitlines()] == ["clawd-bot", "clawd-engine"]
    assert "listening on" in made.say(host, "journalctl -u clawd-bot --no-pager")


def test_memory_limits_are_in_force(made: InContainers, host: str) -> None:
    greedy = "docker exec clawd-bot python3 -c 'bytearray(600 << 20)'"
    assert made.on(host, greedy, check=False).returncode == 137
    made.until_ready(host)


def test_nothing_can_be_written_but_the_bots_own_folder(made: InContainers, host: str) -> None:
    touch = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"
    outcome = {
        path: made.on(host, f"docker exec clawd-bot python3 -c '{touch}' {path}", check=False).returncode
        for path in ("/opt/x", "/etc/clawd/x", "/run/clawd-engine/x", "/var/lib/clawd-bot/x", "/tmp/x")
    }
    assert [path for path, code in outcome.items() if code == 0] == ["/var/lib/clawd-bot/x", "/tmp/x"]
    secret = "docker exec clawd-bot python3 -c 'open(\"/etc/clawd/secrets/console-jwt-secret\")'"
    assert "PermissionError" in made.on(host, secret, check=False).stderr


def test_containers_outlive_a_new_start_of_the_engine(made: InContainers, host: str) -> None:
    before = made.say(host, RUNNING), made.say(host, PIDS)
    made.say(host, "systemctl restart docker; sleep 2")
    assert (made.say(host, RUNNING), made.say(host, PIDS)) == before
    made.say(host, "systemctl stop docker.socket docker; sleep 2")
    made.say(host, READY)
    made.say(host, "systemctl start docker")
    assert (made.say(host, RUNNING), made.say(host, PIDS)) == before


def test_a_container_that_is_killed_is_started_anew(made: InContainers, host: str) -> None:
    made.say(host, "docker kill clawd-bot; docker kill clawd-engine")
    made.until_ready(host)
    made.say(host, f"kill -9 $({PIDS} | head -n 1)")
    time.sleep(1)
    made.until_ready(host)
    assert made.say(host, "docker ps --all --quiet | wc -l") == "2"


def test_a_stop_is_in_order(made: InContainers, host: str) -> None:
    made.say(host, "systemctl stop clawd-bot clawd-engine")
    assert made.say(host, "systemctl is-failed clawd-bot clawd-engine", check=False) == "inactive\ninactive"
    assert made.say(host, "docker ps --all --quiet") == ""
    made.say(host, "systemctl start clawd-engine clawd-bot")
    made.until_ready(host)


def test_a_missing_image_is_named_and_made_again(made: InContainers) -> None:
    made.say("bot1", "systemctl stop clawd-bot clawd-engine; docker rmi -f $(docker images -q clawd-runtime)")
    assert made.json("verify", "-i", "e2e", expect=1)["verification"]["failed"]
    changed = made.up()
    assert changed["bot2"] == set()
    assert any("Image clawd-runtime:" in line for line in changed["bot1"])


def test_a_reboot(made: InContainers, host: str) -> None:
    boot = "cat /proc/sys/kernel/random/boot_id; cut -d' ' -f22 /proc/1/stat"
    before, started = made.say(host, boot), time.monotonic()
    made.on(host, "systemctl reboot", check=False)
    until(lambda: made.say(host, boot, check=False) not in {before, ""}, seconds=120)
    print(f"{host} is back after {time.monotonic() - started:.0f} s")
    made.until_ready(host)
    assert made.ask(host, "Say hello after the reboot.")


def test_a_release_that_does_not_come_up_is_put_back(made: InContainers) -> None:
    before = {host: made.say(host, "readlink /opt/clawd/current") for host in HOSTS}
    broken = made.folder / "templates/runtime/clawd-bot.service"
    broken.parent.mkdir(parents=True)
    text = (TEMPLATES / "runtime/clawd-bot.service").read_text()
    broken.write_text(text.replace("clawd_runtime.bot", "clawd_runtime.bott"))
    made.declared("systemd")
    made.up(expect=4)
    broken.unlink()
    for host in HOSTS:
        made.until_ready(host)
        assert made.say(host, "readlink /opt/clawd/current") == before[host]
    made.declared("docker")
    made.up()


def test_out_of_containers_and_back(made: InContainers) -> None:
    rows = {host: int(made.say(host, ROWS)) for host in HOSTS}
    assert min(rows.values()) >= 2
    made.declared("systemd")
    made.up()
    for host in HOSTS:
        assert made.on(host, "command -v docker", check=False).returncode != 0
        assert made.say(host, "pgrep -fc clawd_runtime.engine") == "1"
        assert int(made.say(host, ROWS)) == rows[host]
        assert made.ask(host, "Say hello, out of the container.")
    made.declared("docker")
    made.up()
    for host in HOSTS:
        assert made.say(host, "pgrep -fc 'python3 .*start.py clawd_runtime.engine'") == "2", "init and itself"
        assert int(made.say(host, ROWS)) == rows[host] + 1
        assert made.ask(host, "Say hello, in the container again.")

"""Engine and bot in containers on real hosts, by the whole program.

With the real model. Takes minutes, hence a campaign; CLAWD_TEST_MODEL names the GGUF file.
"""

from __future__ import annotations

import itertools
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Self

import pytest

from deploys.ops.paths.files import TEMPLATES
from tests.deploys.runtime.containers import READY, InContainers, telegram_apart
from tests.e2e.deployment import World
from tests.hosts import layout_next_to, on_hosts, until
from tests.standins.control import Control

pytestmark = on_hosts(pytest.mark.campaign, seconds=1500)

HOSTS = tuple(World.RELEASES)
MESSAGES = """python3 -c 'import sqlite3
tables = sqlite3.connect("/var/lib/clawd-bot/bot.db")
print(*(row[0] for row in tables.execute("select seq from inbox")))'"""
RUNNING = "docker ps --no-trunc --format '{{.Names}} {{.ID}}' | sort"
PIDS = "systemctl show --property MainPID --value clawd-bot clawd-engine"
IMAGES = "docker images --format '{{.Repository}}' | sort"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InContainers]:
    folder = tmp_path_factory.mktemp("operator")
    with InContainers(folder, layout_next_to(folder / "sandbox", "cldo", 91)).fresh() as made:
        made.declared("docker")
        made.up()
        yield made


@pytest.fixture(params=HOSTS, ids=list(World.RELEASES.values()))
def host(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_bot_in_a_container_answers_with_the_real_model(made: InContainers, host: str) -> None:
    made.until_ready(host)
    assert made.ask(host, "Say hello.")
    assert [line.split()[0] for line in made.say(host, RUNNING).splitlines()] == ["clawd-bot", "clawd-engine"]
    assert "listening on" in made.say(host, "journalctl --namespace=clawd-bot -u clawd-bot --no-pager")


def test_memory_limit_of_a_container_is_enforced(made: InContainers, host: str) -> None:
    greedy = "docker exec clawd-bot python3 -c 'bytearray(600 << 20)'"
    assert made.on(host, greedy, check=False).returncode == 137
    made.until_ready(host)


def test_container_can_write_only_its_own_folder(made: InContainers, host: str) -> None:
    touch = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"
    outcome = {
        path: made.on(host, f"docker exec clawd-bot python3 -c '{touch}' {path}", check=False).returncode
        for path in ("/opt/x", "/etc/clawd/x", "/run/clawd-engine/x", "/var/lib/clawd-bot/x", "/tmp/x")
    }
    assert [path for path, code in outcome.items() if code == 0] == ["/var/lib/clawd-bot/x", "/tmp/x"]
    secret = "docker exec clawd-bot python3 -c 'open(\"/etc/clawd/secrets/console-jwt-secret\")'"
    assert "PermissionError" in made.on(host, secret, check=False).stderr


def test_containers_survive_a_restart_of_the_docker_engine(made: InContainers, host: str) -> None:
    before = made.say(host, RUNNING), made.say(host, PIDS)
    made.say(host, "systemctl restart docker; sleep 2")
    assert (made.say(host, RUNNING), made.say(host, PIDS)) == before
    made.say(host, "systemctl stop docker.socket docker; sleep 2")
    made.say(host, READY)
    made.say(host, "systemctl start docker")
    assert (made.say(host, RUNNING), made.say(host, PIDS)) == before


def test_killed_container_is_restarted(made: InContainers, host: str) -> None:
    made.say(host, "docker kill clawd-bot; docker kill clawd-engine")
    made.until_ready(host)
    made.say(host, f"kill -9 $({PIDS} | head -n 1)")
    time.sleep(1)
    made.until_ready(host)
    assert made.say(host, "docker ps --all --quiet | wc -l") == "2"


def test_stop_of_the_service_removes_the_container(made: InContainers, host: str) -> None:
    made.say(host, "systemctl stop clawd-bot clawd-engine")
    assert made.say(host, "systemctl is-failed clawd-bot clawd-engine", check=False) == "inactive\ninactive"
    assert made.say(host, "docker ps --all --quiet") == ""
    made.say(host, "systemctl start clawd-engine clawd-bot")
    made.until_ready(host)


def test_missing_image_is_reported_and_built_again(made: InContainers) -> None:
    made.say("bot1", "systemctl stop clawd-bot clawd-engine; docker rmi -f $(docker images -q clawd-runtime)")
    assert made.json("verify", "-i", "e2e", expect=1)["verification"]["failed"]
    changed = made.up()
    assert changed["bot2"] == set()
    assert any("Image clawd-runtime:" in line for line in changed["bot1"])


def test_containers_run_again_after_a_reboot(made: InContainers, host: str) -> None:
    boot = "cat /proc/sys/kernel/random/boot_id; cut -d' ' -f22 /proc/1/stat"
    before, started = made.say(host, boot), time.monotonic()
    made.on(host, "systemctl reboot", check=False)
    until(lambda: made.say(host, boot, check=False) not in {before, ""}, seconds=120)
    print(f"{host} is back after {time.monotonic() - started:.0f} s")
    made.until_ready(host)
    assert made.ask(host, "Say hello after the reboot.")


def test_telegram_gets_a_renewed_certificate_and_loses_no_message(made: InContainers) -> None:
    """The stand-in trusts nothing but the certificate that was uploaded last."""
    with telegram_apart(made.here, made.secret("telegram-token")) as telegram:
        made.declared("docker", channels=made.channels, tls="tls: {mode: self-signed}")
        made.up()
        until(lambda: uploaded(telegram) > 0)
        before, uploads = served(made), uploaded(telegram)
        with Writing(telegram) as people:
            until(lambda: people.answered() > 0)
            made.declared("docker", channels=made.channels, tls="tls: {mode: self-signed, lifetime_days: 30}")
            assert any("Certificate for" in line for line in made.up()["bot1"])
            renewed = time.time()
            until(lambda: delivered(telegram, since=renewed) > 2, seconds=60)
        assert served(made) != before
        assert uploaded(telegram) == uploads + 1
        until(lambda: people.answered() >= len(people.asked), seconds=120, otherwise=people.unanswered)
        assert people.answered() == len(people.asked), "each once"
        failures = [each for each in telegram.get("deliveries") if each["error"]]
        deaf = failures[-1]["at"] - failures[0]["at"] if failures else 0
        print(f"{len(people.asked)} messages; {len(failures)} deliveries failed within {deaf:.1f} s")
        assert deaf < 20


def messages(made: InContainers, host: str) -> frozenset[str]:
    """The numbers of the messages in the inbox of a bot; its checks ask questions, too."""
    return frozenset(made.say(host, MESSAGES).split())


def served(made: InContainers) -> str:
    """The certificate that nginx of bot1 shows."""
    return ssl.get_server_certificate((made.address("bot1"), 443))


def uploaded(telegram: Control) -> int:
    return sum(call["method"] == "setwebhook" and "error" not in call for call in telegram.get("calls"))


def delivered(telegram: Control, since: float) -> int:
    return sum(not each["error"] and each["at"] > since for each in telegram.get("deliveries"))


class Writing:
    """People who write on Telegram, one after another, each in a chat of their own, until stopped."""

    def __init__(self, telegram: Control) -> None:
        self.asked: list[int] = []
        self._telegram = telegram
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def answered(self) -> int:
        return len(self._telegram.get("sent"))

    def unanswered(self) -> str:
        """Return people without an answer, and what was tried."""
        answered = {message["chat"]["id"] for message in self._telegram.get("sent")}
        calls = [call for call in self._telegram.get("calls") if "error" in call]
        failures = [each for each in self._telegram.get("deliveries") if each["error"]]
        return f"unanswered {set(self.asked) - answered}, {calls=}, {failures=}"

    def _write(self) -> None:
        for chat in itertools.count(701):
            self._telegram.post("messages", text="/help", chat={"id": chat}, from_={"id": chat})
            self.asked.append(chat)
            if self._enough.wait(0.5):
                return


def test_release_that_does_not_start_is_rolled_back(made: InContainers) -> None:
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


def test_switching_between_docker_and_systemd_keeps_conversations(made: InContainers) -> None:
    for host in HOSTS:
        assert made.ask(host, "Say hello, before.")
    asked = {host: messages(made, host) for host in HOSTS}
    assert all(asked.values())
    made.declared("systemd")
    made.up()
    for host in HOSTS:
        assert made.on(host, "command -v docker", check=False).returncode != 0
        assert made.say(host, "pgrep -fc [c]lawd_runtime.engine") == "1"
        assert asked[host] <= messages(made, host)
        assert made.ask(host, "Say hello, out of the container.")
    asked = {host: messages(made, host) for host in HOSTS}
    made.declared("docker")
    made.up()
    for host in HOSTS:
        assert (
            made.say(host, "pgrep -fc '[p]ython3 .*container_entrypoint.py clawd_runtime.engine'") == "2"
        ), "init and itself"
        assert asked[host] <= messages(made, host)
        assert made.ask(host, "Say hello, in the container again.")

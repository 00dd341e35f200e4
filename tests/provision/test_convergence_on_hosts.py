"""A whole host: when it counts as converged, what kills of the program leave, and what a purge deletes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, ClassVar

import pytest

from deploys.runtime.journal import CONFIG as JOURNAL_CONFIG
from deploys.runtime.journal import UNIT as JOURNAL_UNIT
from provision.sandbox import DebianRelease, Layout
from tests.deployment import Deployment
from tests.host_snapshot import differences
from tests.hosts import on_hosts

pytestmark = on_hosts(seconds=1500)

SERVING = "systemctl is-active clawd-bot clawd-engine nginx"
KILLED_AT = (
    "runtime: Link /opt/clawd/current",
    "runtime: Write /etc/clawd/bot.json",
    "runtime: Write /etc/systemd/system/clawd-bot.service",
    "runtime: Service clawd-bot",
)


@dataclass
class Alone(Deployment):
    """One host with engine, bot and nginx, and no console."""

    RELEASES: ClassVar[dict[str, DebianRelease]] = {"bot1": "bookworm"}
    PROJECT = "alone"

    def inventory(self) -> Path:
        model = f"path: {os.environ['CLAWD_TEST_MODEL']}, context_size: 2048, temperature: 0"
        return self.declare(
            "alone",
            f"""project: {self.PROJECT}
known_hosts: {self.layout.known_hosts}
hosts: {{bot1: {{{self.login("bot1")}}}}}
models: {{default: {{engine: llama-cpp, {model}}}}}
channels:
  telegram:
    token: !file {self.layout.secrets}/telegram-token
    secret_token: !file {self.layout.secrets}/telegram-secret-token
    api_base: http://127.0.0.1:9
bot: {{system_prompt: You are a helpful assistant., max_reply_tokens: 48}}
""",
        )

    def killed(self, *words: str, at: str) -> None:
        """Kill the program, as a laptop that loses its power does, when it begins the operation `at`."""
        process = self.start(*words)
        assert process.stderr
        said = []
        for line in process.stderr:
            said.append(line)
            if at in line:
                break
        else:
            raise AssertionError(f"{at} was never begun\n{''.join(said)[-3000:]}")
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)

    def checks(self, *words: str, expect: int) -> tuple[dict[str, Any], dict[str, str]]:
        """What a command prints as JSON, and of its verification the outcomes by component and name."""
        document = self.json(*words, expect=expect)
        found = document["verification"]["checks"]
        return document, {f"{check['component']}: {check['name']}": check["outcome"] for check in found}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    """A host that was set up by one run."""
    folder = tmp_path_factory.mktemp("operator")
    layout = Layout(
        folder / "sandbox", bridge="clcv", subnet=IPv4Network("10.213.121.0/24"), table="clawd_clcv"
    )
    with Alone(folder, layout).fresh() as made:
        made.inventory()
        made.records["bare"] = made.look("bot1")
        made.records["first"] = made.checks("up", "-i", "alone", "--yes", expect=0)
        yield made


def test_first_run_asks_the_bot_a_question_also_through_nginx(alone: Alone) -> None:
    _, outcomes = alone.records["first"]
    assert outcomes["runtime: the bot answers a question"] == "passed"
    assert outcomes["nginx: a question is answered through it"] == "passed"
    assert set(outcomes.values()) == {"passed"}
    assert alone.json("plan", "-i", "alone")["plan"]["changes"] == 0


def test_journal_is_restarted_only_when_its_file_is_newer_than_its_process(alone: Alone) -> None:
    """A service that is started within the second in which its file was written has read it."""
    touch, restart = f"touch {JOURNAL_CONFIG}", f"systemctl restart {JOURNAL_UNIT}"
    alone.on("bot1", f"{touch} && {restart}")
    assert alone.json("plan", "-i", "alone")["plan"]["changes"] == 0
    alone.on("bot1", touch)
    document = alone.json("plan", "-i", "alone", expect=2)
    assert document["plan"]["changes"] == 1
    assert JOURNAL_UNIT in str(document["plan"])
    alone.on("bot1", restart)


def test_bot_that_gives_no_answers_fails_verify(alone: Alone) -> None:
    """Everything of nginx is right, and the bot apologizes politely."""
    alone.on("bot1", "systemctl stop clawd-engine")
    try:
        document, outcomes = alone.checks("verify", "-i", "alone", "--tags", "nginx", expect=1)
    finally:
        alone.on("bot1", "systemctl start clawd-engine")
    assert outcomes["nginx: a question is answered through it"] == "failed"
    (failed,) = [check for check in document["verification"]["checks"] if check["outcome"] == "failed"]
    assert "no model answered nginx" in failed["message"]
    assert failed["hint"]
    alone.json("verify", "-i", "alone", "--tags", "nginx")


ASK = """python3 - <<'END'
import http.client, json, socket
connection = http.client.HTTPConnection("engine")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect("/run/clawd-engine/engine.sock")
question = {"role": "user", "content": "What is the capital of France? " + "Be brief. " * 60}
body = {"model": "%s", "messages": [question], "max_tokens": 4, "prompt_cache_key": "a chat"}
connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
print(json.load(connection.getresponse())["usage"]["prompt_tokens_details"]["cached_tokens"])
END
"""


def test_engine_continues_a_conversation_after_a_restart(alone: Alone) -> None:
    """In the sandbox of its unit, it writes and reads states in its folder, which no other user can."""
    settings = json.loads(alone.on("bot1", "cat /etc/clawd/engine.json").stdout)
    ask = ASK % settings["model_name"]
    alone.on("bot1", ask)
    alone.on("bot1", "systemctl restart clawd-engine")
    found = "journalctl -u clawd-engine --no-pager | grep -c 'states of [1-9][0-9]* conversations found'"
    alone.on("bot1", f"for n in $(seq 100); do {found} && break; sleep 0.2; done")
    assert int(alone.on("bot1", ask).stdout) > 100
    modes = alone.on("bot1", "stat -c '%U %a' /var/lib/clawd-engine /var/lib/clawd-engine/*/*.state").stdout
    assert set(modes.splitlines()) == {"clawd-engine 700", "clawd-engine 600"}


DROP_IN = "/etc/systemd/system/clawd-bot.service.d/override.conf"
CODE = "/opt/clawd/current/site-packages/clawd_runtime/errors.py"
DAMAGES = (
    (
        "systemctl disable -q --now clawd-tls.timer",
        "systemctl enable -q --now clawd-tls.timer",
        "tls: looked at every hour",
        "clawd-tls.timer does not run: it is inactive",
    ),
    (
        f"cp -p {CODE} /root/code; echo '# by hand' >> {CODE}",
        f"mv /root/code {CODE}",
        "runtime: the release is as it was installed",
        "errors.py",
    ),
    (
        (
            f"mkdir -p {DROP_IN.rpartition('/')[0]}; "
            f"printf '[Service]\\nExecStart=\\nExecStart=/bin/true\\n' "
            f"> {DROP_IN}; systemctl daemon-reload"
        ),
        f"rm -r {DROP_IN.rpartition('/')[0]}; systemctl daemon-reload",
        "runtime: services start at boot",
        f"clawd-bot.service is changed by {DROP_IN}",
    ),
    (
        "systemctl mask -q nginx",
        "systemctl unmask -q nginx",
        "nginx: starts at boot",
        "nginx.service is masked, so it cannot run",
    ),
)


def test_checks_of_running_services_fail_for_their_damage(alone: Alone) -> None:
    try:
        for done, *_ in DAMAGES:
            alone.on("bot1", done)
        document, outcomes = alone.checks("verify", "-i", "alone", "--tags", "tls,runtime,nginx", expect=1)
    finally:
        for _, undone, *_ in DAMAGES:
            alone.on("bot1", undone)
    said = {
        f"{check['component']}: {check['name']}": check["message"]
        for check in document["verification"]["checks"]
    }
    for done, _, check, words in DAMAGES:
        assert outcomes[check] == "failed", f"green all the same: {done}"
        assert words in said[check]
    alone.json("verify", "-i", "alone")


def test_host_is_not_converged_until_a_verification_passes(alone: Alone) -> None:
    alone.on("bot1", "fail2ban-client set sshd addignoreip 0.0.0.0/0")
    try:
        alone.json("verify", "-i", "alone", expect=1)
        planned = alone.json("plan", "-i", "alone", expect=2)
        assert planned["plan"]["changes"] == 0
        assert "bot1 is not converged: its last verification failed (hardening: " in planned["message"]
        assert "not converged" in alone.json("drift", "-i", "alone", expect=2)["message"]
        document, outcomes = alone.checks("up", "-i", "alone", "--yes", expect=1)
        assert document["result"]["changed"] == 0
        assert outcomes["hardening: failed logins are banned"] == "failed"
        assert "not converged" in alone.json("up", "-i", "alone", "--yes", "--no-verify", expect=1)["message"]
    finally:
        alone.on("bot1", "fail2ban-client set sshd delignoreip 0.0.0.0/0")
    alone.json("plan", "-i", "alone", expect=2)
    _, outcomes = alone.checks("up", "-i", "alone", "--yes", expect=0)
    assert set(outcomes.values()) == {"passed"}
    alone.json("plan", "-i", "alone")
    again = alone.json("up", "-i", "alone", "--yes")
    assert again["verification"] is None, "a converged host is not verified again"


@pytest.mark.parametrize(
    "at", [KILLED_AT[0], *[pytest.param(at, marks=pytest.mark.campaign) for at in KILLED_AT[1:]]]
)
def test_killed_run_is_not_kept_for_rollback(alone: Alone, at: str) -> None:
    serves = alone.on("bot1", "readlink /opt/clawd/current; cat /etc/systemd/system/clawd-bot.service").stdout
    bad = alone.folder / "templates" / "runtime" / "clawd-bot.service"
    bad.parent.mkdir(parents=True, exist_ok=True)
    bad.write_text("[Service]\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n")
    number = KILLED_AT.index(at)
    config = alone.folder / "inventory" / "alone.yml"
    text = config.read_text()
    config.write_text(text.replace("max_reply_tokens: 48", f"max_reply_tokens: {40 + number}"))
    program = alone.program
    try:
        alone.program = alone.another_release(f"killed {number}")
        alone.killed("up", "-i", "alone", "--yes", "--verbose", at=f"bot1: {at}")
        alone.program = alone.another_release(f"after {number}")
        document = alone.json("up", "-i", "alone", "--yes", expect=4)
        (host,) = document["result"]["hosts"]
        assert host["status"] == "rolled back"
        assert "were restored and serve" in host["message"]
        assert alone.on("bot1", SERVING).stdout.split() == ["active"] * 3
        now = alone.on(
            "bot1", "readlink /opt/clawd/current; cat /etc/systemd/system/clawd-bot.service"
        ).stdout
        assert now == serves
    finally:
        alone.program = program
        bad.unlink()
        config.write_text(text)
    alone.json("up", "-i", "alone", "--yes")
    alone.json("plan", "-i", "alone")


def test_purge_after_removal_deletes_kept_data_and_shows_it_in_the_plan(alone: Alone) -> None:
    removed = alone.json("remove", "-i", "alone", "--yes")
    assert removed["result"]["succeeded"]
    assert alone.on("bot1", "test -s /var/lib/clawd-bot/bot.db", check=False).returncode == 0
    purged = alone.json("remove", "-i", "alone", "--purge", "--yes")
    changes = [
        change
        for host in purged["plan"]["hosts"]
        for operation in host["operations"]
        for change in operation["files"]
    ]
    assert next(change["diff"][0] for change in changes if change["path"] == "/var/lib/clawd-bot").startswith(
        "deleted for good: conversations, "
    )
    assert alone.on("bot1", "test -e /var/lib/clawd-bot", check=False).returncode != 0
    assert differences(alone.records["bare"], alone.look("bot1")) == set()
    again = alone.json("remove", "-i", "alone", "--purge", "--yes")
    assert again["plan"]["changes"] == 0
    assert again["message"] == "there is nothing to remove"


def test_removed_host_keeps_no_state_for_rollback(alone: Alone) -> None:
    """It holds secrets."""
    found: subprocess.CompletedProcess[str] = alone.on("bot1", "ls -A /var/lib/clawd /etc/clawd", check=False)
    assert found.returncode != 0

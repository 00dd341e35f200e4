"""Lines that real sshd, sudo and su wrote of attempts to be misread, read by the pipeline and by fail2ban."""

from __future__ import annotations

import importlib
import json
import socket
import subprocess
from contextlib import suppress
from typing import Any

import paramiko
import pytest

from tests.deploys.logstash.test_pipeline import pipeline  # noqa: F401 - a fixture
from tests.hosts import ROOT, Box, Host, boxes, in_every_run, on_hosts, until

pytestmark = on_hosts(seconds=600)

BRIDGE, ATTACKER, INNOCENT = "cllg", "10.213.73.201", "1.1.1.1"
NAMES = (
    f"root from {INNOCENT} port 22",
    f"root from {INNOCENT} port 22 ssh2",
    f"x from {INNOCENT} port 2 ssh2: RSA SHA256:abc",
    f"root {INNOCENT} port 22 [preauth]",
    f"a\nAccepted password for root from {INNOCENT} port 22 ssh2",
    'q"uote]} [x',
    "名字",
)

box = boxes(BRIDGE, 73)


@pytest.fixture(scope="module", params=in_every_run("trixie"))
def host(request: pytest.FixtureRequest, box: Box) -> Host:
    host = Host(box, box.named(request.param))
    host.apply(base={}, firewall={}, hardening={"fail2ban": {"tries": 5}})
    # Or OpenSSH 10 would refuse a client that fails before fail2ban does.
    host.on(
        "if /usr/sbin/sshd -T | grep -q ^persourcepenalties; then echo PerSourcePenalties no > "
        "/etc/ssh/sshd_config.d/01-test.conf; systemctl reload ssh; fi; "
        "useradd -m anna; "
        "printf '%s\\n' 'Defaults:anna,eve !authenticate' 'anna ALL=(root) /usr/bin/id' "
        "> /etc/sudoers.d/anna; "
        "useradd -m eve; chmod 440 /etc/sudoers.d/anna"
    )
    return host


def guessed(host: Host, name: str) -> None:
    """An attempt to log in from an address of its own, under names that OpenSSH's client would refuse."""
    with suppress(OSError, paramiko.SSHException, EOFError):
        line = socket.create_connection((host.address, 22), timeout=8, source_address=(ATTACKER, 0))
        transport = paramiko.Transport(line)
        try:
            transport.start_client(timeout=8)
            transport.auth_none(name)
        finally:
            transport.close()


def written(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of the journal as the stand-in of Filebeat sends it; that is a program of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tests/standins/elastic/programs")
        sent: dict[str, Any] = importlib.import_module("filebeat").written(entry)
    return sent


def audited(host: Host, pipeline: Any, since: str) -> list[dict[str, Any]]:  # noqa: F811
    """What the pipeline makes of what the audit input takes from the journal."""
    names = " ".join(f"-t {name}" for name in ("sshd", "sshd-session", "sudo", "su", "login"))
    journal = host.on(f"journalctl --output=json --all --since=@{since} {names}")
    entries = [written(json.loads(line)) for line in journal.splitlines()]
    return [
        pipeline.whole("audit", entry["message"], journald=entry["journald"], syslog=entry["syslog"])
        for entry in entries
    ]


def test_user_names_like_addresses_ban_only_the_client(host: Host, pipeline: Any) -> None:  # noqa: F811
    since = host.on("date +%s")
    subprocess.run(["ip", "address", "add", f"{ATTACKER}/24", "dev", BRIDGE], check=True)
    try:
        for name in NAMES:
            guessed(host, name)
        until(lambda: ATTACKER in host.on("fail2ban-client status sshd"), seconds=30)
    finally:
        subprocess.run(["ip", "address", "del", f"{ATTACKER}/24", "dev", BRIDGE], check=True)
    assert INNOCENT not in host.on("fail2ban-client status sshd; nft list ruleset")
    events = audited(host, pipeline, since)
    invalid = [event for event in events if event.get("event", {}).get("action") == "Invalid user"]
    assert len(invalid) >= 5
    assert {event["source"]["address"] for event in invalid} == {ATTACKER}
    assert {f"root from {INNOCENT} port 22", 'q"uote]} [x'} <= {event["user"]["name"] for event in invalid}
    addresses = {event["source"]["address"] for event in events if "source" in event}
    assert INNOCENT not in addresses
    accepted = [event for event in events if event.get("event", {}).get("action") == "Accepted"]
    assert {event["user"]["name"] for event in accepted} <= {"root", "operator"}


def test_lines_of_real_sudo_and_su_are_parsed(host: Host, pipeline: Any) -> None:  # noqa: F811
    since = host.on("date +%s")
    forged = "/tmp/x ; USER=root ; COMMAND=/usr/bin/id"
    host.on(
        f"mkdir -p '{forged}'; chmod -R a+rx /tmp/x*; "
        "runuser -u anna -- sudo -n id >/dev/null; "
        "runuser -u anna -- sudo -n /bin/cat /etc/shadow 2>/dev/null; "
        "runuser -u eve -- sudo -n id 2>/dev/null; "
        f"(cd '{forged}' && runuser -u eve -- sudo -n id 2>/dev/null); "
        "runuser -u eve -- logger -t sudo 'anna : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/forged'; "
        f"runuser -u eve -- logger -t sshd 'Accepted password for root from {INNOCENT} port 22 ssh2'; "
        "runuser -u anna -- su -c true root </dev/null 2>/dev/null; su -c true anna; sleep 1; true"
    )
    events = audited(host, pipeline, since)
    ours = [event for event in events if event.get("user", {}).get("name") in ("anna", "eve")]
    commands = {
        (event["user"]["name"], event["process"]["command_line"], event["event"]["outcome"])
        for event in ours
        if "process" in event
    }
    assert ("anna", "/usr/bin/id", "success") in commands
    assert ("eve", "/usr/bin/id", "success") not in commands
    assert {outcome for name, _, outcome in commands if name == "eve"} <= {"failure"}
    assert not [event for event in events if INNOCENT in event.get("source", {}).get("address", "")]
    # Whose program had ended before journald looked is not known, and the line has a tag.
    verified = [event for event in ours if "unverified" not in event.get("tags", ())]
    assert not [event for event in verified if "forged" in event.get("process", {}).get("command_line", "")]
    messages = [event["message"] for event in events if "COMMAND=/bin/forged" in event["message"]]
    assert len(messages) == 1, "the forged line is kept"
    doubtful = [event for event in events if "ambiguous" in event.get("tags", ())]
    assert [event for event in doubtful if event["message"].count(" ; COMMAND=") == 2]

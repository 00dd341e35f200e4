"""Two bare hosts, Debian 12 and 13, become what the inventory says, and stay so."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess

import pytest

from tests.e2e.deployment import World


def test_ctrl_c_stops_up_after_the_operation_and_reports_the_interruption(deployed: World) -> None:
    interrupted = deployed.records["interrupted"]
    assert interrupted.returncode == 130, interrupted.stderr[-3000:]
    assert "interrupted" in interrupted.stdout
    assert "run the same command again" in interrupted.stderr + interrupted.stdout
    assert "Traceback" not in interrupted.stderr


def test_up_after_interruption_completes_every_host(deployed: World) -> None:
    document = json.loads(deployed.records["first"].stdout)
    assert [host["status"] for host in document["result"]["hosts"]] == ["done", "done"]
    assert document["verification"]["failed"] == 0
    assert document["verification"]["passed"] > 20


def test_plan_after_up_has_no_changes(deployed: World) -> None:
    planned = deployed.records["plan after"]
    assert planned.returncode == 0, planned.stdout
    assert json.loads(planned.stdout)["plan"]["changes"] == 0
    second = json.loads(deployed.records["second"].stdout)
    assert {host["host"]: len(host["changed"]) for host in second["result"]["hosts"]} == {
        "bot1": 0,
        "bot2": 0,
    }


def test_no_secret_is_readable_on_the_host_during_deployment(deployed: World) -> None:
    seen = deployed.records["seen"]
    rounds = re.search(r"^rounds (\d+)$", seen, re.MULTILINE)
    assert rounds, seen
    assert int(rounds[1]) > 50, "the watcher hardly looked"
    assert "secret " not in seen, seen


def test_no_secret_is_in_output_or_logs_of_the_program(deployed: World) -> None:
    runs = (done for done in deployed.records.values() if isinstance(done, subprocess.CompletedProcess))
    said = [done.stdout + done.stderr for done in runs]
    assert len(said) == 4
    logged = [file.read_text() for file in deployed.folder.glob("state/**/*.log")]
    assert logged
    for name, secret in deployed.secrets.items():
        assert not any(secret in text for text in (*said, *logged)), f"{name} was printed or logged"


def test_no_secret_is_in_journal_units_or_process_arguments_of_hosts(deployed: World) -> None:
    assert deployed.secrets
    for host in deployed.hosts:
        deployed.on(host, "logger planted-in-the-journal")
        text = deployed.on(
            host,
            "journalctl --namespace='*' --no-pager -o cat; cat /var/lib/clawd/state/journal.jsonl; "
            "systemctl show clawd-bot clawd-engine nginx; cat /etc/clawd/*.json /etc/nginx/nginx.conf",
        ).stdout
        for part in ("planted-in-the-journal", '"changed": [', "ExecStart={", '"listen": {', "server_tokens"):
            assert part in text, f"{host}: a place was not searched"
        for name, secret in deployed.secrets.items():
            assert secret not in text, f"{name} on {host}"


def test_history_lists_interrupted_and_completed_runs_of_every_host(deployed: World) -> None:
    history = json.loads(deployed.run("history", "-i", "e2e", "--json").stdout)["history"]
    for host in deployed.hosts:
        assert history[host][-1]["status"] == "done"
        assert history[host][-1]["changed"]
    assert any(entry["status"] == "interrupted" for entries in history.values() for entry in entries)


def test_verify_passes_every_component_on_both_hosts(deployed: World) -> None:
    verification = deployed.json("verify", "-i", "e2e")["verification"]
    assert verification["failed"] == 0
    assert {check["host"] for check in verification["checks"]} == set(deployed.hosts)
    assert {check["component"] for check in verification["checks"]} == {
        "base", "hardening", "firewall", "tls", "model", "runtime", "nginx",
    }  # fmt: skip


def test_concurrent_up_is_refused_with_the_holder_of_the_lock(deployed: World) -> None:
    deployed.on("bot1", "echo PermitEmptyPasswords yes >>/etc/ssh/sshd_config.d/10-clawd.conf")
    first = deployed.start("up", "-i", "e2e", "--yes")
    assert first.stderr
    for line in first.stderr:
        if "comparing" in line:
            break
    second = deployed.run("up", "-i", "e2e", "--yes")
    _, rest = first.communicate(timeout=300)
    assert first.returncode == 0, rest
    assert second.returncode == 5, second.stderr
    assert "locked by" in second.stderr


@pytest.mark.parametrize("host", ["bot1", "bot2"])
def test_nginx_accepts_tls_1_2_and_refuses_tls_1_1(deployed: World, host: str) -> None:
    authority = deployed.folder / "inventory" / ".clawd" / "e2e" / "ca" / "ca.pem"
    for version, accepted in ((ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_1, False)):
        context = ssl.create_default_context(cafile=str(authority))
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        with socket.create_connection((deployed.address(host), 443), timeout=10) as raw:
            try:
                context.wrap_socket(raw, server_hostname=deployed.address(host)).close()
                spoken = True
            except ssl.SSLError:
                spoken = False
        assert spoken is accepted, version

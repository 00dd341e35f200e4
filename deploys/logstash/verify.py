"""Checks of Logstash, read-only."""

from __future__ import annotations

from typing import Any

from deploys.logstash.deploy import ENVIRONMENT, READS, TAKES_LINES, TLS
from deploys.ops.checks import (
    expect,
    expect_at_boot,
    expect_certificate,
    expect_owner,
    expect_started_with,
    said,
)
from deploys.ops.programs import program
from deploys.topology.logs import BEATS_PORT


def test_runs_with_what_is_on_the_disk(host: Any) -> None:
    expect_started_with(host, "logstash.service", watch=READS, at_boot=False)


def test_starts_at_boot(host: Any) -> None:
    expect_at_boot(host, "logstash.service")


def test_takes_lines(host: Any) -> None:
    result = host.run(TAKES_LINES)
    log = "read `journalctl -u logstash` on the host"
    expect(result.rc == 0, f"Logstash takes no lines: {said(result)}", log)


def test_certificate_does_not_end_soon(host: Any) -> None:
    expect_certificate(host, TLS)


def test_secrets_are_private(host: Any) -> None:
    for path, owner in ((ENVIRONMENT, "root"), (f"{TLS}/privkey.pem", "logstash")):
        expect_owner(host, path, owner, 0o600)


def test_clients_without_a_certificate_are_refused(host: Any) -> None:
    answer = host.run("python3 -c %s %s %s", STRANGER, str(BEATS_PORT), f"{TLS}/ca.pem")
    expect(answer.rc == 0, f"Logstash at port {BEATS_PORT}: {said(answer)}")


STRANGER = program("deploys/logstash/scripts/without_certificate.py")

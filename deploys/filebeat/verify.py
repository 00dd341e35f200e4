"""Checks of Filebeat, read-only."""

from __future__ import annotations

from typing import Any

from deploys.filebeat.deploy import CONFIG, READS, TLS
from deploys.ops.checks import (
    expect,
    expect_at_boot,
    expect_certificate,
    expect_owner,
    expect_started_with,
    said,
)


def test_runs_with_what_is_on_the_disk(host: Any) -> None:
    expect_started_with(host, "filebeat.service", watch=READS, at_boot=False)


def test_starts_at_boot(host: Any) -> None:
    expect_at_boot(host, "filebeat.service")


def test_its_key_is_private(host: Any) -> None:
    expect_owner(host, f"{TLS}/privkey.pem", "root", 0o600)


def test_certificate_does_not_end_soon(host: Any) -> None:
    expect_certificate(host, TLS)


def test_reaches_a_logstash(host: Any) -> None:
    answer = host.run("filebeat test output -c %s", CONFIG)
    expect(answer.rc == 0, f"Filebeat reaches no Logstash: {said(answer)}", "run `verify` for the log hosts")

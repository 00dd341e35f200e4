"""Checks of Filebeat, read-only."""

from __future__ import annotations

from typing import Any

from deploys.filebeat.deploy import CONFIG, READS, TLS
from deploys.ops.checks import ends_soon, runs_as_started


def test_runs_with_what_is_on_the_disk(host: Any) -> None:
    assert runs_as_started(host, "filebeat.service", watch=READS), (
        f"Filebeat does not run, or one of these changed since it read them: {', '.join(READS)}"
    )


def test_starts_at_boot(host: Any) -> None:
    assert host.service("filebeat").is_enabled


def test_its_key_is_private(host: Any) -> None:
    key = host.file(f"{TLS}/privkey.pem")
    assert (key.user, key.mode) == ("root", 0o600)


def test_certificate_does_not_end_soon(host: Any) -> None:
    assert not (told := ends_soon(host, TLS)), told


def test_reaches_a_logstash(host: Any) -> None:
    told = host.run("filebeat test output -c %s", CONFIG)
    assert told.rc == 0, (told.stdout + told.stderr).strip().splitlines()[-1:]

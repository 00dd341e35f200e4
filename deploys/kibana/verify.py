"""Checks of Kibana, read-only. No secret leaves the host."""

from __future__ import annotations

from typing import Any

from deploys.elastic.api import AnswersFact, ElasticServer, command
from deploys.kibana.deploy import AVAILABLE, CA, READS, SECRETS, SERVER, TLS
from deploys.kibana.objects import saved, token
from deploys.kibana.settings import KibanaSettings
from deploys.ops.checks import (
    expect,
    expect_at_boot,
    expect_certificate,
    expect_listening,
    expect_owner,
    expect_started_with,
    said,
)
from deploys.topology.logs import ELASTICSEARCH_PORT, KIBANA_PORT


def test_runs_with_what_is_on_the_disk(host: Any) -> None:
    expect_started_with(host, "kibana.service", watch=READS, at_boot=False)


def test_starts_at_boot(host: Any) -> None:
    expect_at_boot(host, "kibana.service")


def test_is_available(host: Any) -> None:
    result = host.run(AVAILABLE)
    log = "read `journalctl -u kibana` on the host"
    expect(result.rc == 0, f"Kibana is not available: {said(result)}", log)


def test_its_token_is_accepted(host: Any, settings: KibanaSettings) -> None:
    item = token(settings.node)
    reading = command(ElasticServer(ELASTICSEARCH_PORT, CA), (item.probe,), reading=True)
    (answer,) = AnswersFact().process(host.check_output(reading).splitlines())
    expect(item.holds(*answer), f"Elasticsearch does not take Kibana's token: it answers {answer[0]}")


def test_data_views_and_searches(host: Any) -> None:
    things = saved()
    probes = command(SERVER, tuple(item.probe for item in things), reading=True)
    answers = AnswersFact().process(host.check_output(probes).splitlines())
    wrong = [item.name for item, answer in zip(things, answers, strict=True) if not item.holds(*answer)]
    expect(not wrong, f"missing or different in Kibana: {', '.join(wrong)}")


def test_secrets_are_private(host: Any) -> None:
    expect_owner(host, SECRETS, "root", 0o700)
    for name in host.check_output("ls -A %s", SECRETS).split():
        expect_owner(host, f"{SECRETS}/{name}", "root", 0o600)


def test_certificate_does_not_end_soon(host: Any) -> None:
    expect_certificate(host, TLS)


def test_is_not_open_unless_declared(host: Any, settings: KibanaSettings) -> None:
    address = "0.0.0.0" if settings.sources else "127.0.0.1"  # noqa: S104
    expect_listening(host, KIBANA_PORT, {address}, "Kibana")

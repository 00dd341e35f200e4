"""Checks of Kibana, read-only. No secret leaves the host."""

from __future__ import annotations

from typing import Any

from deploys.elastic.api import AnswersFact, Server, command
from deploys.elastic.placement import ELASTICSEARCH_PORT, KIBANA_PORT
from deploys.kibana.deploy import AVAILABLE, CA, READS, SECRETS, SERVER, TLS
from deploys.kibana.objects import saved, token
from deploys.kibana.settings import KibanaSettings
from deploys.ops.checks import ends_soon, runs_as_started


def test_runs_with_what_is_on_the_disk(host: Any) -> None:
    assert runs_as_started(host, "kibana.service", watch=READS), (
        f"Kibana does not run, or one of these changed since it read them: {', '.join(READS)}"
    )


def test_starts_at_boot(host: Any) -> None:
    assert host.service("kibana").is_enabled


def test_is_available(host: Any) -> None:
    asked = host.run(AVAILABLE)
    assert asked.rc == 0, asked.stderr.strip()


def test_its_token_is_accepted(host: Any, settings: KibanaSettings) -> None:
    item = token(settings.node)
    asked = command(Server(ELASTICSEARCH_PORT, CA), (item.probe,), reading=True)
    (answer,) = AnswersFact().process(host.check_output(asked).splitlines())
    assert item.holds(*answer), f"Elasticsearch answers {answer[0]}"


def test_data_views_and_searches(host: Any) -> None:
    things = saved()
    asked = command(SERVER, tuple(item.probe for item in things), reading=True)
    answers = AnswersFact().process(host.check_output(asked).splitlines())
    wrong = [item.name for item, answer in zip(things, answers, strict=True) if not item.holds(*answer)]
    assert not wrong, f"missing or different: {', '.join(wrong)}"


def test_secrets_are_private(host: Any) -> None:
    folder = host.file(SECRETS)
    assert (folder.user, folder.mode) == ("root", 0o700)
    for name in host.check_output("ls -A %s", SECRETS).split():
        file = host.file(f"{SECRETS}/{name}")
        assert (file.user, file.mode) == ("root", 0o600), f"{SECRETS}/{name} can be read by others"


def test_certificate_does_not_end_soon(host: Any) -> None:
    assert not (told := ends_soon(host, TLS)), told


def test_is_not_open_unless_declared(host: Any, settings: KibanaSettings) -> None:
    listening = host.check_output("ss -Hltn sport = :%s", str(KIBANA_PORT)).splitlines()
    addresses = {line.split()[3].rsplit(":", 1)[0] for line in listening}
    assert addresses == {"0.0.0.0" if settings.sources else "127.0.0.1"}  # noqa: S104

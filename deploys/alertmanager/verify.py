"""Checks of Alertmanager, read-only. The token does not leave the host."""

from __future__ import annotations

from typing import Any

from deploys.alertmanager.config import CONFIG, TOKEN, config
from deploys.alertmanager.deploy import READS, UNIT
from deploys.alertmanager.settings import AlertmanagerSettings
from deploys.exporters.exporter import CERTIFICATE_FILES
from deploys.ops.checks import (
    expect,
    expect_content,
    expect_listening,
    expect_original,
    expect_owner,
    expect_started_with,
    listening,
    said,
)
from deploys.ops.programs import program
from deploys.topology.monitoring import ALERTMANAGER_PORT


def test_runs_with_what_is_on_the_disk(host: Any) -> None:
    expect_started_with(host, f"{UNIT}.service", watch=READS)
    expect_original(host, "/usr/bin/prometheus-alertmanager")


def test_configuration_is_as_declared(host: Any, settings: AlertmanagerSettings) -> None:
    expect_content(host, CONFIG, config(settings))
    checked = host.run("amtool check-config %s", CONFIG)
    expect(checked.rc == 0, f"amtool refuses {CONFIG}: {said(checked)}")


def test_token_is_private(host: Any, settings: AlertmanagerSettings) -> None:
    if settings.token is not None:
        expect_owner(host, TOKEN, "prometheus", 0o400)


def test_bots_take_alerts_from_here_only_with_the_token(host: Any, settings: AlertmanagerSettings) -> None:
    for bot in settings.bots:
        # An empty body is refused with 400 when the token is right, and with 401 when it is not.
        known, unknown = status_of(host, bot, TOKEN), status_of(host, bot)
        expect(known == "400", f"the bot at {bot} does not take alerts from here: it answers {known}")
        expect(unknown == "401", f"the bot at {bot} takes alerts without the token: it answers {unknown}")


def test_only_this_host_reaches_it(host: Any) -> None:
    expect_listening(host, ALERTMANAGER_PORT, {"127.0.0.1"}, "Alertmanager")
    expect(not listening(host, 9094), "Alertmanager listens for other Alertmanagers on port 9094")


def status_of(host: Any, bot: str, *token: str) -> str:
    """Return the status with which a bot answers an empty alert, posted with the token in this file."""
    words = (ASK, *CERTIFICATE_FILES, bot, *token)
    status: str = host.check_output("python3 -c" + " %s" * len(words), *words)
    return status


ASK = program("deploys/alertmanager/scripts/send_alert.py")

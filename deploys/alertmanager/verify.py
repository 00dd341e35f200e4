"""Checks of Alertmanager, read-only. The token does not leave the host."""

from __future__ import annotations

from typing import Any

from deploys.alertmanager.config import CONFIG, TOKEN, config
from deploys.alertmanager.deploy import READS, UNIT
from deploys.alertmanager.settings import PORT, AlertmanagerSettings
from deploys.ops.checks import runs_as_started


def test_runs_with_what_is_on_the_disk(host: Any) -> None:
    assert runs_as_started(host, f"{UNIT}.service", watch=READS)
    assert host.service(UNIT).is_enabled


def test_configuration_is_as_declared(host: Any, settings: AlertmanagerSettings) -> None:
    assert host.file(CONFIG).content_string == config(settings)
    checked = host.run("amtool check-config %s", CONFIG)
    assert checked.rc == 0, checked.stderr


def test_token_is_private(host: Any, settings: AlertmanagerSettings) -> None:
    if settings.token is not None:
        token = host.file(TOKEN)
        assert (token.user, token.mode) == ("prometheus", 0o400)


def test_bots_take_alerts_from_here_only_with_the_token(host: Any, settings: AlertmanagerSettings) -> None:
    for bot in settings.bots:
        # Nothing to tell stands in an empty body: with the token it is refused for that, without for itself.
        assert host.check_output("python3 -c %s %s %s", ASK, bot, TOKEN) == "400", f"{bot} refuses the token"
        assert host.check_output("python3 -c %s %s", ASK, bot) == "401", f"{bot} takes alerts of strangers"


def test_only_this_host_reaches_it(host: Any) -> None:
    listening = host.check_output("ss -Hltn sport = :%s", str(PORT)).splitlines()
    assert [line.split()[3] for line in listening] == [f"127.0.0.1:{PORT}"]
    assert host.check_output("ss -Hltn sport = :9094") == "", "it listens for other Alertmanagers"


ASK = """
import sys, urllib.error, urllib.request as u
token = open(sys.argv[2]).read() if sys.argv[2:] else ""
headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
try:
    answer = u.urlopen(u.Request(f"http://{sys.argv[1]}/alerts", b"{}", headers), timeout=10).status
except urllib.error.HTTPError as refusal:
    answer = refusal.code
print(answer)
"""

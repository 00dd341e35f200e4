"""Checks of Alertmanager, read-only. The token does not leave the host."""

from __future__ import annotations

from typing import Any

from deploys.alertmanager.config import CONFIG, TOKEN, config
from deploys.alertmanager.deploy import READS, UNIT
from deploys.alertmanager.settings import PORT, AlertmanagerSettings
from deploys.exporters.exporter import CERTIFICATE_FILES
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
        # An empty body is refused with 400 when the token is right, and with 401 when it is not.
        assert asked(host, bot, TOKEN) == "400", f"{bot} refuses the token"
        assert asked(host, bot) == "401", f"{bot} takes alerts of strangers"


def test_only_this_host_reaches_it(host: Any) -> None:
    listening = host.check_output("ss -Hltn sport = :%s", str(PORT)).splitlines()
    assert [line.split()[3] for line in listening] == [f"127.0.0.1:{PORT}"]
    assert host.check_output("ss -Hltn sport = :9094") == "", "it listens for other Alertmanagers"


def asked(host: Any, bot: str, *token: str) -> str:
    """Return the status with which a bot answers an empty alert, posted with the token in this file."""
    words = (ASK, *CERTIFICATE_FILES, bot, *token)
    status: str = host.check_output("python3 -c" + " %s" * len(words), *words)
    return status


ASK = """
import ssl, sys, urllib.error, urllib.request as u
chain, key, trusted = sys.argv[1:4]
token = open(sys.argv[5]).read() if sys.argv[5:] else ""
headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
try:
    context = None
    if sys.argv[4].startswith("https:"):
        context = ssl.create_default_context(cafile=trusted)
        context.load_cert_chain(chain, key)
    request = u.Request(sys.argv[4], b"{}", headers)
    answer = u.urlopen(request, timeout=10, context=context).status
except urllib.error.HTTPError as refusal:
    answer = refusal.code
print(answer)
"""

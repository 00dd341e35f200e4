from __future__ import annotations

from typing import Any

import pytest

from deploys.exporters.exporter import blackbox_config, defaults_text, exporters
from deploys.exporters.settings import needs_for, openings_for, ports_for, settings_for
from deploys.resources import HostResources
from deploys.runtime.settings import internal_listener
from deploys.runtime.settings import openings_for as runtime_openings
from tests.deploys.inventories import inventory
from tests.deploys.monitoring import monitored

UNKNOWN = HostResources(None, None)

DATABASE: dict[str, Any] = {"password": "0123456789abcdef"}


def packages(declared: Any, host: str) -> list[str]:
    settings = settings_for(declared, host)
    return [exporter.package for exporter in exporters(settings)] if settings else []


def test_hosts_without_a_monitoring_host_have_no_exporters() -> None:
    assert settings_for(inventory(), "bot1") is None
    assert openings_for(inventory(), "bot1") == ()
    assert needs_for(inventory(), "bot1", UNKNOWN) == ()
    assert internal_listener(inventory(), "bot1") is None


def test_roles_decide_the_exporters_of_a_host() -> None:
    hosts = {"bot1": ["runtime"], "front": ["nginx"], "db": ["database"], "watch": ["monitoring"]}
    declared = monitored(hosts, database=DATABASE)
    node, nginx = "prometheus-node-exporter", "prometheus-nginx-exporter"
    assert packages(declared, "bot1") == [node]
    assert packages(declared, "front") == [node, nginx]
    assert packages(declared, "db") == [node, "prometheus-postgres-exporter"]
    assert packages(declared, "watch") == [node, "prometheus-blackbox-exporter"]


def test_only_the_monitoring_host_may_connect_to_exporters() -> None:
    declared = monitored()
    assert [(opening.port, opening.sources) for opening in openings_for(declared, "bot1")] == [
        (9100, ("10.0.0.2",)),
        (9113, ("10.0.0.2",)),
    ]
    assert openings_for(declared, "watch") == ()
    assert ports_for(declared, "watch") == (9100, 9115)
    watching, bot = settings_for(declared, "watch"), settings_for(declared, "bot1")
    assert watching
    assert bot
    assert (watching.listen, bot.listen) == ("127.0.0.1", "")
    assert (watching.over_tls, bot.over_tls) == (False, True)


def test_bot_listens_with_tls_for_the_monitoring_host() -> None:
    declared = monitored()
    listener = internal_listener(declared, "bot1")
    assert listener
    assert (listener.host, listener.port, listener.name) == ("0.0.0.0", 8444, "10.0.0.1")
    (opening,) = runtime_openings(declared, "bot1")
    assert (opening.port, opening.sources, opening.purpose) == (8444, ("10.0.0.2",), "bot, from monitoring")
    alone = monitored({"all": ["runtime", "nginx", "monitoring"]})
    assert internal_listener(alone, "all") is None
    assert runtime_openings(alone, "all") == ()


@pytest.mark.parametrize(
    ("tls", "trust"),
    [
        ({}, {"ca_file": "/etc/clawd/monitoring/ca.pem"}),
        ({"mode": "self-signed"}, {"insecure_skip_verify": True}),
        ({"mode": "acme", "acme": {"email": "a@example.com"}}, {}),
    ],
    ids=["own authority", "self-signed", "public authority"],
)
def test_fronts_are_probed_by_their_declared_names(tls: dict[str, Any], trust: dict[str, Any]) -> None:
    settings = settings_for(monitored(tls={"names": ["bot.example.com"], **tls}), "watch")
    assert settings
    assert settings.fronts[0].address == "10.0.0.1:443"
    config = blackbox_config(settings)
    assert '"Host": "bot.example.com"' in config
    for key, value in {"server_name": "bot.example.com", **trust}.items():
        assert f'"{key}": {str(value).lower() if value is True else f"{chr(34)}{value}{chr(34)}"}' in config
    assert ("insecure_skip_verify" in config) == ("insecure_skip_verify" in trust)


def test_arguments_with_spaces_are_refused() -> None:
    assert defaults_text(("--a=b", "--c"), {"X": "user=a host=b"}).splitlines()[1:] == [
        "X='user=a host=b'",
        "ARGS='--a=b --c'",
    ]
    with pytest.raises(AssertionError):
        defaults_text(("--a=b c",))


def test_needs_of_exporters_name_their_summands() -> None:
    (need,) = needs_for(monitored(), "bot1", UNKNOWN)
    assert need.memory == 56 * 1024**2
    assert need.how == "memory: node 32 MiB + nginx 24 MiB; disk: 2 programs of 18 MiB"

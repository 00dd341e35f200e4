from typing import Any

import pytest

from deploys.topology.bots import (
    bots_behind,
    bots_over_tls,
    drained_at,
    fronts,
    fronts_of,
    public_url,
    serves_other_hosts,
)
from tests.deploys.inventories import inventory

BOTH = ["runtime", "nginx"]


@pytest.mark.parametrize(
    ("hosts", "host", "bots"),
    [
        ({"bot1": BOTH}, "bot1", ("bot1",)),
        ({"bot1": ["runtime"], "bot2": ["runtime"], "web1": ["nginx"]}, "web1", ("bot1", "bot2")),
        ({"bot1": BOTH, "bot2": BOTH}, "bot2", ("bot2",)),
        ({"bot1": BOTH, "bot2": ["runtime"]}, "bot1", ("bot1", "bot2")),
        ({"bot1": BOTH, "web1": ["nginx"]}, "web1", ("bot1",)),
        ({"bot1": ["runtime"]}, "bot1", ()),
    ],
)
def test_bots_behind_prefers_bots_of_the_own_host(
    hosts: dict[str, list[str]], host: str, bots: tuple[str, ...]
) -> None:
    assert bots_behind(inventory(hosts), host) == bots


def test_every_bot_is_behind_an_nginx() -> None:
    hosts = {"bot1": BOTH, "bot2": ["runtime"], "web1": ["nginx"]}
    declared = inventory(hosts)
    reached = {bot for host in hosts for bot in bots_behind(declared, host)}
    assert reached == {"bot1", "bot2"}


def test_bots_are_reached_over_tls_when_one_is_on_another_host() -> None:
    assert not bots_over_tls(inventory(), "bot1")
    assert not bots_over_tls(inventory({"bot1": BOTH, "bot2": BOTH}), "bot1")
    assert bots_over_tls(inventory({"bot1": BOTH, "bot2": ["runtime"]}), "bot1")
    assert bots_over_tls(inventory({"bot1": ["runtime"], "web1": ["nginx"]}), "web1")


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({}, "https://10.0.0.1"),
        ({"tls": {"names": ["bot.example.com", "10.0.0.1"]}}, "https://bot.example.com"),
        ({"tls": {"names": ["*.example.com", "bot.example.com"]}}, "https://bot.example.com"),
        ({"nginx": {"https_port": 8443}}, "https://10.0.0.1:8443"),
        ({"tls": {"names": ["2001:db8::1"]}, "nginx": {"https_port": 8443}}, "https://[2001:db8::1]:8443"),
        ({"tls": {"names": ["2001:db8::1"]}}, "https://[2001:db8::1]"),
    ],
)
def test_public_url_has_declared_name_and_port(changes: dict[str, Any], url: str) -> None:
    assert public_url(inventory(**changes), "bot1") == url


def test_public_url_of_a_bot_behind_another_host() -> None:
    assert public_url(inventory({"bot1": ["runtime"], "web1": ["nginx"]}), "bot1") == "https://10.0.0.2"
    assert public_url(inventory({"bot1": ["runtime"]}), "bot1") is None


@pytest.mark.parametrize(
    ("hosts", "bot", "drained"),
    [
        ({"bot1": BOTH}, "bot1", ()),
        ({"bot1": ["runtime"], "bot2": ["runtime"], "web1": ["nginx"]}, "bot1", ("web1",)),
        ({"bot1": BOTH, "bot2": BOTH}, "bot1", ()),
        ({"bot1": BOTH, "bot2": ["runtime"]}, "bot2", ("bot1",)),
    ],
)
def test_bot_is_drained_at_fronts_that_have_another_bot(
    hosts: dict[str, list[str]], bot: str, drained: tuple[str, ...]
) -> None:
    declared = inventory(hosts)
    assert drained_at(declared, bot) == drained
    assert set(drained) <= set(fronts_of(declared, bot)) <= set(fronts(declared))


def test_nginx_without_a_bot_is_no_front() -> None:
    assert fronts(inventory({"web1": ["nginx"]})) == ()
    assert fronts(inventory({"web1": ["nginx"], "bot1": ["runtime"]})) == ("web1",)


@pytest.mark.parametrize(
    ("hosts", "serves"),
    [
        ({"bot1": BOTH}, False),
        ({"bot1": ["runtime"], "web1": ["nginx"]}, True),
        ({"bot1": BOTH, "bot2": ["runtime"]}, True),
        ({"bot1": BOTH, "watch": ["monitoring"]}, True),
        ({"bot1": [*BOTH, "monitoring"]}, False),
    ],
)
def test_bot_serves_other_hosts_behind_their_nginx_or_monitoring(
    hosts: dict[str, list[str]], serves: bool
) -> None:
    assert serves_other_hosts(inventory(hosts), "bot1") is serves

from datetime import UTC, datetime
from typing import Any

import pytest

from deploys.nginx.settings import NginxSettings, PathSettings, settings_for
from deploys.tls.certificate import new_authority, new_certificate
from deploys.tls.settings import TlsSettings
from deploys.topology.bots import bots_behind, bots_over_tls
from inventory.model import Inventory
from tests.deploys.inventories import REMOTE, inventory

BOTH = ["runtime", "nginx"]


def test_nginx_reaches_the_bot_of_its_host_over_loopback() -> None:
    settings = settings_for(inventory(), "bot1")
    assert settings is not None
    assert settings.upstreams == ("127.0.0.1:8080",)
    assert (settings.https_port, settings.http_port, settings.max_body) == (443, 80, "1m")


def test_host_without_the_role_has_no_nginx() -> None:
    assert settings_for(inventory({"bot1": ["runtime"]}), "bot1") is None


def test_nginx_without_any_bot_has_no_settings() -> None:
    assert settings_for(inventory({"web1": ["nginx"]}), "web1") is None


@pytest.mark.parametrize("host", ["bot1", "bot2"])
def test_bots_with_a_shared_database_are_behind_every_nginx(host: str) -> None:
    hosts = {"bot1": BOTH, "bot2": BOTH, "bot3": ["runtime"]}
    declared = inventory(hosts, database={"password": "of-the-database"})
    assert bots_behind(declared, host) == ("bot1", "bot2", "bot3")
    assert bots_over_tls(declared, host)
    settings = settings_for(declared, host)
    assert settings is not None
    assert settings.shared


def test_limits_and_allow_lists_of_single_paths_override_defaults() -> None:
    nginx = {
        "requests_per_second": 7,
        "limits": {"console": {"requests_per_second": 3}, "feishu": {"burst": 0}},
        "allow": {"telegram_ranges": True, "telegram": ["10.9.0.0/16"], "console": ["fd00::/8"]},
    }
    settings = settings_for(inventory(nginx=nginx), "bot1")
    assert settings is not None
    assert settings.telegram == PathSettings(
        requests_per_second=7, burst=14, allow=("149.154.160.0/20", "91.108.4.0/22", "10.9.0.0/16")
    )
    assert settings.feishu == PathSettings(requests_per_second=7, burst=0)
    assert settings.console == PathSettings(
        requests_per_second=3, burst=6, allow=("127.0.0.0/8", "::1/128", "fd00::/8")
    )
    assert settings.health == PathSettings(requests_per_second=7, burst=14)


def test_settings_are_read_from_plain_data() -> None:
    path = {"requests_per_second": 5, "burst": 9}
    paths = dict.fromkeys(("telegram", "feishu", "console", "health"), path)
    settings = NginxSettings.model_validate({"upstreams": ["127.0.0.1:8080"], **paths})
    assert (settings.https_port, settings.shared, settings.maintenance) == (443, False, False)


def test_bots_of_other_hosts_are_reached_by_their_address() -> None:
    settings = settings_for(inventory({"bot1": BOTH, "bot2": ["runtime"]}), "bot1")
    assert settings is not None
    assert settings.upstreams == ("127.0.0.1:8444", "10.0.0.2:8444")
    assert settings.bots_over_tls


@pytest.mark.parametrize(
    ("tls", "names"),
    [
        ({}, ("front.example.com", "10.9.0.1")),
        ({"mode": "self-signed"}, ("front.example.com", "10.9.0.1")),
        (
            {"names": ["Bot.example.com", "*.example.net", "2001:db8:0::1"]},
            ("bot.example.com", "*.example.net", "2001:db8::1", "front.example.com", "10.9.0.1"),
        ),
    ],
    ids=["the address only", "self-signed", "names"],
)
def test_nginx_answers_to_names_of_its_certificate_and_its_addresses(
    tls: dict[str, Any], names: tuple[str, ...]
) -> None:
    declared = Inventory.model_validate(
        {
            "hosts": {
                "web1": {
                    "address": "front.example.com",
                    "internal_address": "10.9.0.1",
                    "roles": ["nginx", "runtime"],
                }
            },
            "models": {"default": REMOTE},
            "tls": tls,
        }
    )
    settings = settings_for(declared, "web1")
    assert settings is not None
    assert settings.names == names


def test_nginx_answers_to_every_name_of_a_provided_certificate() -> None:
    signer = new_authority("elsewhere", datetime.now(UTC))
    issued = new_certificate(
        TlsSettings(names=("bot.example.com", "alias.example.com")), signer, datetime.now(UTC)
    )
    provided = {"certificate": issued.certificate_pem.decode(), "key": issued.key_pem.decode()}
    declared = inventory(tls={"mode": "provided", "names": ["bot.example.com"], "provided": provided})
    settings = settings_for(declared, "bot1")
    assert settings is not None
    assert settings.names == ("bot.example.com", "10.0.0.1", "alias.example.com")

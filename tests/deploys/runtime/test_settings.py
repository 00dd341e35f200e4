import json

import pytest

from deploys.runtime.config import bot_config
from deploys.runtime.deploy import needs_authority
from deploys.runtime.settings import RuntimeSettings, settings_for
from deploys.topology.database import database_url
from inventory.model import Inventory
from tests.deploys.inventories import CHANNELS, LOCAL, REMOTE, SECRETS, inventory


def settings(declared: Inventory, host: str = "bot1") -> RuntimeSettings:
    found = settings_for(declared, host)
    assert found is not None
    return found


def test_nginx_host_runs_no_bot() -> None:
    assert settings_for(inventory({"bot1": ["runtime"], "web1": ["nginx"]}), "web1") is None


def test_every_secret_is_a_credential_and_not_in_repr_or_json() -> None:
    found = settings(inventory(models={"default": LOCAL, "fallback": REMOTE}))
    values = {name: value.get_secret_value() for name, value in found.credentials.items()}
    assert values == {**SECRETS, "model-fallback-api-key": REMOTE["api_key"]}
    printed = repr(found) + found.model_dump_json()
    assert not [value for value in values.values() if value in printed]


def test_undeclared_channels_have_no_credentials() -> None:
    found = settings(inventory(channels={"console": CHANNELS["console"]}))
    assert set(found.credentials) == {"console-jwt-secret"}
    assert found.telegram is None
    assert found.feishu is None
    assert found.console


def test_polling_telegram_needs_no_secret_token_and_uploads_no_certificate() -> None:
    polling = {"telegram": {"token": SECRETS["telegram-token"], "mode": "polling"}}
    found = settings(inventory(channels=polling))
    assert found.telegram is not None
    assert found.telegram.upload_certificate is None
    assert set(found.credentials) == {"telegram-token", "console-jwt-secret"}


BOTH, ALONE, FRONT = ["runtime", "nginx"], ["runtime"], ["nginx"]
LEAF, AUTHORITY = "/etc/clawd/tls/fullchain.pem", "/etc/clawd/authority.pem"


@pytest.mark.parametrize(
    ("mode", "hosts", "uploaded"),
    [
        ("own-ca", {"bot1": BOTH}, LEAF),
        ("own-ca", {"bot1": ALONE, "web1": FRONT}, AUTHORITY),
        ("own-ca", {"bot1": BOTH, "bot2": BOTH}, AUTHORITY),
        ("own-ca", {"bot1": BOTH, "web1": FRONT}, AUTHORITY),
        ("own-ca", {"bot1": ALONE}, None),
        ("self-signed", {"bot1": BOTH}, LEAF),
        ("self-signed", {"bot1": ALONE, "bot2": BOTH}, None),
        ("acme", {"bot1": BOTH}, None),
        ("acme", {"bot1": ALONE, "web1": FRONT}, None),
        ("provided", {"bot1": BOTH}, None),
    ],
)
def test_certificate_is_uploaded_to_telegram_only_when_not_publicly_trusted(
    mode: str, hosts: dict[str, list[str]], uploaded: str | None
) -> None:
    found = settings(inventory(hosts, tls={"mode": mode}))
    assert found.telegram is not None
    assert found.telegram.upload_certificate == uploaded
    assert needs_authority(found) is (uploaded == AUTHORITY)


@pytest.mark.parametrize(
    ("hosts", "registrar"),
    [
        ({"bot1": ["runtime", "nginx"]}, "bot1"),
        ({"bot1": ["runtime", "nginx"], "bot2": ["runtime", "nginx"]}, "bot1"),
        ({"bot1": ["runtime"], "bot2": ["runtime", "nginx"]}, "bot2"),
        ({"web1": ["nginx"], "bot1": ["runtime"], "bot2": ["runtime"]}, "bot1"),
    ],
)
def test_exactly_one_host_registers_the_webhook(hosts: dict[str, list[str]], registrar: str) -> None:
    declared = inventory(hosts)
    found = {name: settings(declared, name).telegram for name, roles in hosts.items() if "runtime" in roles}
    assert [name for name, telegram in found.items() if telegram and telegram.registers_webhook] == [
        registrar
    ]


@pytest.mark.parametrize(
    ("hosts", "listen"),
    [
        ({"bot1": ["runtime", "nginx"]}, None),
        ({"bot1": ["runtime"]}, None),
        ({"bot1": ["runtime"], "web1": ["nginx"]}, "0.0.0.0"),
        ({"bot1": ["runtime", "nginx"], "bot2": ["runtime", "nginx"]}, None),
        ({"bot1": ["runtime", "nginx"], "bot2": ["runtime"]}, "0.0.0.0"),
        ({"bot1": ["runtime"], "bot2": ["runtime", "nginx"]}, "0.0.0.0"),
    ],
)
def test_bot_listens_for_other_hosts_only_when_their_nginx_needs_it(
    hosts: dict[str, list[str]], listen: str | None
) -> None:
    internal = settings(inventory(hosts)).internal
    assert (internal.host if internal else None) == listen


def test_bot_listens_on_ipv6_when_its_internal_address_is_ipv6() -> None:
    hosts = {
        "bot1": {"address": "10.0.0.1", "internal_address": "fd00::1", "roles": ["runtime"]},
        "web1": {"address": "10.0.0.2", "roles": ["nginx"]},
    }
    declared = Inventory.model_validate({"hosts": hosts, "models": {"default": REMOTE}})
    internal = settings(declared).internal
    assert internal
    assert (internal.host, internal.name) == ("::", "fd00::1")


def test_host_without_local_model_has_no_engine() -> None:
    found = settings(inventory(models={"default": REMOTE}))
    assert found.engine is None
    assert found.models["default"].endpoint == "https://models.example.com/v1"
    assert found.models["default"].model == "large"


def test_local_model_is_reached_over_the_socket_of_the_engine() -> None:
    found = settings(inventory())
    assert found.models["default"].endpoint == "unix:/run/clawd-engine/engine.sock"
    assert found.engine is not None
    assert found.models["default"].model == found.engine.model_name
    assert found.models["default"].context_size == found.engine.context_size


def test_settings_are_read_from_plain_data() -> None:
    found = settings(inventory())
    plain = found.model_dump()
    plain["credentials"] = {name: value.get_secret_value() for name, value in found.credentials.items()}
    assert RuntimeSettings.model_validate(plain) == found


def test_shared_database_has_its_url_and_password_as_credential() -> None:
    hosts = {"web1": ["nginx"], "bot1": ["runtime"], "bot2": ["runtime"], "db1": ["database"]}
    found = settings(inventory(hosts, database={"password": "a-password-of-24-letters"}))
    assert found.database == database_url(inventory(hosts, database={"password": "x"}), "bot1")
    assert found.credentials["database-password"].get_secret_value() == "a-password-of-24-letters"
    assert json.loads(bot_config(found))["database"] == found.database
    assert "a-password" not in bot_config(found)
    alone = settings(inventory())
    assert alone.database is None
    assert "database-password" not in alone.credentials
    assert json.loads(bot_config(alone))["database"] == "sqlite:////var/lib/clawd-bot/bot.db"

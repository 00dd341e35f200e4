"""How strong secrets have to be, and that none is forgotten."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import BaseModel, SecretStr

from inventory.addresses import check_webhook
from inventory.model import Inventory
from inventory.reading.source import KeyPath
from inventory.rules.secrets import APART, KINDS, RULES, kind_of_secret
from tests.deploys.inventories import CHANNELS, REMOTE, inventory

GOOD = "0123456789abcdef0123456789abcdef"


def found(**changes: Any) -> dict[KeyPath, tuple[str, str]]:
    declared = inventory(**changes)
    return {at.at[0]: (at.problem, at.advice) for rule in RULES for at in rule(declared)}


def channel(name: str, **fields: Any) -> dict[str, Any]:
    return {"channels": {**CHANNELS, name: {**CHANNELS[name], **fields}}}


def secrets(secret: str) -> dict[str, dict[str, Any]]:
    """Every secret that we choose, by the part of its key path that names it."""
    return {
        "secret_token": channel("telegram", secret_token=secret),
        "encrypt_key": channel("feishu", encrypt_key=secret),
        "jwt_secret": channel("console", jwt_secret=secret),
        "database": {"database": {"password": secret}},
        "token": {"monitoring": {"alerts": {"token": secret}}},
        "admin_password": {"monitoring": {"grafana": {"admin_password": secret}}},
        "logs": {"logs": {"password": secret}},
        "reader_password": {"logs": {"reader_password": secret}},
    }


@pytest.mark.parametrize("name", secrets(""))
def test_weak_secrets_are_refused_with_a_command_that_generates_one(name: str) -> None:
    assert found(**secrets(GOOD)[name]) == {}
    for weak in ("x", "short", "elevenchars"):
        ((path, (problem, advice)),) = found(**secrets(weak)[name]).items()
        assert name in path
        assert "openssl rand" in advice
        assert weak not in problem.split() + advice.split()
        assert "at least" in problem


@pytest.mark.parametrize("letter", ["\n", "\r", "\x00", "\x1b", "\x7f"])
@pytest.mark.parametrize("name", secrets(""))
def test_secrets_with_control_characters_are_refused(name: str, letter: str) -> None:
    assert len(found(**secrets(f"{GOOD[:16]}{letter}{GOOD[16:]}")[name])) == 1


def test_api_key_with_white_space_is_refused() -> None:
    for key, good in (("sk-abc", True), ("Bearer sk-abc", False), ("sk-abc\nX-Evil: 1", False)):
        assert (found(models={"default": {**REMOTE, "api_key": key}}) == {}) is good


def test_login_passwords_may_be_any_single_line() -> None:
    for name in ("sudo_password", "ssh_key_password"):
        for secret, good in (("päss wörd", True), ("x", True), ("two\nlines", False), ("", False)):
            assert (_of_host(**{name: secret}) == {}) is good, secret
            if name == "ssh_key_password":
                assert (_of_host(bastion={"address": "192.0.2.9", name: secret}) == {}) is good


def _of_host(**keys: Any) -> dict[KeyPath, tuple[str, str]]:
    hosts = {"bot1": {"address": "192.0.2.1", **keys}}
    declared = Inventory.model_validate({"hosts": hosts, "models": {"default": REMOTE}})
    return {at.at[0]: (at.problem, at.advice) for rule in RULES for at in rule(declared)}


def test_every_secret_field_has_a_kind_with_a_rule() -> None:
    paths = list(_secrets(Inventory))
    assert len(paths) > 15
    unknown = [path for path in paths if kind_of_secret(path) is None and path not in APART]
    assert unknown == []
    assert len(KINDS) + len(APART) <= len(paths)


def _secrets(model: type[BaseModel], path: KeyPath = ()) -> list[KeyPath]:
    found: list[KeyPath] = []
    for name, info in model.model_fields.items():
        parts = [info.annotation]
        for part in parts:
            parts += get_args(part)
            more = ("*",) if "dict" in str(info.annotation) else ()
            if part is SecretStr:
                found.append((*path, name, *more))
            elif isinstance(part, type) and issubclass(part, BaseModel):
                found += _secrets(part, (*path, name, *more))
    return found


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("https://open.feishu.cn/open-apis/bot/v2/hook/a1b2", True),
        ("https://open.larksuite.com/open-apis/bot/v2/hook/a1b2", True),
        ("http://open.feishu.cn/open-apis/bot/v2/hook/a1b2", False),
        ("http://x/y", False),
        ("https://open.feishu.cn", False),
        ("https://open.feishu.cn/", False),
        ("https://open.feishu.cn/x?y=1", False),
        ("a1b2", False),
    ],
)
def test_custom_bot_webhook_must_be_https_with_a_path(address: str, good: bool) -> None:
    assert (check_webhook(address) is None) is good

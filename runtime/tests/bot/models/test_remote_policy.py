from __future__ import annotations

import pytest

from clawd_runtime.bot.models.remote_policy import Asker, RemotePolicy
from clawd_runtime.bot.values import ChatKind, ConversationKey

ALL = RemotePolicy(redact=("email", "phone", "id_number", "bank_card", "ip_address"))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("mail ada.lovelace+work@mail.example.co.uk.", "mail [email]."),
        ("发到 anna@例子.公司，谢谢", "发到 [email]，谢谢"),
        ("身份证 11010519491231002X", "身份证 [id_number]"),
        ("身份证 110105194912310021", "身份证 110105194912310021"),  # wrong check digit
        ("card 4111 1111 1111 1111", "card [bank_card]"),
        ("card 6222021234567890129", "card 6222021234567890129"),  # wrong check digit, too long for a phone
        ("电话13800138000。", "电话[phone]。"),
        ("call +1 (555) 010-1234 today", "call [phone] today"),
        ("from 192.168.1.20 to 10.0.0.1", "from [ip_address] to [ip_address]"),
        ("pi is 3.14159265358979 and 2026-11-30 is a date, 42 a number", None),
        ("version 1.2.3, port 8080, 5000000 yuan", "version 1.2.3, port 8080, [phone] yuan"),
    ],
)
def test_personal_data_is_redacted(text: str, left: str | None) -> None:
    assert ALL.redacted(text) == (text if left is None else left)


def test_nothing_is_redacted_without_being_named() -> None:
    assert RemotePolicy(redact=("email",)).redacted("13800138000 a@b.example") == "13800138000 [email]"


@pytest.mark.parametrize(
    ("policy", "kind", "allowed"),
    [
        (RemotePolicy(), "group", True),
        (RemotePolicy(channels=frozenset({"telegram"})), "private", True),
        (RemotePolicy(channels=frozenset({"feishu"})), "private", False),
        (RemotePolicy(users=frozenset({"telegram:7"})), "private", True),
        (RemotePolicy(users=frozenset({"feishu:7"})), "private", False),
        (RemotePolicy(groups=frozenset({"telegram:-100"})), "group", True),
        (RemotePolicy(groups=frozenset({"telegram:-200"})), "group", False),
        (RemotePolicy(groups=frozenset()), "private", True),
        (RemotePolicy(users=frozenset({"telegram:8"}), groups=frozenset({"telegram:-100"})), "group", False),
    ],
)
def test_policy_names_channels_users_and_groups(policy: RemotePolicy, kind: ChatKind, allowed: bool) -> None:
    asker = Asker(1, ConversationKey("telegram", "-100"), "7", kind)
    assert policy.allows(asker) is allowed

"""Who has which role where: a matrix, and the strictness of the file."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.bot.access.file import AccessTable, ChannelOpening, load_access
from clawd_runtime.bot.access.roles import may_ask_for_access, role_of
from clawd_runtime.bot.access.values import ROLES, Person, Role, has_rank
from clawd_runtime.bot.values import ChatKind, ConversationKey
from clawd_runtime.errors import SettingsError

TABLE = AccessTable.model_validate(
    {
        "channels": {"telegram": "pairing", "feishu": "tenant", "console": "open"},
        "users": {"telegram:1": "owner", "telegram:2": "admin", "telegram:3": "member"},
        "groups": ["telegram:-100"],
        "departments": {"feishu:od-hr": "admin"},
    }
)


def person(
    id: str, chat: str = "", *, outside: bool = False, departments: frozenset[str] = frozenset()
) -> Person:
    channel, _, user = id.partition(":")
    kind: ChatKind = "group" if chat else "private"
    return Person(user, ConversationKey(channel, chat or user), kind, outside, departments)


@pytest.mark.parametrize(
    ("who", "granted", "role"),
    [
        (person("telegram:1"), False, "owner"),
        (person("telegram:2"), False, "admin"),
        (person("telegram:3"), True, "member"),
        (person("telegram:9"), False, None),
        (person("telegram:9"), True, "member"),
        (person("telegram:9", "-100"), False, "member"),
        (person("telegram:9", "-200"), False, None),
        (person("telegram:2", "-200"), False, "admin"),
        (person("feishu:ou_a"), False, "member"),
        (person("feishu:ou_a", outside=True), False, None),
        (person("feishu:ou_a", outside=True), True, "member"),
        (person("feishu:ou_a", departments=frozenset({"od-hr", "od-all"})), False, "admin"),
        (person("feishu:ou_a", departments=frozenset({"od-it"})), False, "member"),
        (person("telegram:9", departments=frozenset({"od-hr"})), False, None),
        (person("console:ada"), False, "member"),
        (person("other:1"), False, None),
        (person("feishu:1"), False, "member"),
    ],
)
def test_role_follows_from_table_grant_group_and_department(
    who: Person, granted: bool, role: Role | None
) -> None:
    assert role_of(TABLE, who, granted=granted) == role


@pytest.mark.parametrize(
    ("opening", "outside", "allowed"),
    [
        ("closed", False, False),
        ("pairing", False, False),
        ("tenant", False, True),
        ("tenant", True, False),
        ("open", True, True),
    ],
)
def test_opening_of_channel(opening: ChannelOpening, outside: bool, allowed: bool) -> None:
    table = AccessTable(channels={"feishu": opening})
    assert (role_of(table, person("feishu:1", outside=outside), granted=False) == "member") is allowed


def test_code_is_offered_only_in_private_chats_of_channels_with_pairing() -> None:
    kinds: tuple[ChannelOpening, ...] = ("closed", "pairing", "tenant", "open")
    offered = [
        (opening, chat)
        for opening, chat in product(kinds, ("", "-100"))
        if may_ask_for_access(AccessTable(channels={"telegram": opening}), person("telegram:9", chat))
    ]
    assert offered == [("pairing", "")]


@pytest.mark.parametrize(
    ("role", "least", "has"),
    [
        *((role, "member", True) for role in ROLES),
        ("member", "admin", False),
        ("admin", "admin", True),
        ("owner", "admin", True),
        ("admin", "owner", False),
        ("owner", "owner", True),
    ],
)
def test_higher_roles_have_rights_of_lower_ones(role: Role, least: Role, has: bool) -> None:
    assert has_rank(role, least) is has


def test_rights_to_commands_have_defaults_and_can_be_changed() -> None:
    table = AccessTable(commands={"usage": "owner", "approve": "owner"})
    assert [table.right(name) for name in ("new", "approve", "revoke", "usage")] == [
        "member",
        "owner",
        "admin",
        "owner",
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": {"telegram": "everybody"}},
        {"users": {"telegram:1": "root"}},
        {"users": {"1": "owner"}},
        {"users": {"telegram:": "owner"}},
        {"users": {"telegram:1 2": "owner"}},
        {"groups": ["-100"]},
        {"commands": {"/new": "member"}},
        {"commands": {"stop": "admin"}},
        {"quotas": {"user": {"tokens_per_day": 0}}},
        {"quotas": {"user": {"tokens_per_day": 5, "warn_percent": 101}}},
        {"time_zone": "../etc/passwd"},
        {"unknown": 1},
        [],
    ],
)
def test_file_with_mistake_is_refused_with_its_name(tmp_path: Path, wrong: Any) -> None:
    file = tmp_path / "access.json"
    file.write_text(json.dumps(wrong))
    with pytest.raises(SettingsError, match=r"access\.json"):
        load_access(file)


@given(
    st.binary(max_size=200)
    | st.recursive(st.text() | st.integers(), st.lists).map(json.dumps).map(str.encode)
)
def test_any_content_of_file_is_loaded_or_refused(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    file = tmp_path_factory.mktemp("any") / "access.json"
    file.write_bytes(raw)
    with pytest.raises(SettingsError):
        load_access(file)


IDS = st.from_regex(r"\A[a-z]{1,8}:[A-Za-z0-9_-]{1,12}\Z")
TABLES = st.builds(
    AccessTable,
    channels=st.dictionaries(
        st.sampled_from(["telegram", "feishu"]), st.sampled_from(["closed", "pairing", "tenant", "open"])
    ),
    users=st.dictionaries(IDS, st.sampled_from(ROLES), max_size=5),
    groups=st.frozensets(IDS, max_size=3),
    departments=st.dictionaries(IDS, st.sampled_from(ROLES), max_size=3),
)


@given(TABLES, st.sampled_from(["telegram", "feishu"]), st.from_regex(r"\A[0-9]{1,6}\Z"))
def test_unknown_person_of_channel_that_is_not_open_never_has_role(
    table: AccessTable, channel: str, user: str
) -> None:
    someone = person(f"{channel}:{user}", outside=True)
    declared = someone.id in table.users or table.channels.get(channel) == "open"
    assert (role_of(table, someone, granted=False) is None) is not declared


@given(TABLES)
def test_table_survives_its_file(tmp_path_factory: pytest.TempPathFactory, table: AccessTable) -> None:
    file = tmp_path_factory.mktemp("same") / "access.json"
    file.write_text(table.model_dump_json())
    assert load_access(file) == table

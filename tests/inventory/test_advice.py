"""No mistake gives advice that the value follows already, for every type: what is advised is taken."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from inventory.model import Inventory
from inventory.reading.error_messages import Wrong, wrongs
from inventory.reading.schema_walk import Spot, spot_at
from inventory.wording import edges, shown

SUGGESTED = re.compile(r'did you mean `([^`]+)`|^write "([^"]+)" in quotes$|^write ([0-9a-f.:]+/[0-9]+)$')


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for name, info in model.model_fields.items():
        spot = spot_at(model, {}, (info.alias or name,))
        assert spot is not None
        for kind in spot.kinds:
            for part in (kind, *get_args(kind)):
                if isinstance(part, type) and issubclass(part, BaseModel):
                    yield from models(part)


def fields() -> Iterator[tuple[type[BaseModel], str, bool, Spot]]:
    """Every place of an inventory where a single value stands, and whether it stands there in a list."""
    for model in dict.fromkeys(models(Inventory)):
        for name, info in model.model_fields.items():
            key = info.alias or name
            spot = spot_at(model, {}, (key,))
            assert spot is not None
            if any(get_origin(kind) is tuple for kind in spot.kinds):
                inner = spot_at(model, {key: [""]}, (key, 0))
                if inner and inner.is_plain:
                    yield model, key, True, inner
            elif spot.is_plain:
                yield model, key, False, spot


FIELDS = list(fields())
KNOWN = (
    "512M", "20m", "1m", "10m", "03:30", "never", "Asia/Shanghai", "htop", "bot1", "cli_a1", "oc_a1", "9.4.9",
    "12.9", "1.18.0-1", "ab" * 32, "AB" * 20, "https://x.example/v1", "https://m.example", "10.0.0.0/8",
    "10.0.0.5/8", "fd00::/8", "fe80::1%eth0/64", "172.28.0.0/14", "10.0.0.1", "b.example.com", "a@b.example",
    "registry.internal/bots", "alidns", "/srv/clawd", "/dev/vdb", "postgresql://l@h.example/d", "2", "22",
    "0.5", "yes", "true",
)  # fmt: skip
WORDS = sorted(
    {
        str(word)
        for *_, spot in FIELDS
        for kind in spot.kinds
        if get_origin(kind) is Literal
        for word in get_args(kind)
    }
    | set(KNOWN)
)
around = st.sampled_from(["", "", " ", "\n", "\t", "  ", "\u00a0", "\r\n"])
values: st.SearchStrategy[Any] = (
    st.tuples(around, st.sampled_from(WORDS) | st.text(max_size=8), around).map("".join)
    | st.sampled_from(WORDS).flatmap(
        lambda word: st.sampled_from([word.upper(), word + word[-1:], word[:-1]])
    )
    | st.sampled_from([True, False, None, 0, 1, 22, 512, -1, 1.5, 10**20, [], {}])
)


def mistakes(model: type[BaseModel], key: str, in_list: bool, value: Any) -> list[Wrong]:
    """Return what is wrong with the value alone; keys that the model lacks in addition do not count."""
    data = {key: [value] if in_list else value}
    try:
        model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        return [
            wrong
            for wrong in wrongs(error.errors(include_url=False), data, model)
            if wrong.path[:1] == (key,) and not wrong.missing
        ]
    return []


@settings(max_examples=600, derandomize=True, deadline=None)
@given(field=st.sampled_from(FIELDS), value=values)
def test_advised_value_is_accepted_and_differs_from_the_given_one(
    field: tuple[type[BaseModel], str, bool, Spot], value: Any
) -> None:
    model, key, in_list, spot = field
    for wrong in mistakes(model, key, in_list, value):
        assert "\n" not in wrong.problem
        assert "\n" not in wrong.advice
        for suggestion in ("".join(found) for found in SUGGESTED.findall(wrong.advice)):
            assert suggestion != value
            assert f"`{suggestion}`" != shown(value) or not isinstance(value, str), wrong
            assert mistakes(model, key, in_list, suggestion) == [], wrong
        if isinstance(value, str) and value.strip() and not mistakes(model, key, in_list, value.strip()):
            assert "begins or ends with white space" in wrong.problem, wrong
        if isinstance(value, str) and value.isdigit() and spot.is_a(int):
            assert "without quotes" in wrong.advice, wrong


def test_fields_under_test_cover_all_sections() -> None:
    assert len(FIELDS) > 100
    assert {model.__name__ for model, *_ in FIELDS} >= {"Host", "Docker", "Tls", "Dns", "Telegram", "Backups"}


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        ("Base", "time_zone", "Asia/Shanghai\n"),
        ("Base", "packages", "htop\n"),
        ("Base", "journal_max", "512M\n"),
        ("RemoteModel", "endpoint", "https://x/v1 "),
        ("Feishu", "app_id", "cli_a1\n"),
        ("ElasticPackages", "version", " 9.4.9"),
        ("Docker", "address_pool", "172.28.0.0/14 "),
        ("Telegram", "mode", "polling "),
        ("Host", "gpu", "\tauto"),
        ("Firewall", "management", "10.0.0.0/8\n"),
    ],
)
def test_white_space_around_a_value_is_reported(model: str, key: str, value: str) -> None:
    (field,) = [field for field in FIELDS if field[0].__name__ == model and field[1] == key]
    (wrong,) = mistakes(*field[:3], value)
    assert wrong.problem.endswith("begins or ends with white space")
    assert wrong.advice.startswith("remove it")
    assert ("below `|`" in wrong.advice) == value.endswith("\n")


@given(st.text(max_size=20))
@example("a\n")
@example(" ")
def test_edges_finds_white_space_only_around_text(text: str) -> None:
    assert (edges(text) is not None) == (text.strip() not in ("", text))


def test_telegram_chat_0_is_refused() -> None:
    (field,) = [field for field in FIELDS if field[1] == "telegram_chat"]
    (wrong,) = mistakes(*field[:3], 0)
    assert wrong.problem == "0 is the id of no chat"
    assert mistakes(*field[:3], -100) == []


def test_ipv6_address_pool_is_refused_as_ipv6() -> None:
    (field,) = [field for field in FIELDS if field[1] == "address_pool"]
    for value in ("fd00::/8", "::1", "fd00::1%eth0/64"):
        (wrong,) = mistakes(*field[:3], value)
        assert wrong.problem == f"`address_pool` is `{value}`, which is an IPv6 network"
        assert wrong.advice == "write an IPv4 network such as 172.28.0.0/14"


def test_white_space_around_a_key_is_reported_on_one_line() -> None:
    for key, problem in (
        ("bot1 ", "the key `bot1` begins or ends with white space"),
        ("bot1\n", "the key `bot1` begins or ends with white space"),
        ("bot\n1", "`bot 1` is not a name"),
    ):
        data = {"hosts": {key: {"address": "10.0.0.1", "port": 0}}}
        with pytest.raises(ValidationError) as raised:
            Inventory.model_validate_json(json.dumps(data), strict=True)
        found = list(wrongs(raised.value.errors(include_url=False), data, Inventory))
        assert problem in [wrong.problem for wrong in found]
        assert not any("\n" in wrong.problem + wrong.advice for wrong in found)

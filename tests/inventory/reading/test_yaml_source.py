from __future__ import annotations

from pathlib import Path

import pytest

from inventory.errors import InventoryError
from inventory.reading.source import SourcePosition, Tagged
from inventory.reading.yaml_source import parse, read


def test_parse_returns_line_and_column_of_keys_and_values() -> None:
    source = parse("a:\n  b: 1\n  c: [x, 'y']\nd:\n", "f")
    assert source.data == {"a": {"b": 1, "c": ["x", "y"]}, "d": None}
    assert source.keys[("a", "b")] == SourcePosition(2, 3)
    assert source.values[("a", "b")] == SourcePosition(2, 6)
    assert source.values[("a", "c", 1)] == SourcePosition(3, 10)
    assert source.place(("a", "b")) == SourcePosition(2, 6)
    assert source.place(("a", "c")) == SourcePosition(3, 3)
    assert source.place(("d",)) == SourcePosition(4, 1)
    assert source.place(("a", "nothing", "here")) == SourcePosition(1, 1)
    assert source.place(()) == SourcePosition(1, 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("1_000", 1000),
        ("-1.5", -1.5),
        ("true", True),
        ("yes", "yes"),
        ("~", None),
        ("2024-01-01", "2024-01-01"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("!env NAME", Tagged("!env", "NAME")),
        ("!age |\n  one\n  two", Tagged("!age", "one\ntwo\n")),
        ("é😀", "é😀"),
    ],
)
def test_scalars_are_parsed_with_their_types(text: str, value: object) -> None:
    source = parse(f"a: {text}\n", "f")
    assert source.data == {"a": value}
    assert type(source.data["a"]) is type(value)
    assert source.mistakes == ()


def test_merge_key_inserts_only_missing_keys() -> None:
    source = parse(
        "x: &x {a: 1, b: {c: 1}}\ny: &y {a: 2, d: 2}\nz:\n  <<: [*x, *y]\n  b: {e: 3}\n",
        "f",
    )
    assert source.data["z"] == {"a": 1, "d": 2, "b": {"e": 3}}
    assert source.keys[("z", "b", "e")] == SourcePosition(5, 7)
    assert ("z", "b", "c") not in source.keys
    assert source.mistakes == ()


@pytest.mark.parametrize("text", ["a: {<<: 1}\n", "a: {<<: [1, {b: 2}]}\n"])
def test_merge_key_with_anything_but_a_mapping_is_a_mistake(text: str) -> None:
    assert [mistake.problem for mistake in parse(text, "f").mistakes] == ["`<<` requires a mapping"]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_500,
        "{a: " * 1_500,
        "- " * 5_000,
        "a: " + "[" * 30 + "]" * 30,
    ],
)
def test_deep_nesting_is_refused(text: str) -> None:
    with pytest.raises(InventoryError, match="nested too deeply"):
        parse(text, "f")


TWENTY = range(20)


@pytest.mark.parametrize(
    "inner",
    [
        f"[{', '.join('{0}' for _ in TWENTY)}]",
        f"{{{{{', '.join(f'k{number}: {{0}}' for number in TWENTY)}}}}}",
        f"{{{{<<: [{', '.join('{0}' for _ in TWENTY)}]}}}}",
    ],
    ids=["sequence", "mapping", "merge"],
)
def test_exponential_aliases_are_refused_without_expanding_them(inner: str) -> None:
    """They stand for 20^18 values, which no computer expands."""
    lines = ["a0: &a0 {k: 1}"] + [f"a{i}: &a{i} {inner.format(f'*a{i - 1}')}" for i in range(1, 19)]
    with pytest.raises(InventoryError, match="too large once its aliases are expanded"):
        parse("\n".join(lines), "f")


def test_file_that_is_not_utf_8_is_refused_with_line_and_column(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes("a: 1\nbä: ".encode() + b"\xff")
    with pytest.raises(InventoryError) as raised:
        read(tmp_path / "f", "f")
    assert str(raised.value) == "f:2:5: byte 0xff is not UTF-8\nhint: save the file as UTF-8"


def test_file_larger_than_1_mb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("# " + "x" * 1_000_001)
    with pytest.raises(InventoryError, match="larger than 1 MB"):
        read(tmp_path / "f")


def test_character_that_yaml_forbids_is_refused_with_its_code_point() -> None:
    with pytest.raises(InventoryError) as raised:
        parse("a: 1\nb: \x07\n", "f")
    assert (
        str(raised.value)
        == "f:2:4: character U+0007 is not allowed in YAML\nhint: remove this invisible character"
    )

"""Translation of pydantic's validation errors to mistakes with a position and a hint."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_interface
from typing import Any, Literal, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from inventory.errors import Mistake
from inventory.reading.schema_walk import Spot, known_keys, spot_at
from inventory.reading.source import KeyPath, Source, SourcePosition, dotted
from inventory.wording import edges, kind_of, nearest, shown

PATTERN_WORDS = {
    r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$": "lower-case letters, digits and hyphens, at most 32",
    r"^[a-z]{1,20}:[^\s:]{1,128}$": "CHANNEL:ID, such as telegram:123456789",
    r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$": "lower-case letters, digits and hyphens, at most 63",
    r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$": "lower-case letters, digits and hyphens, at most 40",
    r"^[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}$": "a login of letters, digits, `.`, `_`, `@` and `-`, at most 64",
    r"^[a-z_][a-z0-9_-]{0,31}$": "a login of lower-case letters, digits, `_` and `-`, at most 32",
    r"^[1-9][0-9]{0,8}[KMG]$": "a whole number followed by K, M or G, such as 500M",
    r"^[1-9][0-9]{0,5}[km]$": "a whole number followed by k or m, such as 1m",
    r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$": "letters, digits, `_` and `-`, at most 64",
    r"^[0-9a-f]{64}$": "the 64 hexadecimal digits (lower case) that `sha256sum` prints",
    r"^cli_[A-Za-z0-9_]+$": "`cli_` and what follows it in the developer console",
    r"^(telegram:[0-9]{1,19}|feishu:[A-Za-z0-9_-]{1,64}|console:[^\s:][^\s]{0,254})$": (
        "the channel and the person's id, which the bot shows to new people: `telegram:123456`, `feishu:ou_…`"
    ),
    r"^(telegram:-[0-9]{1,19}|feishu:oc_[A-Za-z0-9_-]{1,64})$": (
        "the channel and the group's id: `telegram:-100123456`, `feishu:oc_…`"
    ),
    r"^[a-z0-9_]{1,32}$": "a command without its slash: 1 to 32 of a-z 0-9 _",
    r"^oc_[A-Za-z0-9_]+$": "`oc_` and what follows it in the id of the group",
    r"^([01][0-9]|2[0-3]):[0-5][0-9]$": "a time of day such as 03:30, in quotes",
    r"^[A-Z_][A-Z0-9_]*$": "capital letters, digits and `_`",
    r"^[1-9][0-9]{0,5}[kmg]$": "a whole number followed by k, m or g, such as 20m",
    r"^9\.[0-9]+\.[0-9]+$": "a version of the 9 series, such as 9.4.9",
    r"^[0-9A-F]{40}$": "the 40 hexadecimal digits (upper case) of a key's fingerprint",
    r"^1[2-9]\.[0-9]$": "a version of CUDA from 12.0 on, such as 12.9, in quotes",
    r"^[1-9][0-9]{0,4}[smhd]$": "a whole number followed by s, m, h or d, such as 10m",
    r"^[0-9][0-9A-Za-z.+~-]*$": "the version of a package, such as 1.18.0-1",
    r"^(never|([01][0-9]|2[0-3]):[0-5][0-9])$": "a time of day such as 04:30, in quotes, or never",
}


@dataclass(frozen=True, slots=True)
class Wrong:
    """A mistake and the key path it is about, before its position in the file is known.

    `on_key` points at the key instead of the value.
    """

    path: KeyPath
    problem: str
    advice: str
    on_key: bool = False
    missing: bool = False

    def at(self, source: Source) -> Mistake:
        """Return the mistake with its position in `source`."""
        parent = self.path[:-1]
        if self.missing:
            place = source.key_place(parent) if parent else SourcePosition(1, 1)
        else:
            place = source.key_place(self.path) if self.on_key else source.place(self.path)
        return Mistake(source.file, place.line, place.column, self.problem, self.advice)


def wrongs(errors: Iterable[ErrorDetails], data: Any, root: type[BaseModel]) -> Iterator[Wrong]:
    """Yield the meaning of pydantic's `errors`, one for each key path.

    `data` is what was validated. Values of fields that hold secrets never appear.
    """
    reported: set[KeyPath] = set()
    for error in errors:
        path, on_key = _path(error["loc"], data)
        if error["type"] == "missing":
            path = (*path, str(error["loc"][-1]))
        elif error["type"] in ("union_tag_not_found", "union_tag_invalid"):
            path = (*path, "engine")
        # A list that is too short because its items are wrong is not a second mistake.
        if error["type"] == "too_short" and any(known[: len(path)] == path for known in reported):
            continue
        if path not in reported:
            reported.add(path)
            yield _wrong(error, path, on_key, data, root)


def _path(loc: tuple[int | str, ...], data: Any) -> tuple[KeyPath, bool]:
    """Return the part of an error's location that exists in the data, and whether the key itself is wrong.

    Pydantic adds the names of union members to a location; they are left out.
    """
    path: list[str | int] = []
    for key in loc:
        inside = key in data if isinstance(data, dict) else isinstance(data, list) and key in range(len(data))
        if inside:
            path.append(key)
            data = _at(data, (key,))
    return tuple(path), loc[-1:] == ("[key]",)


def _wrong(error: ErrorDetails, path: KeyPath, on_key: bool, data: Any, root: type[BaseModel]) -> Wrong:
    kind, where = error["type"], f"`{dotted(path)}`"
    spot = spot_at(root, data, path)
    if kind == "extra_forbidden":
        known = known_keys(root, data, path[:-1])
        place = f" in `{dotted(path[:-1])}`" if len(path) > 1 else ""
        return Wrong(path, f"unknown key `{path[-1]}`{place}", nearest(str(path[-1]), known), on_key=True)
    if kind in ("missing", "union_tag_not_found"):
        return _missing(path, spot)
    value = str(path[-1]) if on_key else _at(data, path)
    of_text = isinstance(value, str) and not kind.endswith(("_type", "_parsing"))
    if of_text and (verdict := edges(value, f"the key {shown(value)}" if on_key else where)) is not None:
        return Wrong(path, verdict[0], "remove it" if on_key else verdict[1], on_key=on_key)
    if kind == "checked":
        found: Mapping[str, Any] = error.get("ctx", {})
        return Wrong(path, found["problem"], found["advice"], on_key=on_key)
    if on_key:
        return Wrong(path, f"{shown(path[-1])} is not a name", f"use {_pattern_words(error)}", on_key=True)
    may_be_shown = spot.is_plain if spot else error["type"] == "union_tag_invalid"
    words = shown(value) if may_be_shown else kind_of(value)
    if may_be_shown and isinstance(value, str) and kind.endswith(("_type", "_parsing")):
        words = f'the string "{words[1:-1]}"'
    because = "" if value in (None, [], {}) else _because(error, spot, value)
    return Wrong(path, f"{where} is {words}{because}", _advice(error, spot, value))


def _missing(path: KeyPath, spot: Spot | None) -> Wrong:
    owner = f"`{dotted(path[:-1])}`" if len(path) > 1 else "the inventory"
    if path[-1] == "engine":
        advice = "add `engine: llama-cpp` or `engine: openai-compatible`"
    else:
        description = spot.description.rstrip(".") if spot else ""
        advice = f"add `{path[-1]}:` ({description})" if description else f"add `{path[-1]}:`"
    return Wrong(path, f"{owner} lacks `{path[-1]}`", advice, missing=True)


def _because(error: ErrorDetails, spot: Spot | None, value: Any) -> str:
    match error["type"]:
        case "greater_than_equal" | "greater_than":
            return ", which is too small"
        case "less_than_equal" | "less_than":
            return ", which is too large"
        case "string_pattern_mismatch":
            return ", which is malformed"
        case "value_error":
            network = _network(str(value))
            of_ipv6 = network is not None and network.version == 6 and _of_ipv4_only(spot)
            return ", which is an IPv6 network" if of_ipv6 else ", which is not a network"
        case kind if kind.endswith("_type"):
            return ", the wrong type"
        case _:
            return ", which is not allowed here"


def _advice(error: ErrorDetails, spot: Spot | None, value: Any) -> str:
    match error["type"]:
        case "literal_error" | "union_tag_invalid":
            return nearest(str(value), _choices(error, spot))
        case "string_pattern_mismatch":
            return f"write {_pattern_words(error)}"
        case "string_type":
            return _text_advice(spot, value)
        case (
            "int_type"
            | "float_type"
            | "greater_than_equal"
            | "greater_than"
            | "less_than_equal"
            | "less_than"
        ):
            whole = spot is None or not spot.is_a(float)
            quoted = isinstance(value, str) and bool(re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", value.strip()))
            bare = ", without quotes" if quoted else ""
            return f"write a {'whole ' if whole else ''}number{_range(spot)}{bare}"
        case "int_from_float":
            return f"write a whole number{_range(spot)}"
        case "bool_type":
            bare = ", without quotes" if str(value).strip().lower() in ("true", "false") else ""
            return f"write true or false{bare}"
        case "tuple_type" | "list_type":
            return "write a list: `[…]`, or one `- ` line for each item"
        case "model_type" | "model_attributes_type" | "dict_type":
            return (
                "write a mapping below it, or leave the key out"
                if value is None
                else "write a mapping below it: `key: value` lines"
            )
        case "string_too_short":
            return "write a value, or leave the key out"
        case "too_short":
            return "write at least one item"
        case "value_error":
            return _network_advice(str(value), spot)
        case _:
            return f"{error['msg'][:1].lower()}{error['msg'][1:]}"


def _text_advice(spot: Spot | None, value: Any) -> str:
    if spot and spot.is_secret:
        return "use !age, !env, !cmd or !file"
    if spot and not spot.is_a(str) and spot.is_a(IPv4Network):
        return _network_advice("", spot)
    for limit in spot.constraints if spot else ():
        pattern, check = getattr(limit, "pattern", None), getattr(limit, "check", None)
        if pattern and not (isinstance(value, int | float) and re.search(pattern, str(value))):
            return f"write {PATTERN_WORDS[pattern]}"
        if check and isinstance(value, int | float) and (verdict := check(_written(value))) is not None:
            return str(verdict[1])
    return (
        "write a string" if isinstance(value, dict | list | None) else f'write "{_written(value)}" in quotes'
    )


def _written(value: Any) -> str:
    """Return a value as it is written in YAML."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _choices(error: ErrorDetails, spot: Spot | None) -> tuple[str, ...]:
    if error["type"] == "union_tag_invalid":
        context: Mapping[str, Any] = error.get("ctx", {})
        return tuple(word.strip("' ") for word in str(context["expected_tags"]).split(","))
    kinds = spot.kinds if spot else ()
    return tuple(str(word) for kind in kinds if get_origin(kind) is Literal for word in get_args(kind))


def _pattern_words(error: ErrorDetails) -> str:
    return PATTERN_WORDS[error["ctx"]["pattern"]]


def _range(spot: Spot | None) -> str:
    """Return the allowed range in words: ` from 1 to 65535`, ` above 0 and below 1`."""
    words = []
    for limit in spot.constraints if spot else ():
        match limit:
            case annotated_types.Ge(ge):
                words.append(f"from {ge}")
            case annotated_types.Gt(gt):
                words.append(f"above {gt}")
            case annotated_types.Le(le):
                words.append(f"to {le}")
            case annotated_types.Lt(lt):
                words.append(f"and below {lt}")
    if len(words) == 1 and words[0].startswith("from"):
        words.append("up")
    return f" {' '.join(words)}" if words else ""


def _network_advice(value: str, spot: Spot | None) -> str:
    network = _network(value)
    if _of_ipv4_only(spot) and (network is None or network.version != 4):
        return "write an IPv4 network such as 172.28.0.0/14"
    return (
        f"write {network}" if network else "write an address or a network such as 10.0.0.0/8 or 2001:db8::/32"
    )


def _network(value: str) -> IPv4Network | IPv6Network | None:
    """Return the network of a value that has a scope or host bits; `None` when it has none."""
    try:
        return ip_interface(re.sub(r"%[^/]*", "", value)).network
    except ValueError:
        return None


def _of_ipv4_only(spot: Spot | None) -> bool:
    return spot is not None and not spot.is_a(IPv6Network)


def _at(data: Any, path: KeyPath) -> Any:
    for key in path:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return None
    return data

"""A Logstash pipeline carried out by others' programs: logstash-pipeline-parser reads it, pygrok matches.

pygrok knows names of letters only, and silently returns nothing for ECS's `[log][level]`: they are replaced
before and put back afterwards.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from logstash_pipeline_parser import Pipeline
from pygrok import Grok

Event = dict[str, Any]
OPTIONS = {
    "beats": {
        "port",
        "host",
        "ssl_enabled",
        "ssl_certificate",
        "ssl_key",
        "ssl_client_authentication",
        "ssl_certificate_authorities",
        "ssl_supported_protocols",
        "enrich",
    },
    "grok": {"match", "overwrite", "pattern_definitions", "tag_on_failure"},
    "date": {"match", "timezone", "target"},
    "mutate": {"uppercase", "copy", "replace", "remove_field", "add_tag"},
    "prune": {"whitelist_names"},
    "elasticsearch": {
        "hosts",
        "ssl_certificate_authorities",
        "user",
        "password",
        "data_stream",
    },
}
"""Of https://www.elastic.co/docs/reference/logstash/plugins, those that are used here."""


class Unknown(Exception):
    """Something that this cannot carry out."""


def read(path: Path) -> list[Any]:
    """Parse the file as a tree. Raise `Unknown` for a plugin or option that is not known."""
    # The parser takes a backslash for an escape; Logstash does not, unless configured to.
    tree = Pipeline(path.read_text().replace("\\", "\\\\")).parse()
    if [section for section, _ in tree] != ["input", "filter", "output"]:
        raise Unknown("a pipeline has input, filter and output")
    for _, steps in tree:
        _check(steps)
    return tree


def section(tree: list[Any], name: str) -> dict[str, dict[str, Any]]:
    """Return the plugins of an input or output with their options."""
    (steps,) = (steps for title, steps in tree if title == name)
    return {plugin: options(given) for plugin, given in steps}


def options(given: list[Any]) -> dict[str, Any]:
    return {name: values[0] if len(values) == 1 else values for name, values in given}


def _check(steps: list[Any]) -> None:
    for plugin, given in steps:
        if plugin in BRANCHES:
            _check(_inner(plugin, given))
            continue
        known = OPTIONS.get(plugin)
        if known is None:
            raise Unknown(f"Unable to find plugin {plugin}")
        if unknown := set(options(given)) - known:
            raise Unknown(f"Unknown setting '{min(unknown)}' for {plugin}")


def filtered(tree: list[Any], event: Event) -> Event:
    """Return the event after the filters of the pipeline."""
    (steps,) = (steps for title, steps in tree if title == "filter")
    _run(steps, event)
    event.pop("@metadata", None)
    return event


BRANCHES = ("if", "else if", "else")


def _inner(branch: str, given: list[Any]) -> list[Any]:
    """Return the steps of a branch."""
    return given if branch == "else" else given[1][0]


def _run(steps: list[Any], event: Event) -> None:
    taken = False
    for plugin, given in steps:
        if plugin not in BRANCHES:
            _apply(plugin, options(given), event)
            continue
        taken = taken and plugin != "if"
        if not taken and (plugin == "else" or _true(given[0], event)):
            taken = True
            _run(_inner(plugin, given), event)


def _true(condition: list[Any], event: Event) -> bool:
    field, *comparison = condition
    value = get(event, field)
    match comparison:
        case []:
            return value is not None and value is not False
        case ["in", [*wanted]]:
            return value in wanted
        case ["in", str(wanted)]:
            return bool(value == wanted)
        case ["==", wanted]:
            return bool(value == wanted)
        case ["=~", pattern]:
            return isinstance(value, str) and re.search(pattern, value) is not None
    raise Unknown(f"the condition {condition}")


def _apply(plugin: str, given: dict[str, Any], event: Event) -> None:
    if plugin == "grok":
        _grok(given, event)
    elif plugin == "date":
        _date(given, event)
    elif plugin == "mutate":
        _mutate(given, event)
    elif plugin == "prune":
        kept = [re.compile(name) for name in _listed(given["whitelist_names"])]
        for name in [*event]:
            if name != "@metadata" and not any(pattern.search(name) for pattern in kept):
                del event[name]
    else:
        raise Unknown(f"Unable to find plugin {plugin}")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _mutate(given: dict[str, Any], event: Event) -> None:
    """In the order of https://www.elastic.co/docs/reference/logstash/plugins/plugins-filters-mutate."""
    for field, (text,) in given.get("replace", []):
        put(event, field, _sprintf(text, event))
    for field in _listed(given.get("uppercase", [])):
        if isinstance(value := get(event, field), str):
            put(event, field, value.upper())
    for field, (other,) in given.get("copy", []):
        if (value := get(event, field)) is not None:
            put(event, other, value)
    for field in _listed(given.get("remove_field", [])):
        *above, last = _keys(field)
        place = get(event, "".join(f"[{key}]" for key in above)) if above else event
        if isinstance(place, dict):
            place.pop(last, None)
    for tag in _listed(given.get("add_tag", [])):
        event.setdefault("tags", []).append(tag)


def _sprintf(text: str, event: Event) -> str:
    """Replace `%{[a][b]}`; leave missing fields as they are written."""

    def value(found: re.Match[str]) -> str:
        there = get(event, found[1])
        return found[0] if there is None else str(there)

    return re.sub(r"%\{([^}]+)\}", value, text)


def _grok(given: dict[str, Any], event: Event) -> None:
    ((source, patterns),) = given["match"]
    definitions = tuple((name, text[0]) for name, text in given.get("pattern_definitions", []))
    flat = [text for item in patterns for text in (item if isinstance(item, list) else [item])]
    for pattern in flat:
        found = match(pattern, str(get(event, source)), definitions)
        if found is not None:
            for field, value in found.items():
                if value is None:
                    continue
                if field in event and field not in given.get("overwrite", []):
                    raise Unknown(f"{field} would have two values")
                put(event, field, value)
            return
    tags = given.get("tag_on_failure", ["_grokparsefailure"])
    if tags:
        event.setdefault("tags", []).extend(tags)


def match(pattern: str, text: str, definitions: tuple[tuple[str, str], ...] = ()) -> dict[str, Any] | None:
    """Return what `pattern` finds in `text`, by field; `None` when it does not match."""
    names: dict[str, str] = {}

    def plain(found: re.Match[str]) -> str:
        alias = f"field{len(names)}"
        names[alias] = found[2]
        return f"%{{{found[1]}:{alias}{found[3] or ''}}}"

    rewritten = re.sub(r"%\{(\w+):([^}:]+)(:\w+)?\}", plain, pattern)
    found = _compiled(rewritten, definitions).match(text)
    return (
        None if found is None else {names[alias]: value for alias, value in found.items() if alias in names}
    )


@cache
def _compiled(pattern: str, definitions: tuple[tuple[str, str], ...]) -> Grok:
    return Grok(pattern, custom_patterns=dict(definitions))


def _date(given: dict[str, Any], event: Event) -> None:
    field, form = given["match"]
    text = get(event, field)
    if text is None:
        return
    if form == "ISO8601":
        time = datetime.fromisoformat(text)
    elif form == "yyyy/MM/dd HH:mm:ss":
        time = datetime.strptime(text, "%Y/%m/%d %H:%M:%S").replace(tzinfo=ZoneInfo(given["timezone"]))
    else:
        raise Unknown(f"the date format {form}")
    stamp = time.astimezone(UTC).isoformat(timespec="milliseconds")
    event["@timestamp"] = stamp.replace("+00:00", "Z")


def _keys(field: str) -> list[str]:
    return re.findall(r"\[([^\]]+)\]", field) or [field]


def get(event: Event, field: str) -> Any:
    """Return the value of `[a][b]`."""
    value: Any = event
    for key in _keys(field):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def put(event: Event, field: str, value: Any) -> None:
    """Give `[a][b]` a value."""
    *above, last = _keys(field)
    place = event
    for key in above:
        place = place.setdefault(key, {})
    place[last] = value

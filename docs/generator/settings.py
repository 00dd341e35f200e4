"""The page of settings, from the typed model of an inventory and the explained example.

The version since which a setting exists is read from the page as it stands; a setting that it does not
have is new in the version of this program.
"""

from __future__ import annotations

import re
import tomllib
import types
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from docs.generator import example
from docs.generator.markdown import code, generated
from inventory import types as declared_types
from inventory.model import Inventory
from inventory.reading.schema_walk import further_values
from inventory.types import Declared

SINCE = re.compile(r"^- \*\*`([^`]+)`\*\* .*\n  .*; since: (\d+\.\d+\.\d+)$", re.MULTILINE)
HOW = """
Every setting that an inventory can have, from the model that checks it (`inventory/sections/`).
Examples come from
[`inventory/example-prod.yml`](../../inventory/example-prod.yml), which explains them in context. `NAME`
stands for the name that you give a host, `[]` for each entry of a list. A secret is given as `!env
NAME`, `!file PATH`, `!cmd COMMAND` or `!age` with an encrypted block, never in plain text. Paths are
relative to the inventory's folder.
"""
KINDS = {
    "Size": "size",
    "LogSize": "size",
    "BodySize": "size",
    "TimeOfDay": "time of day",
    "Duration": "duration",
    "Digest": "SHA-256 in hexadecimal",
    "Line": "text of one line",
    "Text": "text",
    "TimeZone": "IANA time zone",
    "PackageName": "name of a Debian package",
    "PublicKey": "SSH public key",
    "HostFolder": "folder on the host",
    "Device": "block device or `auto`",
    "SysctlKey": "kernel setting",
    "SysctlValue": "value of a kernel setting",
    "HostAddress": "host name or IP address",
    "SshHost": "host name, IP address or `Host` of ~/.ssh/config",
    "HostAndPort": "address and port",
    "CertificateName": "DNS name or IP address",
    "Endpoint": "URL",
    "ServerUrl": "URL",
    "Download": "URL",
    "Directory": "URL",
    "RepositoryUrl": "URL of a package repository",
    "Mirror": "URL",
    "Proxy": "URL of an HTTP proxy",
    "Unproxied": "host, domain or network",
    "RegistryUser": "login name",
    "Registry": "container registry",
    "Image": "container image",
    "Mail": "mail address",
    "DatabaseUrl": "URL of a database",
    "Network": "network (CIDR)",
    "HostName": "name",
    "ProjectName": "name",
    "Login": "login name",
    "OperatorName": "login name",
}
"""How the reference names the types in `inventory.types`."""
UNITS = {
    "Size": "bytes: a number with K, M or G",
    "LogSize": "bytes: a number with k, m or g",
    "BodySize": "bytes: a number with k or m",
    "Duration": "a number with s, m, h or d",
    "TimeOfDay": "HH:MM",
}
UNIT_OF_NAME = {
    "_seconds": "seconds",
    "_days": "days",
    "_percent": "percent",
    "_tokens": "tokens",
    "_celsius": "°C",
    "_per_minute": "per minute",
    "_per_second": "per second",
    "_fraction": "part of 1",
}
UNIT_OF_MEANING = re.compile(r"(Seconds|Days|Tokens)\b")
SIMPLE = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "file",
    IPv4Network: "network (CIDR)",
    IPv6Network: "network (CIDR)",
}
PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its path in the file, and what the model says of it."""

    path: str
    kind: str
    default: str
    unit: str
    meaning: str


def page(present: str) -> str:
    """Return the page; `present` is the page as it stands, which knows since when a setting exists."""
    version = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["version"]
    known = dict(SINCE.findall(present))
    found = tuple(settings(Inventory))
    examples = example.values(frozenset(setting.path for setting in found))
    parts = [generated("Settings", HOW)]
    for section in dict.fromkeys(setting.path.partition(".")[0] for setting in found):
        inside = [setting for setting in found if setting.path.partition(".")[0] == section]
        listed = (
            _listed(setting, examples[setting.path], known.get(setting.path, version)) for setting in inside
        )
        about = "" if inside[0].path == section else f"{_about(section)}\n\n"
        parts.append(f"## {section}\n\n{about}{''.join(listed)}")
    return "\n".join(parts)


def _listed(setting: Setting, shown: str, since: str) -> str:
    facts = (
        ("type", setting.kind),
        ("unit", setting.unit),
        ("default", setting.default),
        ("example", code(shown)),
        ("since", since),
    )
    details = "; ".join(f"{name}: {value}" for name, value in facts if value)
    return f"- **{code(setting.path)}** {setting.meaning}<br>\n  {details}\n"


def settings(model: type[Declared], prefix: str = "") -> Iterator[Setting]:
    """Yield every setting below `model`, in the order of the model."""
    hints = get_type_hints(model, include_extras=True)
    for name, info in model.model_fields.items():
        path = f"{prefix}{info.alias or name}"
        inner, suffix = _nested(hints[name])
        if not inner:
            yield _setting(path, hints[name], info)
        for one in inner:
            for setting in settings(one, f"{path}{suffix}."):
                yield setting if len(inner) == 1 else _only_with(one, setting)
    if (further := further_values(model)) is not None:
        for one in _nested(further)[0]:
            for setting in settings(one, f"{prefix}NAME."):
                yield _only_with(one, setting)


def _only_with(model: type[Declared], setting: Setting) -> Setting:
    """Return a setting of one kind of value, such as a model on the host, where there are several kinds."""
    (kind,) = get_args(model.model_fields["engine"].annotation)
    return replace(setting, meaning=f"With {code(kind)}: {setting.meaning}")


def _nested(hint: Any) -> tuple[tuple[type[Declared], ...], str]:
    """Return the models within a type, and what stands for one of several."""
    if isinstance(hint, type) and issubclass(hint, Declared):
        return (hint,), ""
    if get_origin(hint) is dict:
        return _nested(get_args(hint)[1])[0], ".NAME"
    if get_origin(hint) is tuple:
        return _nested(get_args(hint)[0])[0], "[]"
    if get_origin(hint) is Annotated or _is_union(hint):
        members = get_args(hint)[:1] if get_origin(hint) is Annotated else get_args(hint)
        found = [_nested(member) for member in members]
        return tuple(model for models, _ in found for model in models), "".join(suffix for _, suffix in found)
    return (), ""


def _setting(path: str, hint: Any, info: FieldInfo) -> Setting:
    default = "required" if info.is_required() else _shown(info.default)
    return Setting(path, _kind(hint), default, _unit(path, hint, info), info.description or "")


def _kind(hint: Any) -> str:
    name = _declared_name(hint)
    if name in KINDS:
        return KINDS[name]
    if hint is SecretStr:
        return "secret"
    if hint in SIMPLE:
        return SIMPLE[hint]
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(code, map(str, arguments)))
    if get_origin(hint) is tuple:
        return f"list: {_kind(arguments[0])}"
    if get_origin(hint) is dict:
        return f"mapping: {_kind(arguments[0])} to {_kind(arguments[1])}"
    if _is_union(hint):
        return " or ".join(dict.fromkeys(_kind(one) for one in arguments if one is not type(None)))
    if get_origin(hint) is Annotated:
        return f"{_kind(arguments[0])}{_bounds(arguments[1:])}"
    raise TypeError(f"a type without words in the reference: {hint!r}")


def _bounds(metadata: tuple[Any, ...]) -> str:
    limits = {
        type(limit).__name__: getattr(limit, type(limit).__name__.lower())
        for found in metadata
        for limit in getattr(found, "metadata", ())
        if isinstance(limit, Ge | Gt | Le | Lt)
    }
    words = {"Ge": "from", "Gt": "more than", "Le": "to", "Lt": "less than"}
    return "".join(f" {words[name]} {limits[name]}" for name in words if name in limits)


def _unit(path: str, hint: Any, info: FieldInfo) -> str:
    name = next((_declared_name(one) for one in (hint, *get_args(hint)) if _declared_name(one) in UNITS), "")
    if name:
        return UNITS[name]
    if match := UNIT_OF_MEANING.match(info.description or ""):
        return match[1].lower()
    return next((unit for end, unit in UNIT_OF_NAME.items() if path.endswith(end)), "")


def _shown(default: Any) -> str:
    if default is None or default is PydanticUndefined:
        return "none"
    if isinstance(default, bool):
        return code(str(default).lower())
    if isinstance(default, tuple | dict):
        return code(f"[{', '.join(map(str, default))}]") if default else "none"
    return code(str(default)) if str(default) else "empty"


@cache
def _names() -> tuple[tuple[Any, str], ...]:
    return tuple((value, name) for name, value in vars(declared_types).items() if name in KINDS)


def _declared_name(hint: Any) -> str:
    return next((name for value, name in _names() if value == hint), "")


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _about(section: str) -> str:
    info = Inventory.model_fields[section]
    return info.description or ""

"""Forms of an inventory that may be published: data without secrets, and a digest."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from inventory.model import Inventory
from inventory.reading.source import KeyPath

MASK = "********"

_SCRYPT_COST = 1 << 14
_SALT = b"clawd-provision inventory digest 1"


def public_view(inventory: Inventory) -> dict[str, Any]:
    """Return the inventory as data for JSON, with the keys of the file and every secret as `********`."""
    view: dict[str, Any] = inventory.model_dump(mode="json", by_alias=True)
    for path, value in _leaves(inventory):
        if isinstance(value, SecretStr):
            _replace(view, path, MASK)
    return view


def digest(inventory: Inventory, folder: Path | None = None) -> str:
    """Return 64 hexadecimal digits that change whenever anything in the inventory changes, secrets included.

    With `folder`, paths are relative to it. The digest may be published (hosts' journals keep it): it is an
    HMAC-SHA256 over the public view, keyed with scrypt over all secrets together. An attacker must guess all
    unknown secrets at the same time, at about 50 ms and 16 MiB for each attempt; with one random secret among
    them (a bot's token, the console's 32 bytes) guessing is not feasible.
    """
    view, secrets = public_view(inventory), {}
    for path, value in _leaves(inventory):
        if isinstance(value, SecretStr):
            secrets["/".join(map(str, path))] = value.get_secret_value()
        elif isinstance(value, Path) and folder is not None:
            _replace(view, path, os.path.relpath(value, folder))
    key = hashlib.scrypt(_canonical(secrets), salt=_SALT, n=_SCRYPT_COST, r=8, p=1, dklen=32)
    return hmac.new(key, _canonical(view), hashlib.sha256).hexdigest()


def _leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield every single value of a model with its key path in the public view."""
    if isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            yield from _leaves(getattr(value, name), (*path, info.alias or name))
        yield from _leaves(value.model_extra or {}, path)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, tuple):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, index))
    else:
        yield path, value


def _replace(data: Any, path: KeyPath, value: str) -> None:
    for key in path[:-1]:
        data = data[key]
    data[path[-1]] = value


def _canonical(data: Any) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()

"""A walk through the model along the data of a file: expected types and known keys at each key path."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from inventory.reading.source import KeyPath


@dataclass(frozen=True, slots=True)
class Spot:
    """The part of the model at one key path.

    `kinds` are the types allowed there (None left out), `constraints` the limits on the value,
    `optional` whether it may be left empty.
    """

    kinds: tuple[Any, ...]
    constraints: tuple[Any, ...] = ()
    optional: bool = False
    description: str = ""

    @property
    def is_secret(self) -> bool:
        """Return whether the value is a secret, which must never be shown."""
        return SecretStr in self.kinds

    @property
    def is_plain(self) -> bool:
        """Return whether the value is a single one that may be shown."""
        return all(
            get_origin(kind) is Literal or kind in (str, int, float, bool, Path, IPv4Network, IPv6Network)
            for kind in self.kinds
        )

    def is_a(self, kind: type) -> bool:
        """Return whether `kind` is one of the allowed types."""
        return kind in self.kinds


def spot_at(root: type[BaseModel], data: Any, path: KeyPath) -> Spot | None:
    """Return what the model expects at `path` of `data`; `None` where the model has nothing."""
    spot: Spot | None = _spot(root)
    for key in path:
        spot = _child(spot, data, key) if spot else None
        data = _item(data, key)
    return spot


def known_keys(root: type[BaseModel], data: Any, path: KeyPath) -> tuple[str, ...]:
    """Return the keys that a mapping at `path` may have; empty where any key or none is allowed."""
    spot = spot_at(root, data, path)
    for key in path:
        data = _item(data, key)
    model = _model(spot, data) if spot else None
    return tuple(_fields(model)) if model else ()


def leaves(root: type[BaseModel], data: Any) -> Iterator[tuple[KeyPath, Spot | None, Any]]:
    """Return every single value of `data` with what the model expects there.

    The values are collected first, so `data` may be changed during the iteration.
    """
    return iter(list(_leaves(_spot(root), data, ())))


def _leaves(spot: Spot | None, data: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Spot | None, Any]]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _leaves(_child(spot, data, key) if spot else None, value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _leaves(_child(spot, data, index) if spot else None, value, (*path, index))
    else:
        yield path, spot, data


def _child(spot: Spot, data: Any, key: str | int) -> Spot | None:
    if (model := _model(spot, data)) is not None:
        info = _fields(model).get(str(key))
        if info is None:
            return _spot(further) if (further := further_values(model)) else None
        return _spot(info.annotation, tuple(info.metadata), info.description or "")
    for kind in spot.kinds:
        arguments = get_args(kind)
        if get_origin(kind) is dict and isinstance(key, str):
            return _spot(arguments[1])
        if get_origin(kind) is tuple and isinstance(key, int):
            return _spot(arguments[0])
    return None


def _spot(annotation: Any, constraints: tuple[Any, ...] = (), description: str = "") -> Spot:
    if get_origin(annotation) is Annotated:
        inner, *extra = get_args(annotation)
        limits = tuple(
            limit for item in extra for limit in (item.metadata if isinstance(item, FieldInfo) else [item])
        )
        return _spot(inner, (*constraints, *limits), description)
    if get_origin(annotation) in (Union, types.UnionType):
        spots = [_spot(choice) for choice in get_args(annotation) if choice is not type(None)]
        return Spot(
            tuple(kind for spot in spots for kind in spot.kinds),
            (*constraints, *(limit for spot in spots for limit in spot.constraints)),
            type(None) in get_args(annotation),
            description,
        )
    return Spot((annotation,), constraints, False, description)


def _model(spot: Spot, data: Any) -> type[BaseModel] | None:
    models = [kind for kind in spot.kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    if len(models) <= 1 or not isinstance(data, dict):
        return models[0] if len(models) == 1 else None
    return next((model for model in models if _names_itself(model, data)), None)


def _names_itself(model: type[BaseModel], data: dict[str, Any]) -> bool:
    """Return whether the data has the discriminator of this model of a union."""
    return any(
        get_origin(info.annotation) is Literal and key in data and data[key] in get_args(info.annotation)
        for key, info in _fields(model).items()
    )


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {info.alias or name: info for name, info in model.model_fields.items()}


def further_values(model: type[BaseModel]) -> Any:
    """Return the type of the values of names that a model does not list; None if it refuses such names."""
    if model.model_config.get("extra") != "allow":
        return None
    return get_args(get_type_hints(model, include_extras=True)["__pydantic_extra__"])[1]


def _item(data: Any, key: str | int) -> Any:
    try:
        return data[key]
    except (KeyError, IndexError, TypeError):
        return None

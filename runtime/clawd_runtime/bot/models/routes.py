"""The table of routes: which model answers which share of conversations. Read while the bot runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from clawd_runtime.bot.settings import BotModels, ModelEndpoint, SettingsSection, problems_of
from clawd_runtime.bot.values import ConversationKey
from clawd_runtime.errors import SettingsError

DEFAULT = "default"
FALLBACK = "fallback"
RoutedName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]


class JudgeSettings(SettingsSection):
    """How much worse than the default a model with a share may be, before its share is taken away.

    Compared are the answers of the last `window_seconds`, once the model has given `least`. `errors` and
    `cut` are differences of shares (0.05: five of a hundred more), `slower` is a factor of the median times.
    """

    window_seconds: Annotated[float, Field(ge=10, le=86_400)] = 600.0
    least: Annotated[int, Field(ge=3, le=10_000)] = 20
    errors: Annotated[float, Field(ge=0, le=1)] = 0.05
    cut: Annotated[float, Field(ge=0, le=1)] = 0.1
    slower: Annotated[float, Field(ge=1, le=100)] = 1.5


class RouteTable(SettingsSection):
    """The whole table. `shares` are percentages of the conversations; the rest is the default's."""

    version: Annotated[int, Field(ge=0)] = 0
    models: dict[RoutedName, ModelEndpoint]
    shares: dict[RoutedName, Annotated[int, Field(ge=0, le=100)]] = Field(default_factory=dict)
    judge: JudgeSettings = JudgeSettings()

    @model_validator(mode="after")
    def _consistent(self) -> RouteTable:
        if DEFAULT not in self.models:
            raise ValueError("models: there must be a model `default`")
        if unknown := sorted(self.shares.keys() - self.models.keys()):
            raise ValueError(f"shares: no model is called {', '.join(unknown)}")
        if self.shares.keys() & {DEFAULT, FALLBACK}:
            raise ValueError("shares: default and fallback have none of their own")
        if sum(self.shares.values()) > 100:
            raise ValueError("shares: more than 100 % together")
        return self

    def order(self, conversation: ConversationKey, stopped: Collection[str] = ()) -> tuple[str, ...]:
        """Return the models for a conversation, the one that answers it first.

        A conversation stays with its model while shares grow. `stopped` models lose their share.
        """
        point, edge = _point(conversation), 0
        first = DEFAULT
        for name, share in self.shares.items():
            edge += share
            if point < edge:
                first = DEFAULT if name in stopped else name
                break
        names = (first, DEFAULT, *((FALLBACK,) if FALLBACK in self.models else ()))
        return tuple(dict.fromkeys(names))

    def entry(self, name: str) -> str:
        """Return the digest of what this version says about a model: its settings and its share."""
        model = self.models.get(name)
        settings = model.model_dump(mode="json") if model else None
        said = json.dumps([self.version, settings, self.shares.get(name)], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def table_of(models: BotModels) -> RouteTable:
    """Return the table of a bot; raise `SettingsError` if its file cannot be used."""
    if models.routes is not None:
        return load_routes(models.routes)
    named = {DEFAULT: models.default, FALLBACK: models.fallback}
    return RouteTable(models={name: model for name, model in named.items() if model is not None})


def load_routes(path: Path) -> RouteTable:
    """Return the table in a file; raise `SettingsError`, naming the file and every invalid field."""
    try:
        return RouteTable.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except ValidationError as error:
        raise SettingsError("\n".join(f"{path}: {problem}" for problem in problems_of(error))) from None


def _point(conversation: ConversationKey) -> float:
    """Return where a conversation is between 0 and 100, always the same."""
    parts = (conversation.channel, conversation.chat, conversation.thread)
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * 100

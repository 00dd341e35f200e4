"""The file of access (`access.json`): who may use the bot. Strict; read again while the bot runs."""

from __future__ import annotations

from datetime import UTC, tzinfo
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, ValidationError

from clawd_runtime.bot.access.values import Role
from clawd_runtime.bot.settings import SettingsSection, problems_of
from clawd_runtime.bot.text.commands import STOP
from clawd_runtime.errors import SettingsError

ChannelOpening = Literal["closed", "pairing", "tenant", "open"]
"""Which other people may use a channel, apart from those with a role: none (`closed`; with `pairing` they may
ask for access), all of the organisation (`tenant`), or all (`open`).
"""
QualifiedId = Annotated[str, Field(pattern=r"^[a-z]{1,20}:[^\s:][^\s]{0,254}$")]
"""A person, group or department of a channel: `telegram:123`."""


def _can_need_a_role(command: str) -> str:
    if command == STOP:
        raise ValueError("/stop is for everyone: it only reaches messages of its sender")
    return command


CommandName = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$"), AfterValidator(_can_need_a_role)]
DEFAULT_RIGHTS: dict[str, Role] = {"approve": "admin", "revoke": "admin"}
"""The least role for commands; all other commands are for members."""


class DailyQuota(SettingsSection):
    """Tokens of prompts and answers in a day; from `warn_percent` of them on, answers carry a warning."""

    tokens_per_day: Annotated[int, Field(ge=1, le=10**12)]
    warn_percent: Annotated[int, Field(ge=1, le=100)] = 80


class DailyQuotas(SettingsSection):
    """The quotas: of every person and group, of certain ones instead, and of models."""

    user: DailyQuota | None = None
    group: DailyQuota | None = None
    users: dict[QualifiedId, DailyQuota] = Field(default_factory=dict)
    groups: dict[QualifiedId, DailyQuota] = Field(default_factory=dict)
    models: dict[str, DailyQuota] = Field(default_factory=dict)


class AccessTable(SettingsSection):
    """The whole file. A channel that is not in `channels` is closed.

    Everybody may ask in one of the `groups`, but only there. `commands` are the least roles for commands.
    Days begin at midnight in `time_zone`.
    """

    channels: dict[str, ChannelOpening] = Field(default_factory=dict)
    users: dict[QualifiedId, Role] = Field(default_factory=dict)
    groups: frozenset[QualifiedId] = frozenset()
    departments: dict[QualifiedId, Role] = Field(default_factory=dict)
    commands: dict[CommandName, Role] = Field(default_factory=dict)
    quotas: DailyQuotas = DailyQuotas()
    time_zone: Annotated[str, Field(pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}$")] = "UTC"

    def zone(self) -> tzinfo:
        """Return the time zone, or UTC where the host does not know it."""
        try:
            return ZoneInfo(self.time_zone)
        except (KeyError, ValueError, OSError):
            return UTC

    def right(self, command: str) -> Role:
        """Return the least role for a command, which is named without its slash."""
        return self.commands.get(command, DEFAULT_RIGHTS.get(command, "member"))


def load_access(path: Path) -> AccessTable:
    """Return the table in a file; raise `SettingsError`, naming the file and every invalid field."""
    try:
        return AccessTable.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except ValidationError as error:
        raise SettingsError("\n".join(f"{path}: {problem}" for problem in problems_of(error))) from None

"""The section `access` of an inventory."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from inventory.types import Declared, HostName

PersonId = Annotated[
    str,
    Field(pattern=r"^(telegram:[0-9]{1,19}|feishu:[A-Za-z0-9_-]{1,64}|console:[^\s:][^\s]{0,254})$"),
]
"""A person of a channel, by the id of the platform: `telegram:123456`, `feishu:ou_…`."""
GroupId = Annotated[str, Field(pattern=r"^(telegram:-[0-9]{1,19}|feishu:oc_[A-Za-z0-9_-]{1,64})$")]
"""A group of a channel, by the id of the platform: `telegram:-100123456`, `feishu:oc_…`."""
AccessRole = Literal["member", "admin", "owner"]


def _can_need_a_role(command: str) -> str:
    if command == "stop":
        raise PydanticCustomError(
            "checked",
            "{problem}; {advice}",
            {
                "problem": "the command `stop` cannot need a role: it only reaches messages of its sender",
                "advice": "remove it",
            },
        )
    return command


BotCommand = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$"), AfterValidator(_can_need_a_role)]


class TokenQuota(Declared):
    """How many tokens may be used in a day, prompts and answers together."""

    tokens_per_day: Annotated[int, Field(ge=1, le=10**12)] = Field(
        description="Tokens from which on the bot answers no more on that day."
    )
    warn_percent: Annotated[int, Field(ge=1, le=100)] = Field(
        80, description="Percentage of the tokens from which on answers carry a warning."
    )


class TokenQuotas(Declared):
    """Daily quotas of tokens. Days begin at midnight in `base.time_zone`."""

    user: TokenQuota | None = Field(None, description="Quota of each person.")
    group: TokenQuota | None = Field(None, description="Quota of each group.")
    users: dict[PersonId, TokenQuota] = Field({}, description="Quotas of certain people instead.")
    groups: dict[GroupId, TokenQuota] = Field({}, description="Quotas of certain groups instead.")
    models: dict[HostName, TokenQuota] = Field(
        {}, description="Quotas of models; one that is used up is not asked any more on that day."
    )


class Access(Declared):
    """Who may use the bot, for what, and how much."""

    telegram: Literal["closed", "pairing", "open"] = Field(
        "pairing",
        description="Other people than those with a role, on Telegram: `closed` if the bot only answers, "
        "in private chats, that they may not use it, `pairing` if they get a code "
        "that an administrator confirms, `open` if everyone may use the bot.",
    )
    feishu: Literal["closed", "pairing", "tenant", "open"] = Field(
        "pairing",
        description="The same on Feishu; `tenant` if everyone of the app's own tenant may use the bot.",
    )
    users: dict[PersonId, AccessRole] = Field(
        {}, description="Roles of people. Administrators may use /approve and /revoke."
    )
    groups: tuple[GroupId, ...] = Field(
        (), description="Groups in which everyone may ask the bot, but only there."
    )
    commands: dict[BotCommand, AccessRole] = Field(
        {},
        description="Least roles for commands of the bot, which are named without the slash; not for `stop`, "
        "which only reaches messages of its sender.",
    )
    quotas: TokenQuotas = Field(TokenQuotas(), description="Daily quotas of tokens.")

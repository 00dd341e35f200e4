"""Which role someone has in a chat, from the table of access and what was granted. Pure."""

from __future__ import annotations

from clawd_runtime.bot.access.file import AccessTable
from clawd_runtime.bot.access.values import Person, Role, highest


def role_of(table: AccessTable, person: Person, *, granted: bool) -> Role | None:
    """Return the role of `person` in this chat; None if they may not use the bot.

    `granted`: an administrator has confirmed their code. Roles above member come only from the table.
    """
    channel = person.conversation.channel
    roles: list[Role] = [
        role
        for id, role in table.departments.items()
        if id.startswith(f"{channel}:") and id.partition(":")[2] in person.departments
    ]
    if person.id in table.users:
        roles.append(table.users[person.id])
    opening = table.channels.get(channel, "closed")
    is_open = opening == "open" or (opening == "tenant" and not person.outside)
    if granted or is_open or person.group in table.groups:
        roles.append("member")
    return highest(roles)


def may_ask_for_access(table: AccessTable, person: Person) -> bool:
    """Return whether `person`, who has no role, gets a code: in a private chat, not in a group."""
    return person.chat_kind == "private" and table.channels.get(person.conversation.channel) == "pairing"

"""The methods that answer at once: sending, editing, drafts, commands, who am I.

Descriptions of errors and the order of checks follow the source of the platform's own server
(github.com/tdlib/telegram-bot-api, Client.cpp).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.standins.telegram.entities import trimmed
from tests.standins.telegram.state import DEFAULT_UPDATES, Bot, Chat
from tests.standins.telegram.text import MESSAGE_UNITS, BadMarkup, found_entities, from_html, units
from tests.standins.telegram.wire import ApiError, Call

MAX_TEXT_BYTES = 1 << 15
ACTIONS = {
    "typing",
    "upload_photo",
    "record_video",
    "upload_video",
    "record_voice",
    "upload_voice",
    "upload_document",
    "choose_sticker",
    "find_location",
    "record_video_note",
    "upload_video_note",
}
FORBIDDEN = {
    "blocked": "Forbidden: bot was blocked by the user",
    "kicked": "Forbidden: bot was kicked from the group chat",
    "deactivated": "Forbidden: user is deactivated",
}
COMMAND = re.compile(r"[a-z0-9_]{1,32}")


def get_me(bot: Bot, call: Call) -> dict[str, Any]:
    """Return the bot of the token."""
    return bot.me()


def send_message(bot: Bot, call: Call) -> dict[str, Any]:
    """Send a text to a chat."""
    text, entities = _formatted(call)
    chat = _writable_chat(bot, call)
    extra = _thread(chat, call) | _reply(bot, chat, call)
    _check_length(text)
    bot.limits.spend(chat, bot.clock())
    if entities:
        extra["entities"] = entities
    message = bot.message(chat, bot.as_user(), text, extra)
    bot.sent.append(message)
    return message


def edit_message_text(bot: Bot, call: Call) -> dict[str, Any]:
    """Change the text of a message of the bot. Edits count as messages."""
    text, entities = _formatted(call)
    chat = _writable_chat(bot, call)
    message = bot.messages.get((chat.id, call.integer("message_id")))
    if message is None:
        raise ApiError(400, "Bad Request: message to edit not found")
    if message["from"]["id"] != bot.id:
        raise ApiError(400, "Bad Request: message can't be edited")
    _check_length(text)
    if message["text"] == text and message.get("entities", []) == (entities or found_entities(text)):
        raise ApiError(
            400,
            "Bad Request: message is not modified: specified new message content and reply markup are "
            "exactly the same as a current content and reply markup of the message",
        )
    bot.limits.spend(chat, bot.clock())
    message |= {"text": text, "edit_date": int(bot.clock()), "entities": entities or found_entities(text)}
    return message


def send_message_draft(bot: Bot, call: Call) -> bool:
    """Show a part of a message that is still being written; only to a person."""
    text, _ = _formatted(call)
    chat = _writable_chat(bot, call)
    if chat.type != "private":
        raise ApiError(400, "Bad Request: method is available only in private chats")
    if not call.integer("draft_id"):
        raise ApiError(400, "Bad Request: draft_id must be non-zero")
    _thread(chat, call)
    if units(text) > MESSAGE_UNITS:
        raise ApiError(400, "Bad Request: message is too long")
    bot.drafts[chat.id, call.integer("draft_id")] = text
    return True


def send_chat_action(bot: Bot, call: Call) -> bool:
    """Show "typing" and the like for five seconds."""
    if call.text("action") not in ACTIONS:
        raise ApiError(400, "Bad Request: wrong parameter action in request")
    _thread(_writable_chat(bot, call), call)
    return True


def set_my_commands(bot: Bot, call: Call) -> bool:
    """Set the list that a user is shown on typing a slash."""
    commands = call.json("commands")
    if not isinstance(commands, list):
        raise ApiError(400, "Bad Request: can't parse commands list JSON object")
    if len(commands) > 100:
        raise ApiError(400, "Bad Request: BOT_COMMANDS_TOO_MUCH")
    for each in commands:
        if not isinstance(each, dict) or not COMMAND.fullmatch(
            str(each.get("command", "")).removeprefix("/")
        ):
            raise ApiError(400, "Bad Request: BOT_COMMAND_INVALID")
        if not 1 <= len(str(each.get("description", ""))) <= 256:
            raise ApiError(400, "Bad Request: BOT_COMMAND_DESCRIPTION_INVALID")
    bot.commands = commands
    return True


def get_my_commands(bot: Bot, call: Call) -> list[dict[str, str]]:
    """Return the last arguments of `setMyCommands`."""
    return bot.commands


def get_webhook_info(bot: Bot, call: Call) -> dict[str, Any]:
    """Return the state of the webhook."""
    info: dict[str, Any] = {
        "url": bot.webhook.url if bot.webhook else "",
        "has_custom_certificate": bool(bot.webhook and bot.webhook.certificate),
        "pending_update_count": len(bot.queue),
    }
    if bot.last_error:
        info["last_error_date"], info["last_error_message"] = bot.last_error
    if bot.allowed_updates != DEFAULT_UPDATES:
        info["allowed_updates"] = list(bot.allowed_updates)
    if bot.webhook:
        info["max_connections"] = bot.webhook.max_connections
        info["ip_address"] = bot.webhook.ip_address
    return info


METHODS: dict[str, Callable[[Bot, Call], Any]] = {
    "getme": get_me,
    "sendmessage": send_message,
    "editmessagetext": edit_message_text,
    "sendmessagedraft": send_message_draft,
    "sendchataction": send_chat_action,
    "setmycommands": set_my_commands,
    "getmycommands": get_my_commands,
    "getwebhookinfo": get_webhook_info,
}


def _formatted(call: Call) -> tuple[str, list[dict[str, Any]]]:
    """Return text and given entities; those that the platform detects are added with the message."""
    source, mode = call.text("text"), call.text("parse_mode").lower()
    if len(source.encode()) > MAX_TEXT_BYTES:
        raise ApiError(400, "Bad Request: text is too long")
    if mode in {"", "none"}:
        return trimmed(source, call.json("entities"))
    if mode != "html":
        known = mode in {"markdown", "markdownv2"}
        what = "stand-in: this parse_mode is not modelled" if known else "unsupported parse_mode"
        raise ApiError(400, f"Bad Request: {what}")
    try:
        return from_html(source.strip())
    except BadMarkup as wrong:
        raise ApiError(400, f"Bad Request: can't parse entities: {wrong}") from None


def _check_length(text: str) -> None:
    if not text:
        raise ApiError(400, "Bad Request: message text is empty")
    if units(text) > MESSAGE_UNITS:
        raise ApiError(400, "Bad Request: message is too long")


def _writable_chat(bot: Bot, call: Call) -> Chat:
    if not call.text("chat_id"):
        raise ApiError(400, "Bad Request: chat_id is empty")
    chat = bot.chats.get(call.integer("chat_id"))
    if chat is None:
        raise ApiError(400, "Bad Request: chat not found")
    if chat.state != "active":
        raise ApiError(403, FORBIDDEN[chat.state])
    return chat


def _thread(chat: Chat, call: Call) -> dict[str, Any]:
    thread = call.integer("message_thread_id")
    if not thread:
        return {}
    if thread in chat.closed_threads:
        raise ApiError(400, "Bad Request: TOPIC_CLOSED")
    if thread not in chat.threads:
        raise ApiError(400, "Bad Request: message thread not found")
    return {"message_thread_id": thread, "is_topic_message": True}


def _reply(bot: Bot, chat: Chat, call: Call) -> dict[str, Any]:
    given = call.json("reply_parameters")
    if given is None:
        return {}
    if not isinstance(given, dict) or not isinstance(given.get("message_id"), int):
        raise ApiError(400, "Bad Request: can't parse reply parameters JSON object")
    original = bot.messages.get((int(given.get("chat_id", chat.id)), given["message_id"]))
    if original is None and not given.get("allow_sending_without_reply"):
        raise ApiError(400, "Bad Request: message to be replied not found")
    without = {key: value for key, value in (original or {}).items() if key != "reply_to_message"}
    return {"reply_to_message": without} if original else {}

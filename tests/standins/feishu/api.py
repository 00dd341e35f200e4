"""The endpoints that the bot calls: token, bot information, sending and replying.

Codes, limits and fields are those of the platform's own pages "tenant_access_token_internal", "Reply
message", "Send message", "Frequency limits" and "How to resolve error 230001"; HTTP status and wording of the
token errors are as other people observed them (200 from the token endpoint, 400 elsewhere).
"""

from __future__ import annotations

import json
from typing import Any

from starlette.datastructures import Headers

from tests.standins.feishu.card_entities import entity_in
from tests.standins.feishu.cards import check_card
from tests.standins.feishu.state import ApiError, Chat, Platform

LARGEST = {"text": 150 * 1024, "post": 30 * 1024, "interactive": 30 * 1024}
LONGEST_UUID = 50
EMOJI = {"Get", "OnIt", "THUMBSUP", "Typing"}
INVALID = "Your request contains an invalid request parameter"


def tenant_token(platform: Platform, body: dict[str, Any]) -> dict[str, Any]:
    """Answer `POST /auth/v3/tenant_access_token/internal`; refusals come with HTTP 200."""
    known = platform.credentials
    if not isinstance(body.get("app_id"), str) or not str(body.get("app_id")).startswith("cli_"):
        raise ApiError(10003, "invalid param", status=200)
    if body["app_id"] != known.app_id:
        raise ApiError(10014, "app id not exists", status=200)
    if body.get("app_secret") != known.app_secret:
        raise ApiError(10014, "app secret invalid", status=200)
    token = platform.issue_token()
    left = int(token.expires - platform.clock())
    return {"code": 0, "msg": "ok", "tenant_access_token": token.value, "expire": left}


def authorize(platform: Platform, headers: Headers) -> None:
    """Refuse a call without a token that is valid now."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme != "Bearer" or not token:
        said = "Missing access token for authorization. Please make a request with token attached."
        raise ApiError(99991661, said)
    if not platform.accepts(token):
        said = "Invalid access token for authorization. Please make a request with token attached."
        raise ApiError(99991663, said)


def bot_info(platform: Platform) -> dict[str, Any]:
    """Answer `GET /bot/v3/info`."""
    bot = {
        "activate_status": 2,
        "app_name": platform.bot_name,
        "avatar_url": "https://s1.example.invalid/avatar.png",
        "ip_white_list": [],
        "open_id": platform.bot_open_id,
    }
    return {"code": 0, "msg": "ok", "bot": bot}


def create_message(platform: Platform, receive_id_type: str, body: dict[str, Any]) -> dict[str, Any]:
    """Answer `POST /im/v1/messages`."""
    if receive_id_type not in {"open_id", "chat_id"}:
        raise ApiError(99992402, "field validation failed", field_violations=[{"field": "receive_id_type"}])
    _validate(body, required=("receive_id", "msg_type", "content"))
    receiver = body["receive_id"]
    if receive_id_type == "chat_id":
        chat = platform.chats.get(receiver)
    else:
        chat = next((each for each in platform.chats.values() if each.user == receiver), None)
    if chat is None:
        raise ApiError(230001, f"{INVALID}, ext=invalid receive_id.")
    return _deliver(platform, chat, body, None)


def reply_message(platform: Platform, message_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Answer `POST /im/v1/messages/:message_id/reply`."""
    _validate(body, required=("msg_type", "content"))
    parent = platform.messages.get(message_id)
    if parent is None:
        raise ApiError(230001, f"{INVALID}, ext=invalid message_id.")
    if message_id in platform.deleted:
        raise ApiError(231003, "The message is not found, perhaps because it has been deleted.")
    if message_id in platform.recalled:
        raise ApiError(230011, "The message is recalled.")
    return _deliver(platform, platform.chats[parent["chat_id"]], body, parent)


def get_message(platform: Platform, message_id: str) -> dict[str, Any]:
    """Answer `GET /im/v1/messages/:message_id`, of messages of users and of the bot."""
    platform.spend_call("get")
    message = _known(platform, message_id)
    if "body" in message:
        return {"code": 0, "msg": "success", "data": {"items": [message]}}
    mentions = [
        {"key": each["key"], "id": each["id"]["open_id"], "id_type": "open_id", "name": each["name"]}
        for each in message.get("mentions", [])
    ]
    deleted = message_id in platform.recalled
    shown: dict[str, Any] = {
        **{name: message[name] for name in ("message_id", "create_time", "update_time", "chat_id")},
        **{name: message[name] for name in ("thread_id", "parent_id") if name in message},
        "msg_type": message["message_type"],
        "deleted": deleted,
        "updated": False,
        "body": {"content": "This message was recalled" if deleted else message["content"]},
        **({"mentions": mentions} if mentions else {}),
    }
    return {"code": 0, "msg": "success", "data": {"items": [shown]}}


def recall_message(platform: Platform, message_id: str) -> dict[str, Any]:
    """Answer `DELETE /im/v1/messages/:message_id`, of a message of the bot."""
    platform.spend_call("recall")
    message = _known(platform, message_id)
    if message_id in platform.recalled:
        raise ApiError(230011, "The message is recalled.")
    if "body" not in message:
        raise ApiError(230026, "No permission to recall this message.")
    platform.recalled.add(message_id)
    message["deleted"] = True
    return {"code": 0, "msg": "success", "data": {}}


def add_reaction(platform: Platform, message_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Answer `POST /im/v1/messages/:message_id/reactions`; the same emoji is the same reaction."""
    platform.spend_call("react")
    kind = body.get("reaction_type")
    emoji = kind.get("emoji_type") if isinstance(kind, dict) else None
    if not platform.may_react:
        raise ApiError(99991672, "Access denied. One of the following scopes is required", status=400)
    if emoji not in EMOJI:
        raise ApiError(231001, "reaction type is invalid.")
    _known(platform, message_id)
    if message_id in platform.recalled:
        raise ApiError(231003, "The message is not found, perhaps because it has been deleted.")
    found = platform.reactions.setdefault(
        (message_id, emoji), f"ZCaCIjUBVVWSrm5L{len(platform.reactions):016x}"
    )
    return {
        "code": 0,
        "msg": "success",
        "data": {"reaction_id": found, "reaction_type": {"emoji_type": emoji}},
    }


def delete_reaction(platform: Platform, message_id: str, reaction_id: str) -> dict[str, Any]:
    """Answer `DELETE /im/v1/messages/:message_id/reactions/:reaction_id`."""
    platform.spend_call("take back")
    for place, known in platform.reactions.items():
        if known == reaction_id and place[0] == message_id:
            del platform.reactions[place]
            return {"code": 0, "msg": "success", "data": {"reaction_id": reaction_id}}
    raise ApiError(231007, "The reaction is not found.")


def _known(platform: Platform, message_id: str) -> dict[str, Any]:
    message = platform.messages.get(message_id)
    if message is None:
        raise ApiError(230001, f"{INVALID}, ext=invalid message_id.")
    if message_id in platform.deleted:
        raise ApiError(231003, "The message is not found, perhaps because it has been deleted.")
    if platform.chats[message["chat_id"]].state == "left":
        raise ApiError(230002, "The bot can not be outside the group.")
    return message


def _validate(body: dict[str, Any], required: tuple[str, ...]) -> None:
    wrong = [
        {"field": name, "description": f"{name} is required"}
        for name in required
        if not isinstance(body.get(name), str) or not body[name]
    ]
    uuid = body.get("uuid", "")
    if not isinstance(uuid, str) or len(uuid) > LONGEST_UUID:
        wrong.append({"field": "uuid", "description": f"the max len is {LONGEST_UUID}"})
    if wrong:
        raise ApiError(99992402, "field validation failed", field_violations=wrong)


def _deliver(
    platform: Platform, chat: Chat, body: dict[str, Any], parent: dict[str, Any] | None
) -> dict[str, Any]:
    if entity_in(body["msg_type"], body["content"]) is None:
        _check_content(body["msg_type"], body["content"])
    if chat.state == "left":
        raise ApiError(230002, "The bot can not be outside the group.")
    if chat.state == "unavailable":
        raise ApiError(230013, "Bot has NO availability to this user.")
    uuid = body.get("uuid", "")
    if uuid and (already := platform.remembered(uuid)):
        return {"code": 0, "msg": "success", "data": already}
    platform.spend(chat)
    thread = body.get("reply_in_thread") is True
    message = platform.send(chat, body["msg_type"], body["content"], parent, thread=thread)
    if uuid:
        platform.uuids[uuid] = (platform.clock(), message)
    return {"code": 0, "msg": "success", "data": message}


def _check_content(msg_type: str, content: str) -> None:
    if msg_type not in LARGEST:
        raise ApiError(230001, f"{INVALID}, ext=stand-in: msg_type {msg_type} is not modelled.")
    if len(content.encode()) > LARGEST[msg_type]:
        raise ApiError(230025, "The length of the message content reaches its limit.")
    try:
        parsed = json.loads(content)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise ApiError(230001, f"{INVALID}, ext=content is not a string in json format.")
    if msg_type == "text" and not (isinstance(parsed.get("text"), str) and parsed["text"]):
        raise ApiError(230001, f"{INVALID}, ext=text content is empty.")
    if msg_type == "interactive":
        check_card(parsed)

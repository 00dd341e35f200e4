"""The parts of a Telegram message that are not text, by field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clawd_runtime.bot.foreign_json import LONGEST_NAME
from clawd_runtime.bot.text.unicode import whole_characters
from clawd_runtime.bot.values import MessagePart, PartKind

# The content types of users' messages other than text.
PARTS: Mapping[str, PartKind] = {
    "animation": "animation",
    "audio": "audio",
    "checklist": "checklist",
    "contact": "contact",
    "dice": "dice",
    "document": "file",
    "game": "game",
    "giveaway": "other",
    "giveaway_winners": "other",
    "invoice": "other",
    "live_photo": "picture",
    "location": "location",
    "paid_media": "picture",
    "photo": "picture",
    "poll": "poll",
    "rich_message": "other",
    "sticker": "sticker",
    "story": "story",
    "venue": "location",
    "video": "video",
    "video_note": "video",
    "voice": "voice",
}
# A GIF is also sent as a file, and a venue as a location.
SAID_ALREADY = {"animation": "document", "venue": "location"}
NAMED_BY = {
    "audio": ("title", "file_name"),
    "checklist": ("title",),
    "contact": ("first_name", "last_name", "phone_number"),
    "dice": ("emoji",),
    "document": ("file_name",),
    "game": ("title",),
    "poll": ("question",),
    "sticker": ("emoji",),
    "venue": ("title", "address"),
    "video": ("file_name",),
}
LONGEST_PART_NAME = 200
# Fields with properties of a message, not with content.
NOT_CONTENT = frozenset(
    (
        *("message_id", "date", "chat", "message_thread_id", "direct_messages_topic", "from"),
        *("sender_chat", "sender_boost_count", "sender_business_bot", "sender_tag", "guest_query_id"),
        *("business_connection_id", "forward_origin", "is_topic_message", "is_automatic_forward"),
        *("reply_to_message", "external_reply", "quote", "reply_to_story"),
        *("reply_to_checklist_task_id", "reply_to_poll_option_id", "via_bot", "guest_bot_caller_user"),
        *("guest_bot_caller_chat", "edit_date", "has_protected_content", "is_from_offline"),
        *("is_paid_post", "media_group_id", "author_signature", "paid_star_count", "text", "entities"),
        *("link_preview_options", "suggested_post_info", "effect_id", "caption", "caption_entities"),
        *("show_caption_above_media", "has_media_spoiler", "reply_markup", "receiver_user"),
        *("ephemeral_message_id", "forward_date", "forward_from", "forward_from_chat"),
        *("forward_from_message_id", "forward_sender_name", "forward_signature", "origin"),
    )
)
# Service messages about events of a chat (a member joined, a title changed), which are ignored.
EVENTS = frozenset(
    (
        *("new_chat_members", "new_chat_member", "new_chat_participant", "left_chat_member"),
        *("left_chat_participant", "chat_owner_left", "chat_owner_changed", "new_chat_title"),
        *("new_chat_photo", "delete_chat_photo", "group_chat_created", "supergroup_chat_created"),
        *("channel_chat_created", "message_auto_delete_timer_changed", "migrate_to_chat_id"),
        *("migrate_from_chat_id", "pinned_message", "successful_payment", "refunded_payment"),
        *("users_shared", "user_shared", "chat_shared", "gift", "unique_gift", "gift_upgrade_sent"),
        *("connected_website", "write_access_allowed", "passport_data", "proximity_alert_triggered"),
        *("boost_added", "chat_background_set", "checklist_tasks_done", "checklist_tasks_added"),
        *("direct_message_price_changed", "forum_topic_created", "forum_topic_edited"),
        *("forum_topic_closed", "forum_topic_reopened", "general_forum_topic_hidden"),
        *("general_forum_topic_unhidden", "giveaway_created", "giveaway_completed"),
        *("managed_bot_created", "paid_message_price_changed", "poll_option_added"),
        *("poll_option_deleted", "suggested_post_approved", "suggested_post_approval_failed"),
        *("suggested_post_declined", "suggested_post_paid", "suggested_post_refunded"),
        *("video_chat_scheduled", "video_chat_started", "video_chat_ended"),
        *("video_chat_participants_invited", "voice_chat_scheduled", "voice_chat_started"),
        *("voice_chat_ended", "voice_chat_participants_invited", "web_app_data"),
        *("community_chat_added", "community_chat_removed", "community_chat_joined"),
    )
)
LONGEST_FIELD_NAME = 40


def parts_of(message: object) -> tuple[MessagePart, ...]:
    """Return the parts of a raw message that are not text."""
    if not isinstance(message, dict):
        return ()
    doubled = {SAID_ALREADY[name] for name in SAID_ALREADY if message.get(name) is not None}
    found = (name for name in PARTS if message.get(name) is not None and name not in doubled)
    parts = tuple(MessagePart(PARTS[name], _name_of(message[name], NAMED_BY.get(name, ()))) for name in found)
    return parts or _unknown(message)


def _unknown(message: Mapping[str, Any]) -> tuple[MessagePart, ...]:
    """Return the unknown content of a message without text: a content type newer than `PARTS`."""
    if message.get("text") is not None or any(name in EVENTS for name in message):
        return ()
    found = (name for name, value in message.items() if isinstance(value, dict | list) and value)
    unknown = [name for name in found if isinstance(name, str) and name not in NOT_CONTENT]
    return tuple(MessagePart("other", whole_characters(name[:LONGEST_FIELD_NAME])) for name in unknown[:1])


def _name_of(part: object, fields: tuple[str, ...]) -> str:
    known = part if isinstance(part, dict) else {}
    words = (known.get(field) for field in fields)
    joined = " ".join(word[:LONGEST_NAME] for word in words if isinstance(word, str) and word)
    return whole_characters(joined[:LONGEST_PART_NAME])

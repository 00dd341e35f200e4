"""The bot's own words, in the languages it speaks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from clawd_runtime.bot.settings import Language
from clawd_runtime.bot.values import Part, PartKind

HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
KANA_OR_HANGUL = re.compile(r"[\u3040-\u30ff\uac00-\ud7af]")
LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True, slots=True)
class Messages:
    """Everything the bot says by itself. `{…}` is filled in."""

    greeting: str
    help: str
    new_conversation: str
    unknown_command: str
    only_text: str
    rate_limited: str
    too_long: str
    model_failed: str
    rejected: str
    only_reasoning: str
    filtered: str
    cut_length: str
    cut_filtered: str
    cut_broken: str
    only_parts: str
    parts_unread: str
    quote_unreadable: str
    quote_missing: str
    in_reply_to: str
    waiting: str
    command_new: str
    command_help: str
    comma: str
    language: str

    def named(self, parts: Sequence[Part]) -> str:
        """The parts of a message in words: `picture, file report.pdf`."""
        words = (f"{KINDS[self.language][part.kind]} {part.name}".strip() for part in parts)
        return self.comma.join(dict.fromkeys(words))

    def marked(self, parts: Sequence[Part]) -> str:
        """The parts of a message as they stand among what a model reads: `[picture] [file report.pdf]`."""
        return " ".join(f"[{KINDS[self.language][part.kind]} {part.name}".rstrip() + "]" for part in parts)


EN = Messages(
    greeting="Hello! Send me a message and I will answer. /help tells what else I can do.",
    help=(
        "Write to me as to a colleague; I remember our conversation. In groups, mention or reply to me.\n\n"
        "/new – forget our conversation and begin a new one\n"
        "/help – this help"
    ),
    new_conversation="Done, we begin anew: I have forgotten what was said before.",
    unknown_command="I do not know the command {command}. /help lists those I know.",
    only_text="I can only read text so far. Could you put it into words?",
    rate_limited="That was a lot at once: I answer at most {limit} messages a minute. Please wait a little.",
    too_long="This message is too long for me. Could you shorten it or send it in parts?",
    model_failed="I am sorry, I cannot answer just now. Please try again in a few minutes.",
    rejected=(
        "I am sorry, the model did not accept this message. It may be too long. "
        "Please shorten it or put it differently."
    ),
    only_reasoning=(
        "I thought about this for as long as I may and did not reach an answer. "
        "Please ask a narrower question, or one part of it at a time."
    ),
    filtered="A content filter of the model's provider refused this. Please put it differently.",
    cut_length='(My answer was cut off here: it reached its maximum length. Write "continue" for the rest.)',
    cut_filtered="(My answer was cut off here by a content filter of the model's provider.)",
    cut_broken="(My answer was cut off here by an error. Please ask again if you need the rest.)",
    command_new="Forget our conversation and begin a new one",
    command_help="What I can do",
    only_parts="I can only read text so far, and your message holds: {parts}. Could you put it into words?",
    parts_unread="(I cannot see this part of your message: {parts}.)",
    quote_unreadable="I could not read the message that you refer to. Could you put it into your own words?",
    quote_missing="[a message that could not be read]",
    in_reply_to="In reply to:",
    waiting="I have received your message. Messages ahead of it: {ahead}. I will answer as soon as I can.",
    comma=", ",
    language="en",
)
ZH = Messages(
    greeting="您好！给我发消息，我会回答。发送 /help 查看我还能做什么。",
    help=(
        "像和同事聊天一样给我发消息即可，我会记住我们的对话。在群聊里请 @我 或回复我的消息。\n\n"
        "/new – 忘记之前的对话，重新开始\n"
        "/help – 显示本帮助"
    ),
    new_conversation="好的，我们重新开始：之前的对话我已经忘记了。",
    unknown_command="我不认识命令 {command}。发送 /help 查看可用的命令。",
    only_text="目前我只能阅读文字，能用文字描述一下吗？",
    rate_limited="消息有点多：我每分钟最多回答 {limit} 条。请稍后再试。",
    too_long="这条消息对我来说太长了，能缩短一些或分几次发送吗？",
    model_failed="非常抱歉，我现在无法回答。请过几分钟再试。",
    rejected="非常抱歉，模型没有接受这条消息，可能是太长了。请缩短或换一种说法再试。",
    only_reasoning="这个问题我思考到了允许的上限，还没有得出答案。请把问题缩小一些，或者分几步来问。",
    filtered="模型服务商的内容过滤拒绝了这条消息。请换一种说法再试。",
    cut_length="（回答达到了长度上限，在此处被截断。回复“继续”可以查看后面的内容。）",
    cut_filtered="（回答在此处被模型服务商的内容过滤截断。）",
    cut_broken="（回答因出错在此处中断。如需其余内容，请再问一次。）",
    command_new="忘记之前的对话，重新开始",
    command_help="我能做什么",
    only_parts="目前我只能阅读文字，您发的是：{parts}。能用文字描述一下吗？",
    parts_unread="（您消息中的这部分我看不到：{parts}。）",
    quote_unreadable="您引用的消息我读不到，能直接用文字告诉我吗？",
    quote_missing="[一条无法读取的消息]",
    in_reply_to="回复的消息：",
    waiting="您的消息已收到，前面还有 {ahead} 条消息，我会尽快回答。",
    comma="、",
    language="zh",
)
CATALOGUE = {"en": EN, "zh": ZH}
KINDS: Mapping[str, Mapping[PartKind, str]] = {
    "en": {
        "animation": "animation",
        "audio": "audio",
        "card": "card",
        "checklist": "checklist",
        "contact": "contact",
        "dice": "dice",
        "event": "calendar event",
        "file": "file",
        "forwarded": "forwarded messages",
        "game": "game",
        "location": "location",
        "other": "something I do not know",
        "picture": "picture",
        "poll": "poll",
        "sticker": "sticker",
        "story": "story",
        "video": "video",
        "voice": "voice message",
    },
    "zh": {
        "animation": "动图",
        "audio": "音频",
        "card": "卡片",
        "checklist": "任务清单",
        "contact": "名片",
        "dice": "骰子",
        "event": "日程",
        "file": "文件",
        "forwarded": "转发的聊天记录",
        "game": "游戏",
        "location": "位置",
        "other": "无法识别的内容",
        "picture": "图片",
        "poll": "投票",
        "sticker": "表情",
        "story": "动态",
        "video": "视频",
        "voice": "语音",
    },
}


def language_for(setting: Language, text: str, tag: str | None) -> Literal["en", "zh"]:
    """The language to speak: the setting, or by what was written, or by the writer's language tag.

    A command says nothing about the language of its writer.
    """
    if setting != "auto":
        return setting
    written = "" if text.startswith("/") else text
    if HAN.search(written) and not KANA_OR_HANGUL.search(written):
        return "zh"
    if LETTER.search(written):
        return "en"
    return "zh" if (tag or "").lower().startswith("zh") else "en"


def messages_for(setting: Language, text: str, tag: str | None) -> Messages:
    """The bot's words in the language for this message."""
    return CATALOGUE[language_for(setting, text, tag)]

"""The texts that the bot itself sends, in English and Chinese."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from clawd_runtime.bot.settings import BotLanguage
from clawd_runtime.bot.values import MessagePart, PartKind

HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
KANA_OR_HANGUL = re.compile(r"[\u3040-\u30ff\uac00-\ud7af]")
_WITHOUT_BRACKETS = str.maketrans("", "", "[]【】")
LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True, slots=True)
class Messages:
    """The texts of one language. Placeholders in braces are filled in."""

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
    question_blocked: str
    answer_blocked: str
    cut_length: str
    cut_filtered: str
    cut_broken: str
    earlier_in_doubt: str
    stopped: str
    stop_done: str
    only_parts: str
    parts_unread: str
    quote_unreadable: str
    quote_missing: str
    in_reply_to: str
    waiting: str
    answered_by: str
    denied: str
    pairing_code: str
    access_granted: str
    not_permitted: str
    approve_usage: str
    approved: str
    wrong_code: str
    too_many_codes: str
    revoke_usage: str
    revoked: str
    nothing_granted: str
    quota_exhausted_user: str
    quota_exhausted_group: str
    quota_exhausted_models: str
    quota_near_user: str
    quota_near_group: str
    usage_limited: str
    usage_unlimited: str
    usage_group: str
    command_new: str
    command_help: str
    command_stop: str
    command_usage: str
    comma: str
    language: str

    def named(self, parts: Sequence[MessagePart]) -> str:
        """Return the names of a message's parts for a user: `picture, file report.pdf`."""
        words = (self._part(part, " ".join(part.name.split())) for part in parts)
        return self.comma.join(dict.fromkeys(words))

    def marked(self, parts: Sequence[MessagePart]) -> str:
        """Return a message's parts in the form for a prompt: `[picture] [file report.pdf]`."""
        return " ".join(f"[{self._part(part, _harmless(part.name))}]" for part in parts)

    def _part(self, part: MessagePart, name: str) -> str:
        return f"{KINDS[self.language][part.kind]} {name}".rstrip()


def _harmless(name: str) -> str:
    """Return a name that ends neither its line nor the brackets around it."""
    return " ".join(name.translate(_WITHOUT_BRACKETS).split())


EN = Messages(
    greeting="Hello! Send me a message and I will answer. Send /help to see what else I can do.",
    help=(
        "Write to me as you would to a colleague; I remember our conversation. "
        "In groups, mention me or reply to me.\n\n"
        "/new – forget our conversation and start a new one\n"
        "/stop – stop the answer that I am writing\n"
        "/usage – show how much you have used today\n"
        "/help – show this help"
    ),
    new_conversation="Done: I have forgotten our previous conversation, and we can start a new one.",
    unknown_command="I do not know the command {command}. Send /help to see the available commands.",
    only_text="I can only read text. Could you describe it in words?",
    rate_limited=(
        "You are sending messages too quickly: I answer at most {limit} per minute. Please wait a moment."
    ),
    too_long="This message is too long for me. Please shorten it or send it in parts.",
    model_failed="Sorry, I cannot answer right now. Please try again in a few minutes.",
    rejected=("Sorry, the model rejected this message. It may be too long. Please shorten or rephrase it."),
    only_reasoning=(
        "Sorry, I reached my limit while thinking about this, before I found an answer. "
        "Please ask a narrower question, or one part at a time."
    ),
    filtered="A content filter of the model's provider blocked this message. Please rephrase it.",
    question_blocked="I cannot answer this message: it is against the rules of this assistant.",
    answer_blocked="I cannot show the answer to this message: it is against the rules of this assistant.",
    cut_length='(My answer was cut off here: it reached its maximum length. Write "continue" for the rest.)',
    cut_filtered="(My answer was cut off here by a content filter of the model's provider.)",
    cut_broken="(My answer was cut off here by an error. Please ask again if you need the rest.)",
    answered_by="(Answered by {model}, which runs outside this organisation.)",
    stopped="(Stopped.)",
    stop_done="Done: I no longer answer your earlier messages.",
    command_stop="Stop the answer",
    earlier_in_doubt=(
        "(My previous answer may not have reached you. If you do not see it, please ask that question again.)"
    ),
    denied="This assistant is for certain people only. Please ask its administrator for access.",
    pairing_code=(
        "This assistant is for certain people only. "
        "To get access, give this code to an administrator: {code}\n"
        "It is valid for {minutes} minutes. Your id is {id}."
    ),
    access_granted="You now have access. Send me a message and I will answer.",
    not_permitted="You may not use the command {command}.",
    approve_usage="Write the code after the command, such as /approve ABCD-2345.",
    approved="Done: {id} has access now.",
    wrong_code=(
        "There is no request with this code, or it has expired. The person gets a new one by writing to me."
    ),
    too_many_codes="Too many wrong codes. Please try again in an hour.",
    revoke_usage="Write the id after the command, such as /revoke telegram:123456.",
    revoked="Done: {id} has no access any more.",
    nothing_granted="{id} has no access by a code. People of the inventory are removed there.",
    quota_exhausted_user="You have used up your tokens for today. I will answer again tomorrow.",
    quota_exhausted_group="This group has used up its tokens for today. I will answer here again tomorrow.",
    quota_exhausted_models="All models have used up their tokens for today. I will answer again tomorrow.",
    quota_near_user="(You have used {percent} % of your tokens for today.)",
    quota_near_group="(This group has used {percent} % of its tokens for today.)",
    usage_limited="Today you have used {used} of {limit} tokens.",
    usage_unlimited="Today you have used {used} tokens. You have no limit.",
    usage_group="This group has used {used} of {limit} tokens.",
    command_new="Forget our conversation and start a new one",
    command_help="Show what I can do",
    command_usage="Show how much you have used today",
    only_parts="I can only read text, and your message contains: {parts}. Could you describe it in words?",
    parts_unread="(I cannot read this part of your message: {parts}.)",
    quote_unreadable="I could not read the message you refer to. Could you put it in your own words?",
    quote_missing="[a message that could not be read]",
    in_reply_to="In reply to:",
    waiting="I have received your message. Messages ahead of it: {ahead}. I will answer as soon as I can.",
    comma=", ",
    language="en",
)
ZH = Messages(
    greeting="您好！直接给我发消息即可提问，发送 /help 查看其他功能。",
    help=(
        "像和同事聊天一样给我发消息即可，我会记住我们的对话。在群聊中请 @我 或回复我的消息。\n\n"
        "/new – 清除之前的对话，重新开始\n"
        "/stop – 停止正在生成的回答\n"
        "/usage – 查看您今天的用量\n"
        "/help – 显示本帮助"
    ),
    new_conversation="好的，已清除之前的对话，我们重新开始。",
    unknown_command="无法识别命令 {command}，发送 /help 查看可用命令。",
    only_text="目前我只支持文字消息，可以用文字描述一下吗？",
    rate_limited="您发送消息过于频繁，我每分钟最多回答 {limit} 条，请稍后再试。",
    too_long="这条消息太长，我无法处理，请缩短内容或分几次发送。",
    model_failed="抱歉，我暂时无法回答，请过几分钟再试。",
    rejected="抱歉，模型拒绝了这条消息，可能是内容过长。请缩短内容或换一种说法再试。",
    only_reasoning="抱歉，我思考到了长度上限，仍未得出答案。请缩小问题范围，或拆分成几步来问。",
    filtered="这条消息被模型服务商的内容过滤拦截，请换一种说法再试。",
    question_blocked="这条消息不符合本助手的使用规定，我无法回答。",
    answer_blocked="这条消息的回答不符合本助手的使用规定，无法显示。",
    cut_length="（回答达到了长度上限，在此处被截断。回复“继续”可以查看后面的内容。）",
    cut_filtered="（回答在此处被模型服务商的内容过滤截断。）",
    cut_broken="（回答因出错在此处中断。如需其余内容，请再问一次。）",
    answered_by="（本回答由外部模型 {model} 生成。）",
    stopped="（已停止。）",
    stop_done="好的，不再回答您之前的消息。",
    command_stop="停止当前回答",
    earlier_in_doubt="（我的上一条回答可能没有送达。如果没有看到，请再问一次。）",
    denied="本助手仅供指定人员使用，请联系管理员开通权限。",
    pairing_code=(
        "本助手仅供指定人员使用。如需开通，请把配对码告诉管理员：{code}\n"
        "配对码 {minutes} 分钟内有效。您的 ID 是 {id}。"
    ),
    access_granted="已为您开通权限，直接给我发消息即可提问。",
    not_permitted="您没有权限使用命令 {command}。",
    approve_usage="请在命令后面写上配对码，例如 /approve ABCD-2345。",
    approved="好的，已为 {id} 开通权限。",
    wrong_code="没有找到使用该配对码的申请，或配对码已过期。申请人给我发消息即可获取新的配对码。",
    too_many_codes="输入错误的配对码次数过多，请一小时后再试。",
    revoke_usage="请在命令后面写上 ID，例如 /revoke telegram:123456。",
    revoked="好的，已撤销 {id} 的权限。",
    nothing_granted="{id} 没有通过配对码开通的权限。清单中声明的人员请在清单中移除。",
    quota_exhausted_user="您今天的 token 额度已用完，明天我会继续回答。",
    quota_exhausted_group="本群今天的 token 额度已用完，明天我会在这里继续回答。",
    quota_exhausted_models="所有模型今天的 token 额度都已用完，明天我会继续回答。",
    quota_near_user="（您今天的 token 额度已使用 {percent}%。）",
    quota_near_group="（本群今天的 token 额度已使用 {percent}%。）",
    usage_limited="您今天已使用 {used} 个 token，额度为 {limit} 个。",
    usage_unlimited="您今天已使用 {used} 个 token，没有额度限制。",
    usage_group="本群今天已使用 {used} 个 token，额度为 {limit} 个。",
    command_new="清除之前的对话，重新开始",
    command_help="查看功能介绍",
    command_usage="查看今天的用量",
    only_parts="目前我只支持文字消息，您发送的是：{parts}。可以用文字描述一下吗？",
    parts_unread="（您消息中的以下内容我无法查看：{parts}。）",
    quote_unreadable="我无法读取您引用的消息，可以直接用文字告诉我吗？",
    quote_missing="[一条无法读取的消息]",
    in_reply_to="回复的消息：",
    waiting="已收到您的消息，前面还有 {ahead} 条消息，我会尽快回答。",
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
        "other": "unsupported content",
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


def language_for(setting: BotLanguage, text: str, tag: str | None) -> Literal["en", "zh"]:
    """Return the language to use: the configured one, that of the text, or that of the sender's language tag.

    A command does not indicate a language.
    """
    if setting != "auto":
        return setting
    written = "" if text.startswith("/") else text
    if HAN.search(written) and not KANA_OR_HANGUL.search(written):
        return "zh"
    if LETTER.search(written):
        return "en"
    return "zh" if (tag or "").lower().startswith("zh") else "en"


def messages_for(setting: BotLanguage, text: str, tag: str | None) -> Messages:
    """Return the bot's texts in the language for this message."""
    return CATALOGUE[language_for(setting, text, tag)]

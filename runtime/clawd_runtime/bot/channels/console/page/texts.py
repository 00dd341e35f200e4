"""The texts of the page, in English and Chinese."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

PageLanguage = Literal["en", "zh"]


@dataclass(frozen=True, slots=True)
class PageTexts:
    """The texts of one language. Texts in braces are filled in."""

    assistant: str
    you: str
    new: str
    conversations: str
    menu: str
    skip: str
    greeting: str
    introduction: str
    placeholder: str
    send: str
    keys: str
    earlier: str
    rename: str
    title: str
    save: str
    cancel: str
    delete: str
    delete_question: str
    log_out: str
    logged_out: str
    how_to_log_in: str
    logging_in: str
    link_invalid: str
    copy: str
    copied: str
    thinking: str
    answered: str
    reconnecting: str
    connection_lost: str
    try_again: str
    too_fast: str
    too_long: str
    still_open: str
    failed: str
    refused: str
    needs_script: str

    def as_dict(self) -> dict[str, str]:
        """Return the texts by name, for the script of the page."""
        return asdict(self)


EN = PageTexts(
    assistant="Assistant",
    you="You",
    new="New conversation",
    conversations="Conversations",
    menu="Show conversations",
    skip="Skip to the message",
    greeting="How can I help?",
    introduction="I remember what was said in this conversation. Start a new one for another topic.",
    placeholder="Write a message",
    send="Send",
    keys="Enter sends, Shift+Enter starts a new line",
    earlier="Show earlier messages",
    rename="Rename",
    title="Title",
    save="Save",
    cancel="Cancel",
    delete="Delete",
    delete_question="Delete this conversation? Its messages cannot be restored. Working data of the model "
    "may stay for some days.",
    log_out="Log out",
    logged_out="You are not logged in",
    how_to_log_in="Open a link that the operator of this bot gave you. It is printed by this command:",
    logging_in="Logging in …",
    link_invalid="This link has expired or was already used. Ask for a new one.",
    copy="Copy",
    copied="Copied",
    thinking="The assistant is writing",
    answered="The assistant has answered:",
    reconnecting="The connection was interrupted. Reconnecting …",
    connection_lost="The bot cannot be reached.",
    try_again="Try again",
    too_fast="You are sending messages too quickly. Please wait a minute.",
    too_long="This message is too long. Please shorten it or send it in parts.",
    still_open="The assistant is still answering in this conversation. Please try again afterwards.",
    failed="The bot cannot store messages right now. Please try again in a moment.",
    refused="The bot refused the request.",
    needs_script="This page needs JavaScript.",
)
ZH = PageTexts(
    assistant="助手",
    you="您",
    new="新对话",
    conversations="对话列表",
    menu="显示对话列表",
    skip="跳到输入框",
    greeting="有什么可以帮您？",
    introduction="我会记住本次对话的内容。换个话题时，请新建对话。",
    placeholder="输入消息",
    send="发送",
    keys="Enter 发送，Shift+Enter 换行",
    earlier="显示更早的消息",
    rename="重命名",
    title="标题",
    save="保存",
    cancel="取消",
    delete="删除",
    delete_question="确定删除这个对话吗？消息删除后无法恢复，模型的计算状态可能还会保留几天。",
    log_out="退出登录",
    logged_out="您尚未登录",
    how_to_log_in="请打开机器人管理员发给您的登录链接。链接由以下命令生成：",
    logging_in="正在登录……",
    link_invalid="该链接已过期或已被使用，请重新获取。",
    copy="复制",
    copied="已复制",
    thinking="助手正在回答",
    answered="助手的回答：",
    reconnecting="连接中断，正在重新连接……",
    connection_lost="无法连接到机器人。",
    try_again="重试",
    too_fast="您发送消息过于频繁，请等一分钟再试。",
    too_long="这条消息太长，请缩短内容或分几次发送。",
    still_open="助手还在回答这个对话中的问题，请稍后再试。",
    failed="机器人暂时无法保存消息，请稍后再试。",
    refused="机器人拒绝了该请求。",
    needs_script="本页面需要启用 JavaScript。",
)
TEXTS: dict[PageLanguage, PageTexts] = {"en": EN, "zh": ZH}
LONGEST_HEADER = 500


def page_language(accepted: str) -> PageLanguage:
    """Return the language that the header Accept-Language prefers; English if it names neither."""
    preferred: tuple[float, PageLanguage] = (0.0, "en")
    for part in accepted[:LONGEST_HEADER].split(","):
        tag, _, parameters = part.strip().lower().partition(";")
        quality = _quality(parameters)
        language = tag.partition("-")[0]
        if language == "zh" and quality > preferred[0]:
            preferred = (quality, "zh")
        elif language == "en" and quality > preferred[0]:
            preferred = (quality, "en")
    return preferred[1]


def _quality(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return min(1.0, float(value))
    except ValueError:
        return 0.0

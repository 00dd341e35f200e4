from __future__ import annotations

import itertools

import pytest

from clawd_runtime.bot.policy import answers
from clawd_runtime.bot.policy.answers import RENDERED_A_SECOND, AnswerBlocked, AnswerCheck
from clawd_runtime.bot.policy.file import Policy
from clawd_runtime.bot.policy.rules import InputRules
from clawd_runtime.bot.policy.values import WordGroup
from clawd_runtime.bot.policy.words import WordLists
from clawd_runtime.bot.text.markdown.blocks import Block
from clawd_runtime.bot.text.markdown.reading import read_markdown


class Shown:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def show(self, text: str) -> None:
        self.texts.append(text)


def check() -> AnswerCheck:
    groups = (WordGroup("masked", ("法轮功",)), WordGroup("blocked", ("炸弹制作",), action="block"))
    return AnswerCheck(Policy("1", WordLists(groups), InputRules(())))


def test_progress_shows_only_what_is_permitted() -> None:
    shown = Shown()
    progress = check().progress(shown)
    for text in ("我", "我信法", "我信法轮", "我信法轮功", "我信法轮功吗"):
        progress.show(text)
    assert shown.texts == ["我", "我信", "我信＊＊＊", "我信＊＊＊吗"]


def test_another_beginning_restarts_the_check() -> None:
    shown = Shown()
    progress = check().progress(shown)
    for text in ("答案是法", "另一个答案", "另一个答案轮功", "另一个答案轮功法轮功。"):
        progress.show(text)
    assert shown.texts == ["答案是", "另一个答案", "另一个答案轮功", "另一个答案轮功＊＊＊。"]


def test_blocking_word_stops_the_answer_before_it_is_visible() -> None:
    shown = Shown()
    progress = check().progress(shown)
    progress.show("关于炸弹")
    with pytest.raises(AnswerBlocked):
        progress.show("关于炸弹制作")
    assert shown.texts == ["关于"]
    with pytest.raises(AnswerBlocked):
        check().complete("关于炸弹制作")


@pytest.mark.parametrize(
    "markdown",
    [
        "法[轮](https://example.org)功",
        "[法轮](https://example.org/a)功",
        "&#27861;轮功",
        "法&#x8f6e;功",
        "[法轮][1]功\n\n[1]: https://example.org",
        "first\n\n法[轮](https://example.org)功",
    ],
)
def test_word_that_appears_only_when_rendered_is_never_shown(markdown: str) -> None:
    shown = Shown()
    progress = check().progress(shown, itertools.count().__next__)
    for length in range(1, len(markdown) + 1):
        progress.show(markdown[:length])
    assert markdown not in shown.texts
    progress.show(f"{markdown}\n\nThe next paragraph")
    progress.show(f"{markdown}\n\nThe next paragraph goes on.")
    assert not [text for text in shown.texts if markdown in text]
    with pytest.raises(AnswerBlocked):
        check().complete(markdown)


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.05])
def test_rendering_for_the_check_is_bounded_by_the_time_an_answer_takes(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    rendered: list[str] = []

    def reading(text: str) -> tuple[Block, ...]:
        rendered.append(text)
        return read_markdown(text)

    monkeypatch.setattr(answers, "read_markdown", reading)
    text = "if a[0]:\n    b = 1 < 2\n" * 100
    shown, times = Shown(), itertools.count(1.0, seconds)
    progress = check().progress(shown, times.__next__)
    pieces = range(4, len(text) + 4, 4)
    for length in pieces:
        progress.show(text[:length])
    assert rendered
    assert sum(map(len, rendered)) <= 2 * len(text) + RENDERED_A_SECOND * seconds * len(pieces)


def test_text_that_waited_for_its_check_is_shown_with_what_follows() -> None:
    now, shown = 1.0, Shown()
    progress = check().progress(shown, lambda: now)
    for text in ("1 < 2", "1 < 2 < 3", "1 < 2 < 3 < 4"):
        progress.show(text)
    assert shown.texts == ["1 < 2"]
    now = 2.0
    progress.show("1 < 2 < 3 < 4")
    assert shown.texts == ["1 < 2", "1 < 2 < 3 < 4"]


@pytest.mark.parametrize("markdown", ["[文档](https://example.org) & <b>x</b>", "1 < 2 &amp; 3", "**法**国"])
def test_ordinary_markdown_passes(markdown: str) -> None:
    assert check().complete(markdown).text == markdown


def test_complete_answer_has_its_hits() -> None:
    answer = check().complete("法輪功和法轮功")
    assert answer.text == "＊＊＊和＊＊＊"
    assert [(hit.rule, hit.entry) for hit in answer.hits] == [("masked", "法轮功")] * 2

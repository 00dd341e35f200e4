from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.bot.models.prompt_budget import fit, prompt_budget, token_estimate
from clawd_runtime.bot.store.history import Turn

EXCHANGES = st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), max_size=12)


def turns(exchanges: list[tuple[str, str]]) -> tuple[Turn, ...]:
    return tuple(turn for q, a in exchanges for turn in (Turn("user", q), Turn("assistant", a)))


@given(EXCHANGES, st.text(max_size=40), st.integers(-50, 600))
def test_newest_exchanges_that_fit_are_included(
    exchanges: list[tuple[str, str]], question: str, budget: int
) -> None:
    history = turns(exchanges)
    messages = fit("be kind", history, question, budget)
    assert messages[0].role == "system"
    assert messages[0].content == "be kind"
    assert (messages[-1].role, messages[-1].content) == ("user", question)
    kept = messages[1:-1]
    assert [(m.role, m.content) for m in kept] == [
        (t.role, t.text) for t in history[len(history) - len(kept) :]
    ]
    assert not kept or kept[0].role == "user"
    used = sum(token_estimate(message.content) for message in messages)
    assert not kept or used <= budget
    dropped = exchanges[: len(exchanges) - len(kept) // 2]
    if dropped:
        assert used + sum(token_estimate(text) for text in dropped[-1]) > budget


@given(st.text())
def test_token_estimate_is_one_per_three_bytes(text: str) -> None:
    assert token_estimate(text) * 3 >= len(text.encode("utf-8", "surrogatepass"))


def test_prompt_budget_reserves_reply_tokens() -> None:
    assert prompt_budget(4096, 512) + 512 < 4096


def test_stored_reasoning_of_earlier_release_is_not_sent() -> None:
    history = (
        *(Turn("user", "<think>?"), Turn("assistant", "<think>hm</think>\n\nParis")),
        *(Turn("user", "and?"), Turn("assistant", "hm</think>Rome")),
        *(Turn("user", "and?"), Turn("assistant", "<think>hm")),
    )
    said = [message.content for message in fit("be kind", history, "question", 1000)[1:-1]]
    assert said == ["<think>?", "Paris", "and?", "Rome", "and?", "<think>hm"]

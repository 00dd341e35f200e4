from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.engine.llama.detokenize import TextStream
from clawd_runtime.reasoning.splitter import ReasoningSplit

text = st.text(alphabet=st.sampled_from("ab€漢🙂\n é"), max_size=40)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(marks)]


def run(pieces: list[bytes], stop: tuple[str, ...]) -> tuple[str, bool]:
    stream = TextStream(stop)
    shown = "".join(stream.feed(piece).answer for piece in pieces)
    return shown + stream.finish().answer, stream.stopped


def until_stop(whole: str, stops: tuple[str, ...]) -> str:
    """Return the expected answer by trying every prefix of the text."""
    for end in range(len(whole) + 1):
        ending = [stop for stop in stops if whole[:end].endswith(stop)]
        if ending:
            return whole[: end - max(map(len, ending))]
    return whole


@given(text, st.lists(st.integers(0, 200)))
def test_text_is_independent_of_pieces(whole, places):
    assert run(cut(whole.encode(), places), ()) == (whole, False)


@given(text, st.lists(st.integers(0, 200)), st.lists(text.filter(bool), max_size=3).map(tuple))
def test_answer_ends_before_first_stop_string_for_any_pieces(whole, places, stops):
    shown, stopped = run(cut(whole.encode(), places), stops)
    assert shown == until_stop(whole, stops)
    assert stopped == any(stop in whole for stop in stops)


@given(st.binary(max_size=60), st.lists(st.integers(0, 200)))
def test_any_bytes_give_same_text_for_any_pieces(data, places):
    assert run(cut(data, places), ()) == run([data], ())


@pytest.mark.parametrize("size", [1, 2, 3])
def test_incomplete_character_is_never_shown(size):
    stream = TextStream()
    assert stream.feed("ok 🙂".encode()[: 3 + size]).answer == "ok "
    assert stream.finish() == ReasoningSplit()


def test_possible_stop_string_is_held_back():
    stream = TextStream(("</end>",))
    assert stream.feed(b"yes </en").answer == "yes "
    assert stream.feed(b"ough").answer == "</enough"
    assert not stream.stopped


def test_nothing_follows_a_stop_string():
    stream = TextStream(("END",))
    assert stream.feed(b"a END b").answer == "a "
    assert stream.stopped
    assert stream.feed(b"more") == ReasoningSplit()
    assert stream.finish() == ReasoningSplit()


def test_stop_strings_do_not_end_the_reasoning():
    stream = TextStream(("END",))
    assert stream.feed(b"<think>the END is</think>near").reasoning == "the END is"
    assert not stream.stopped
    assert stream.feed(b" END").answer == " "
    assert stream.stopped


def test_stop_string_is_found_in_text_held_back_for_mark():
    stream = TextStream(("<thi",))
    assert stream.feed(b"a <thi").answer == "a "
    stream.finish()
    assert stream.stopped

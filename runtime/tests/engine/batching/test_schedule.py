from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.engine.batching.schedule import Share, Wanting, next_batch, next_in_line


@st.composite
def situations(draw):
    count = draw(st.integers(0, 12))
    wanting = []
    for seq in draw(st.permutations(range(count))):
        writing = draw(st.booleans())
        tokens = 1 if writing else draw(st.integers(1, 400))
        wanting.append(Wanting(seq, tokens, writing, arrival=draw(st.integers(0, 50))))
    capacity = draw(st.integers(max(1, count), 300))
    return wanting, draw(st.integers(1, 128)), capacity


@given(situations())
def test_batch_invariants(situation):
    wanting, room, capacity = situation
    batch = next_batch(wanting, room=room, capacity=capacity)
    given_to = {share.seq: share.count for share in batch}
    by_seq = {want.seq: want for want in wanting}

    assert [share.seq for share in batch] == sorted(given_to), "increasing, each once"
    assert sum(given_to.values()) <= capacity
    assert all(0 < count <= by_seq[seq].tokens for seq, count in given_to.items())
    writing = [want.seq for want in wanting if want.writing]
    assert all(given_to[seq] == 1 for seq in writing), "who is writing is never left out"
    prompts = sum(count for seq, count in given_to.items() if seq not in writing)
    assert prompts <= room
    unread = sum(want.tokens for want in wanting if not want.writing)
    assert prompts == min(unread, room, capacity - len(writing)), "no room is wasted"
    assert bool(batch) == bool(wanting), "there is progress whenever somebody wants something"


@given(situations())
def test_oldest_prompt_gets_half_of_the_room(situation):
    wanting, room, capacity = situation
    batch = next_batch(wanting, room=room, capacity=capacity)
    prompts = [want for want in wanting if not want.writing]
    if prompts:
        oldest = min(prompts, key=lambda want: (want.arrival, want.seq))
        room = min(room, capacity - (len(wanting) - len(prompts)))
        share = next((share.count for share in batch if share.seq == oldest.seq), 0)
        assert share >= min(oldest.tokens, room / 2)


def test_short_prompt_does_not_wait_for_a_long_one():
    wanting = [Wanting(0, 4000, False, 1), Wanting(1, 20, False, 2), Wanting(2, 1, True, 0)]
    assert next_batch(wanting, room=64, capacity=256) == (Share(0, 44), Share(1, 20), Share(2, 1))


def test_prompts_use_whole_room_without_writers():
    assert next_batch([Wanting(0, 500, False, 1)], room=256, capacity=256) == (Share(0, 256),)


def test_prompts_never_exceed_capacity():
    wanting = [Wanting(1, 500, False, 2), Wanting(0, 1, True, 1)]
    assert next_batch(wanting, room=300, capacity=256) == (Share(0, 1), Share(1, 255))


@pytest.mark.parametrize(
    ("waiting", "running", "turns", "position"),
    [
        (["a"], [], {}, 0),
        (["a", "b"], [], {}, 0),
        (["a", "b"], [], {"a": 1}, 1),
        (["a", "b"], [], {"a": 1, "b": 2}, 0),
        (["a", "a", "b"], ["a"], {"a": 1}, 2),
        (["a", "b", "c"], ["a", "b", "b"], {"c": 9}, 2),
        (["b", "a"], ["a", "b"], {"b": 2, "a": 1}, 1),
        (["", "a"], [""], {}, 1),
    ],
)
def test_users_take_turns(waiting, running, turns, position):
    assert next_in_line(waiting, running, turns) == position

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.engine.batching.schedule import Share, Wanting, next_batch


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
    wanting, chunk, capacity = situation
    batch = next_batch(wanting, chunk=chunk, capacity=capacity)
    given_to = {share.seq: share.count for share in batch}
    by_seq = {want.seq: want for want in wanting}

    assert [share.seq for share in batch] == sorted(given_to), "increasing, each once"
    assert sum(given_to.values()) <= capacity
    assert all(0 < count <= by_seq[seq].tokens for seq, count in given_to.items())
    writing = [want.seq for want in wanting if want.writing]
    assert all(given_to[seq] == 1 for seq in writing), "who is writing is never left out"
    prompts = sum(count for seq, count in given_to.items() if seq not in writing)
    if writing:
        assert prompts <= chunk
    assert bool(batch) == bool(wanting), "there is progress whenever somebody wants something"


@given(situations())
def test_older_prompts_are_served_first(situation):
    wanting, chunk, capacity = situation
    given_to = {share.seq: share.count for share in next_batch(wanting, chunk=chunk, capacity=capacity)}
    prompts = sorted((w for w in wanting if not w.writing), key=lambda w: (w.arrival, w.seq))
    for older, younger in pairwise(prompts):
        if younger.seq in given_to:
            assert given_to[older.seq] == older.tokens


def test_prompts_use_whole_step_without_writers():
    assert next_batch([Wanting(0, 500, False, 1)], chunk=32, capacity=256) == (Share(0, 256),)


def test_prompt_is_chunked_next_to_a_writer():
    wanting = [Wanting(1, 500, False, 2), Wanting(0, 1, True, 1)]
    assert next_batch(wanting, chunk=32, capacity=256) == (Share(0, 1), Share(1, 32))

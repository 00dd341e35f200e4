from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.engine.states.prefixes import PrefixIndex, as_tokens, count_shared

sequences = st.lists(st.integers(0, 2), max_size=12).map(tuple)


def shared(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


@given(sequences, sequences)
def test_shared_tokens_are_counted(first, second):
    assert count_shared(as_tokens(first), as_tokens(second)) == shared(first, second)


@given(st.lists(st.tuples(sequences, st.booleans()), max_size=20), sequences)
def test_matches_begin_with_those_that_share_most(changes, prompt):
    index: PrefixIndex[tuple[int, ...]] = PrefixIndex()
    stored: set[tuple[int, ...]] = set()
    for sequence, added in changes:
        if added:
            index.add(as_tokens(sequence), sequence)
            stored.add(sequence)
        elif sequence in stored:
            index.remove(as_tokens(sequence))
            stored.remove(sequence)
    found = list(index.matches(as_tokens(prompt)))
    counts = [count for count, _ in found]
    assert counts == sorted(counts, reverse=True)
    assert all(count == shared(sequence, prompt) > 0 for count, sequence in found)
    most = max((shared(sequence, prompt) for sequence in stored), default=0)
    assert {sequence for count, sequence in found if count == most} == {
        sequence for sequence in stored if most and shared(sequence, prompt) == most
    }
    assert all((index.get(as_tokens(sequence)) == sequence) for sequence in stored)
    assert (index.get(as_tokens(prompt)) is not None) == (prompt in stored)


def test_missing_sequence_cannot_be_removed():
    index: PrefixIndex[str] = PrefixIndex()
    index.add(as_tokens([1, 2, 3]), "a")
    for sequence in ([1, 2], [1, 2, 3, 4], [7]):
        with pytest.raises(KeyError):
            index.remove(as_tokens(sequence))


def test_branches_are_the_different_continuations():
    index: PrefixIndex[str] = PrefixIndex()
    for last in (7, 8, 9):
        index.add(as_tokens([1, 2, last, last]), str(last))
    assert index.branches(as_tokens([1, 2])) == 3
    assert index.branches(as_tokens([1])) == 1
    assert index.branches(as_tokens([1, 2, 7])) == 1
    assert index.branches(as_tokens([5])) == 0

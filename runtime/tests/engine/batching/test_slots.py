from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.engine.batching.slots import (
    SHORTEST_COPY,
    Held,
    Placement,
    better_soon,
    common_prefix,
    place,
)

tokens = st.lists(st.integers(0, 2), max_size=80)


@given(tokens, tokens)
def test_common_prefix_is_the_longest(first, second):
    count = common_prefix(first, second)
    assert first[:count] == second[:count]
    assert count == min(len(first), len(second)) or first[count] != second[count]


@given(
    st.lists(st.tuples(tokens, st.booleans(), st.integers(0, 9)), min_size=1, max_size=5),
    tokens.filter(bool),
)
def test_placement_is_always_valid(states, prompt):
    slots = [Held(seq, held, busy, used) for seq, (held, busy, used) in enumerate(states)]
    placement = place(slots, prompt)
    if all(slot.busy for slot in slots):
        assert placement is None
        return
    assert placement is not None
    assert not slots[placement.seq].busy
    assert placement.keep < len(prompt), "something is left to compute"
    source = slots[placement.seq if placement.donor is None else placement.donor]
    assert list(source.tokens[: placement.keep]) == prompt[: placement.keep]
    assert placement.donor != placement.seq


def test_continued_conversation_keeps_its_slot():
    first, second = list(range(100)), [*range(50), *range(900, 960)]
    slots = [Held(0, second, False, 9), Held(1, first, False, 1), Held(2, [], False, 0)]
    assert place(slots, [*first, 7, 8]) == Placement(1, 100)


def test_new_conversation_uses_free_slot_and_copies_system_prompt():
    system = list(range(60))
    old = [*system, *range(500, 700)]
    slots = [Held(0, old, False, 5), Held(1, [], False, 0)]
    assert place(slots, [*system, 1, 2, 3]) == Placement(1, 60, donor=0)


def test_busy_slot_can_be_donor():
    system = list(range(60))
    slots = [Held(0, [*system, 9, 9], True, 5), Held(1, [], False, 0)]
    assert place(slots, [*system, 1]) == Placement(1, 60, donor=0)


def test_short_common_prefix_is_not_copied():
    common = list(range(SHORTEST_COPY - 1))
    slots = [Held(0, [*common, *range(500, 700)], True, 5), Held(1, [], False, 0)]
    assert place(slots, [*common, 1]) == Placement(1, 0)


def test_shortest_of_equal_donors_is_copied():
    system = list(range(60))
    slots = [
        Held(0, [*system, *range(500, 900)], True, 5),
        Held(1, [*system, 9], True, 5),
        Held(2, [*system, *range(500, 700)], True, 5),
        Held(3, [], False, 0),
    ]
    assert place(slots, [*system, 1]) == Placement(3, 60, donor=1)


def test_too_long_donor_is_not_copied():
    system = list(range(60))
    longest = [*system, *[7] * (8 * 60 + 512 - 60)]
    slots = [Held(0, longest, True, 5), Held(1, [], False, 0)]
    assert place(slots, [*system, 1]) == Placement(1, 60, donor=0)
    slots = [Held(0, [*longest, 7], True, 5), Held(1, [], False, 0)]
    assert place(slots, [*system, 1]) == Placement(1, 0)
    slots = [Held(0, [*longest, 7], True, 5), Held(1, [], False, 0), Held(2, system[:50], True, 0)]
    assert place(slots, [*system, 1]) == Placement(1, 50, donor=2)


def test_least_recently_used_slot_is_replaced():
    slots = [Held(0, [1] * 50, False, 9), Held(1, [2] * 50, False, 3)]
    assert place(slots, [3, 3]) == Placement(1, 0)


def test_same_prompt_leaves_one_token_to_compute():
    assert place([Held(0, [1, 2, 3], False, 1)], [1, 2, 3]) == Placement(0, 2)


def test_prompt_waits_for_common_prefix_being_computed():
    system = list(range(100))
    begun = [Held(0, system[:20], True, 1), Held(1, [], False, 0)]
    assert better_soon(begun, [[*system, 7, 7]], [*system, 8])
    assert not better_soon(begun, [[9, *system]], [*system, 8])
    done = [Held(0, [*system, 7, 7], True, 1), Held(1, [], False, 0)]
    assert not better_soon(done, [[*system, 7, 7]], [*system, 8])


def test_identical_prompt_is_not_waited_for_forever():
    prompt = list(range(100))
    assert better_soon([Held(0, [], True, 1)], [prompt], prompt)
    assert not better_soon([Held(0, prompt[:80], True, 1)], [prompt], prompt)

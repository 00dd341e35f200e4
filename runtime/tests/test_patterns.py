from __future__ import annotations

import re
import time

from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.patterns import any_of

texts = st.text("ab|.", min_size=1, max_size=5)


@given(st.sets(texts, min_size=1, max_size=12), st.text("ab|.", max_size=20))
def test_longest_text_is_matched(wanted, text):
    found = re.compile(any_of(wanted)).search(text)
    places = [(text.find(each), -len(each)) for each in wanted if each in text]
    assert (found is None) == (not places)
    if found is not None:
        at, length = min(places)
        assert (found.start(), found[0]) == (at, text[at : at - length])


def test_matching_thousands_of_texts_is_fast():
    pattern = re.compile(any_of(f"<unused{number}>" for number in range(6000)))
    began = time.process_time()
    assert pattern.sub("", "<unused" * 200_000 + "<unused5999>") == "<unused" * 200_000
    assert time.process_time() - began < 3

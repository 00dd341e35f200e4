from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.bot import rate_limit
from clawd_runtime.bot.rate_limit import RateLimiter, Verdict


@given(st.integers(1, 5), st.lists(st.floats(0.0, 20.0), max_size=60))
def test_never_more_than_the_limit_in_any_minute(limit: int, gaps: list[float]) -> None:
    limiter = RateLimiter(limit)
    now, allowed, explained_since_allowed = 0.0, [], 0
    for gap in gaps:
        now += gap
        match limiter.judge("telegram", "7", now):
            case Verdict.ALLOW:
                allowed.append(now)
                explained_since_allowed = 0
            case Verdict.EXPLAIN:
                explained_since_allowed += 1
        assert explained_since_allowed <= 1
        recent = [time for time in allowed if time > now - 60.0]
        assert len(recent) <= limit


def test_users_and_channels_are_apart() -> None:
    limiter = RateLimiter(1)
    whos = (("telegram", "1"), ("telegram", "2"), ("feishu", "1"))
    assert [limiter.judge(*who, 0.0) for who in whos] == [Verdict.ALLOW] * 3


def test_silent_users_are_forgotten() -> None:
    limiter = RateLimiter(1)
    for user in range(rate_limit.FORGET_EVERY + 10):
        limiter.judge("telegram", str(user), float(user))
    assert len(limiter._allowed) < 200

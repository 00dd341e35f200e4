"""Rejections are counted, and one per kind and minute is logged."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from clawd_runtime.bot.service.rejections import Rejections


def test_rejections_are_counted_and_one_a_minute_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    now, counts = 0.0, Counter[tuple[str, str]]()
    rejections = Rejections(lambda *kind: counts.update([kind]), lambda: now)
    for number in range(100):
        rejections.report("feishu", "signature", f"refused {number}")
    rejections.report("feishu", "token", "refused a token")
    rejections.report("telegram", "signature", "refused another")
    assert [record.message for record in caplog.records] == [
        "refused 0",
        "refused a token",
        "refused another",
    ]
    now = 61.0
    rejections.report("feishu", "signature", "refused again")
    now = 122.0
    rejections.report("feishu", "signature", "refused once more")
    assert [record.message for record in caplog.records][3:] == [
        "refused again (99 more of this kind since)",
        "refused once more",
    ]
    assert counts == {("feishu", "signature"): 102, ("feishu", "token"): 1, ("telegram", "signature"): 1}
    assert {record.levelno for record in caplog.records} == {logging.WARNING}

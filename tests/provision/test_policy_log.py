from __future__ import annotations

from provision.policy_log import PolicyRecord


def test_lines_of_the_bot_become_records() -> None:
    line = (
        "2026-11-30T15:00:00.123Z [INFO] policy: answer of telegram message 17: mask by rule w, "
        "entry '法轮功', 2 times, version 0123456789abcdef"
    )
    assert PolicyRecord.from_line(line) == PolicyRecord(
        "2026-11-30T15:00:00.123Z",
        "answer",
        "telegram message 17",
        17,
        "mask",
        "w",
        "'法轮功'",
        2,
        "0123456789abcdef",
    )


def test_credentials_and_outbound_texts_have_records_too() -> None:
    line = (
        "2026-11-30T15:00:00.123Z [INFO] policy: outbound of a message: "
        "replace by rule credential telegram-token, 1 times, version none"
    )
    found = PolicyRecord.from_line(line)
    assert found is not None
    assert (found.stage, found.number, found.rule, found.entry) == (
        "outbound",
        None,
        "credential telegram-token",
        "",
    )


def test_other_lines_are_no_records() -> None:
    assert (
        PolicyRecord.from_line("2026-11-30T15:00:00.123Z [INFO] policy version 1 is in force: 5 words")
        is None
    )
    assert PolicyRecord.from_line("") is None

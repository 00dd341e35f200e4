"""What is shown where there is no terminal stays whole: a line of advice is a line."""

from __future__ import annotations

import io

from rich.console import Console

from provision.plan import HostResult, OperationFailure, Result, Status
from provision.report import show_result, show_verification
from provision.verify import Check, Verification

LONG = "the host does not reach its package mirror; check its network, or set `internet: false` " * 2


def plain() -> tuple[Console, io.StringIO]:
    screen = io.StringIO()
    return Console(file=screen, width=80), screen


def test_a_failures_advice_is_one_line() -> None:
    console, screen = plain()
    failure = OperationFailure("base", "Packages [hello]", ("E: [red]no[/red]",), LONG)
    show_result(console, Result((HostResult("one", Status.FAILED, failure=failure),)))
    assert f"→ {LONG}".strip() in screen.getvalue()
    assert "E: [red]no[/red]" in screen.getvalue()


def test_what_a_check_found_is_one_line() -> None:
    console, screen = plain()
    show_verification(console, Verification((Check("one", "nginx", "answers", "failed", LONG),)))
    assert LONG.strip() in screen.getvalue()

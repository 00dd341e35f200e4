"""What a person sees: whole lines without a terminal, moving ones on one, and tables of checks."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from provision.plan import (
    FileChange,
    HostPlan,
    HostResult,
    OperationFailure,
    Plan,
    PlannedOperation,
    Result,
    Status,
)
from provision.reporting.display import (
    TerminalProgress,
    show_outcome,
    show_plan,
    show_result,
    show_verification,
)
from provision.reporting.terminal import Differences, View
from provision.run import Exit, Outcome
from provision.verification.run import Check, Verification

LONG = "the host cannot reach its package mirror: check its network, or set `internet: false` " * 2


def plain() -> tuple[Console, io.StringIO]:
    screen = io.StringIO()
    return Console(file=screen, width=80), screen


def test_hint_of_a_failure_is_one_line() -> None:
    console, screen = plain()
    failure = OperationFailure("base", "Packages [hello]", ("E: [red]no[/red]",), LONG)
    show_result(console, Result((HostResult("one", Status.FAILED, failure=failure),)))
    assert f"hint: {LONG}".strip() in screen.getvalue()
    assert "E: [red]no[/red]" in screen.getvalue()


def test_message_of_a_check_is_one_line() -> None:
    console, screen = plain()
    show_verification(console, Verification((Check("one", "nginx", "answers", "failed", LONG),)))
    assert LONG.strip() in screen.getvalue()


VERIFIED = Verification(
    (
        Check("web", "base", "packages are installed", "passed"),
        Check("web", "nginx", "answers", "failed", "no answer"),
        Check("app", "base", "packages are installed", "passed"),
        Check("app", "base", "time zone [UTC]", "passed"),
    )
)


def rows(screen: io.StringIO) -> list[list[str]]:
    """The words of each line, those of a check's name as one."""
    return [line.rsplit(None, 2) for line in screen.getvalue().splitlines()]


def test_checks_are_shown_as_a_table_by_host() -> None:
    console, screen = plain()
    show_verification(console, VERIFIED, every=True)
    assert rows(screen)[:6] == [
        ["check", "web", "app"],
        ["base", "1/1", "2/2"],
        ["  packages are installed", "✓", "✓"],
        ["  time zone [UTC]", "–", "✓"],
        ["nginx", "0/1", "–"],
        ["  answers", "✗", "–"],
    ]
    assert screen.getvalue().endswith("web: nginx: answers\n    no answer\n")


def test_checks_are_counted_by_host_and_failed_ones_named() -> None:
    console, screen = plain()
    show_verification(console, VERIFIED)
    assert [line.rstrip() for line in screen.getvalue().splitlines()] == [
        "web  1 of 2 checks passed, 1 failed",
        "app  2 of 2 checks passed",
        "web: nginx: answers",
        "    no answer",
    ]


@pytest.mark.parametrize(("verbose", "shown"), [(False, False), (True, True)])
def test_verify_lists_passed_checks_only_when_verbose(verbose: bool, shown: bool) -> None:
    console, screen = plain()
    show_outcome(
        console, Outcome(Exit.ERROR, verification=VERIFIED), plan_shown=False, view=View(verbose=verbose)
    )
    assert ("packages are installed" in screen.getvalue()) is shown
    assert "web: nginx: answers" in screen.getvalue()


class Screen(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True


def moving() -> tuple[Console, io.StringIO]:
    screen = Screen()
    return Console(file=screen, width=100, force_terminal=True, color_system=None), screen


def test_progress_has_one_updated_line_per_host() -> None:
    console, screen = moving()
    with TerminalProgress(console) as progress:
        progress.step("apply")
        progress.applying("web", 5)
        progress.applying("app", 2)
        progress.operation("web", PlannedOperation("base", "Packages [hello]", True))
        progress.operation("web", PlannedOperation("base", "Time zone", True))
        progress.operation("app", PlannedOperation("model", "Push", True))
        progress.pushed("app", "/var/lib/clawd/models/x.gguf", 41_000_000, 145_000_000)
    last = screen.getvalue().rpartition("applying")[2].splitlines()
    assert [line.strip() for line in last[1:3]] == [
        "web 2/5 base: Time zone",
        "app 1/2 x.gguf 41 of 145 MB",
    ]


def test_finished_host_shows_its_result_and_next_step_starts_without_host_lines() -> None:
    console, screen = moving()
    with TerminalProgress(console) as progress:
        progress.step("apply")
        progress.applying("web", 5)
        progress.finished(HostResult("web", Status.DONE))
        progress.pause()
        assert f"web 5/5 {Status.DONE}" in screen.getvalue()
        screen.truncate(screen.seek(0))
        progress.resume()
        progress.step("verify")
    assert "verifying" in screen.getvalue()
    assert "web" not in screen.getvalue()


def test_warning_is_printed_above_updated_lines() -> None:
    console, screen = moving()
    with TerminalProgress(console) as progress:
        progress.step("apply")
        progress.warn("only 3 GB are free")
    assert "warning: only 3 GB are free\n" in screen.getvalue()


def test_brackets_in_details_are_not_markup() -> None:
    console, screen = moving()
    with TerminalProgress(console) as progress:
        progress.step("supply")
        progress.detail("wheel [/x] of [red]llama[/red]")
    assert "wheel [/x] of [red]llama[/red]" in screen.getvalue()


@pytest.mark.parametrize(
    ("view", "printed"),
    [
        (View(), "applying\n"),
        (View(verbose=True), "applying\n  web: base: Time zone\n  building\n"),
        (View(quiet=True), ""),
    ],
    ids=["normal", "verbose", "quiet"],
)
def test_progress_without_terminal_is_one_line_per_step(view: View, printed: str) -> None:
    console, screen = plain()
    with TerminalProgress(console, view) as progress:
        progress.step("apply")
        progress.applying("web", 2)
        progress.operation("web", PlannedOperation("base", "Packages", False))
        progress.operation("web", PlannedOperation("base", "Time zone", True))
        for share in (0.1, 0.2):
            progress.detail("building", share)
    assert screen.getvalue() == printed


def test_skipped_check_is_shown_as_neither_passed_nor_failed() -> None:
    checks = (
        Check("web", "nvidia", "driver is in the kernel", "passed"),
        Check("web", "nvidia", "a new container gets the gpu", "skipped", "not tried: there is no image"),
    )
    found = Verification(checks)
    assert found.failed == ()
    assert {key: found.to_json()[key] for key in ("passed", "failed", "skipped")} == {
        "passed": 1,
        "failed": 0,
        "skipped": 1,
    }
    for every in (True, False):
        console, written = plain()
        show_verification(console, found, every=every)
        printed = written.getvalue()
        assert ("○" if every else "1 of 2 checks passed, 1 skipped") in printed
        assert "✗" not in printed
        assert "failed" not in printed
        assert "web: nvidia: a new container gets the gpu\n    not tried: there is no image" in printed


def test_plan_names_what_each_operation_changes() -> None:
    """Operations on several things have one name; each thing has its own."""
    removed = tuple(FileChange(f"/etc/clawd/secrets/{name}", ("removed",), False) for name in ("a", "b"))
    sysctl = FileChange("sysctl net.ipv4.tcp_keepalive_time", ("7200 → 300",), False)
    operations = (
        PlannedOperation("runtime", "Clear /etc/clawd/secrets", True, files=removed),
        PlannedOperation("hardening", "Kernel settings", True, files=(sysctl,)),
    )
    console, screen = plain()
    show_plan(console, Plan((HostPlan("one", operations),)))
    printed = screen.getvalue()
    for name in ("/etc/clawd/secrets/a", "/etc/clawd/secrets/b", "net.ipv4.tcp_keepalive_time"):
        assert printed.count(name) == 1


@pytest.mark.parametrize(("differences", "lines"), [("none", 0), ("short", 40), ("full", 60)])
def test_diff_is_shortened_unless_requested_in_full(differences: Differences, lines: int) -> None:
    change = FileChange("/etc/x", tuple(f"+line {number}" for number in range(60)), False)
    console, screen = plain()
    operations = (PlannedOperation("base", "/etc/x", True, files=(change,)),)
    show_plan(console, Plan((HostPlan("one", operations),)), differences)
    assert screen.getvalue().count("+line") == lines
    assert ("20 more lines: --diff full" in screen.getvalue()) is (differences == "short")


def test_short_differences_cut_long_lines() -> None:
    change = FileChange("/etc/clawd/policy.json", ("+" + "word " * 1000,), False)
    console, screen = plain()
    operations = (PlannedOperation("runtime", "/etc/clawd/policy.json", True, files=(change,)),)
    show_plan(console, Plan((HostPlan("one", operations),)))
    assert "… 4,601 more characters: --diff full" in screen.getvalue()
    assert len(screen.getvalue()) < 1000

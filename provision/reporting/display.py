"""Display of plans, results and checks on a terminal."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from inventory.errors import ConnectError, with_hint
from provision.plan import FileChange, HostResult, Plan, PlannedOperation, Result, Status
from provision.reporting.terminal import Differences, View, moves
from provision.run_journal import JournalEntry
from provision.verification.run import Verification

if TYPE_CHECKING:
    from provision.run import Outcome

STEPS = {
    "connect": "connecting",
    "examine": "checking the hosts",
    "supply": "preparing packages, models and releases",
    "plan": "comparing",
    "apply": "applying",
    "verify": "verifying",
    "journal": "writing the journal",
}
_STYLE = {
    Status.DONE: "green",
    Status.FAILED: "red",
    Status.INTERRUPTED: "yellow",
    Status.ROLLED_BACK: "yellow",
    Status.NOT_BEGUN: "dim",
}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
DIFF_LINES = 40
DIFF_WIDTH = 400
"""Characters of a line that a short difference shows; a file of one line may have a megabyte."""
NORMAL = View()


class TerminalProgress:
    """A progress display: one line for the step and one for each host, redrawn in place.

    When lines cannot be redrawn, each step prints one line; with `view.verbose` also every operation that
    changes something. Warnings of earlier runs (`known`) are counted, not repeated; `warnings` has all.
    """

    def __init__(
        self, console: Console, view: View = NORMAL, known: Callable[[str], bool] = lambda _: True
    ) -> None:
        self._console = console
        self._view = view
        self._is_new = known
        self.warnings: list[str] = []
        self._repeated = 0
        self._live: Live | None = None
        self._step = ""
        self._since = time.monotonic()
        self._detail = ""
        self._hosts: dict[str, tuple[str, int, int]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if moves(self._console) and not self._view.quiet:
            self._live = Live(
                console=self._console, get_renderable=self._draw, refresh_per_second=8, transient=True
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    def pause(self) -> None:
        """Remove the redrawn lines from the screen, so that a question can be asked."""
        if self._live:
            self._live.stop()
            self._live = None

    def resume(self) -> None:
        """Show the redrawn lines again."""
        self.__enter__()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Pause the display while the user is asked something."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def step(self, name: str) -> None:
        """Show the beginning of a step of the pipeline."""
        self._step, self._detail, self._since = STEPS.get(name, name), "", time.monotonic()
        self._hosts.clear()
        if not self._live and not self._view.quiet:
            self._say(self._step)

    def detail(self, message: str, fraction: float | None = None) -> None:
        """Show the progress of a longer step."""
        share = f" {fraction:.0%}" if fraction is not None else ""
        before, self._detail = self._detail, f"{message}{share}"
        if (
            not self._live
            and self._view.verbose
            and message != before.rsplit(" ", 1)[0]
            and message != before
        ):
            self._say(f"  {message}")

    def warn(self, message: str) -> None:
        """Print a warning, which stays on the screen."""
        if message in self.warnings:
            return
        self.warnings.append(message)
        if self._is_new(message) or self._view.verbose:
            self._say(f"warning: {message}")
        else:
            self._repeated += 1

    def say_repeated(self) -> None:
        """Print the number of warnings that earlier runs already showed."""
        if self._repeated and not self._view.quiet:
            what = "warning still applies" if self._repeated == 1 else "warnings still apply"
            self._say(f"{self._repeated} earlier {what}: use --verbose for details")

    def planning(self, host: str, component: str) -> None:
        """Show that a component is compared with a host."""
        self._hosts[host] = (component, 0, 0)

    def applying(self, host: str, operations: int) -> None:
        """Show that a host begins to apply its operations."""
        self._hosts[host] = ("", 0, operations)

    def operation(self, host: str, operation: PlannedOperation) -> None:
        """Show that a host begins an operation."""
        _, done, total = self._hosts.get(host, ("", 0, 0))
        text = f"{operation.component}: {operation.name}"
        self._hosts[host] = (text, done + 1, total)
        if not self._live and self._view.verbose and operation.changes:
            self._say(f"  {host}: {text}")

    def pushed(self, host: str, dest: str, sent: int, total: int) -> None:
        """Show how many bytes of a large file were sent to a host."""
        _, done, operations = self._hosts.get(host, ("", 0, 0))
        text = f"{dest.rsplit('/', 1)[-1]} {sent / 1e6:.0f} of {total / 1e6:.0f} MB"
        self._hosts[host] = (text, done, operations)

    def finished(self, result: HostResult) -> None:
        """Show the result of a host."""
        _, _, total = self._hosts.get(result.host, ("", 0, 0))
        self._hosts[result.host] = (str(result.status), total, total)

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    def _draw(self) -> Group:
        seconds = time.monotonic() - self._since
        doing = escape(f"{self._step}  {self._detail}".rstrip())
        title = f"{doing}  [dim]{seconds:.0f} s[/dim]" if seconds >= 2 else doing
        rows: list[Text] = []
        for host, (text, done, total) in list(self._hosts.items()):
            count = f" [dim]{done}/{total}[/dim]" if total else ""
            rows.append(Text.from_markup(f"    [bold]{escape(host)}[/bold]{count} {escape(text)}"))
        return Group(Spinner("dots", Text.from_markup(title)), *rows)


def show_plan(console: Console, plan: Plan, differences: Differences = "short") -> None:
    """Print what would change, with the lines of files that would differ."""
    for host in plan.hosts:
        name = f"[bold]{escape(host.host)}[/bold]"
        if not host.changing:
            checked = f"[dim]({len(host.operations)} checked)[/dim]"
            but = f", [yellow]but {escape(host.unverified.reason)}[/yellow]" if host.unverified else ""
            console.print(f"{name}  no changes {checked}{but}", soft_wrap=True)
            continue
        unchanged = len(host.operations) - len(host.changing)
        console.print(f"{name}  {len(host.changing)} to change [dim]({unchanged} unchanged)[/dim]")
        heading = ""
        for operation in host.changing:
            removed = " [red]is removed[/red]" if operation.removes else ""
            if heading != (heading := f"  [cyan]{operation.component}[/cyan]{removed}"):
                console.print(heading)
            mark = "[red]-[/red]" if operation.removes else "[yellow]~[/yellow]"
            console.print(f"    {mark} {escape(operation.name)}", highlight=False)
            if differences == "none":
                continue
            for change in operation.files:
                _show_file(console, change, operation.name, whole=differences == "full")


def _show_file(console: Console, change: FileChange, operation: str, *, whole: bool) -> None:
    """Print the differences of a file, under its name unless the operation's name contains it."""
    if change.path not in operation:
        console.print(Text("      " + _CONTROL.sub("", change.path)), soft_wrap=True)
    if change.secret:
        console.print("        [dim]secret, not shown[/dim]")
        return
    lines = [line for line in change.diff if not line.startswith(("---", "+++"))]
    shown = lines if whole else lines[:DIFF_LINES]
    for line in shown:
        style = {"+": "green", "-": "red", "@": "dim"}.get(line[:1], "dim")
        text = _CONTROL.sub("", line.rstrip("\n"))
        if not whole and len(text) > DIFF_WIDTH:
            text = f"{text[:DIFF_WIDTH]}… {len(text) - DIFF_WIDTH:,} more characters: --diff full"
        console.print(Text("        " + text, style=style), soft_wrap=True)
    if len(lines) > len(shown):
        console.print(f"        [dim]… {len(lines) - len(shown)} more lines: --diff full[/dim]")


def show_result(console: Console, result: Result) -> None:
    """Print a table of hosts and, below it, every failure."""
    table = Table(box=None, pad_edge=False)
    for column in ("host", "changed", "unchanged", "result", "time"):
        table.add_column(column, justify="right" if column in {"changed", "unchanged", "time"} else "left")
    for host in result.hosts:
        style = _STYLE[host.status]
        table.add_row(
            escape(host.host),
            str(len(host.changed)),
            str(host.unchanged),
            f"[{style}]{host.status}[/{style}]",
            f"{host.seconds:.1f} s",
        )
    console.print(table)
    for host in result.hosts:
        if host.failure or host.message:
            message = "\n".join(filter(None, (str(host.failure or ""), host.message)))
            text = escape(_CONTROL.sub("", message))
            console.print(f"[red]{escape(host.host)}[/red] {text}", highlight=False, soft_wrap=True)


def show_verification(console: Console, verification: Verification, *, every: bool = False) -> None:
    """Print how many checks passed on each host, then the findings of those that failed or were skipped.

    With `every`, print a table check × host instead of the counts.
    """
    if every:
        _show_every_check(console, verification)
    else:
        _show_counts(console, verification)
    for check in (*verification.failed, *verification.skipped):
        name = escape(f"{check.host}: {check.component}: {check.name}")
        lines = with_hint(check.message, check.hint).splitlines()
        color = "yellow" if check.skipped else "red"
        console.print(f"[{color}]{name}[/{color}]", highlight=False, soft_wrap=True)
        console.print(Text(_CONTROL.sub("", "\n".join("    " + line for line in lines))), soft_wrap=True)


def _show_counts(console: Console, verification: Verification) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for host in dict.fromkeys(check.host for check in verification.checks):
        mine = [check for check in verification.checks if check.host == host]
        passed, skipped = sum(check.passed for check in mine), sum(check.skipped for check in mine)
        failed = len(mine) - passed - skipped
        style = "red" if failed else "yellow" if skipped else "green"
        others = f", {skipped} skipped" * bool(skipped) + f", {failed} failed" * bool(failed)
        table.add_row(escape(host), f"[{style}]{passed} of {len(mine)} checks passed{others}[/{style}]")
    console.print(table)


def _show_every_check(console: Console, verification: Verification) -> None:
    hosts = list(dict.fromkeys(check.host for check in verification.checks))
    components = list(dict.fromkeys(check.component for check in verification.checks))
    table = Table(box=None, pad_edge=False)
    table.add_column("check", overflow="fold")
    for host in hosts:
        table.add_column(escape(host))
    for component in components:
        table.add_row(f"[cyan]{component}[/cyan]", *[_cell(verification, host, component) for host in hosts])
        names = dict.fromkeys(check.name for check in verification.checks if check.component == component)
        for name in names:
            marks = [_mark(verification, host, component, name) for host in hosts]
            table.add_row(f"  {escape(name)}", *marks)
    console.print(table)


def _cell(verification: Verification, host: str, component: str) -> str:
    mine = [check for check in verification.checks if (check.host, check.component) == (host, component)]
    passed = sum(check.passed for check in mine)
    if not mine:
        return "[dim]–[/dim]"
    left = {check.skipped for check in mine if not check.passed}
    style = "red" if False in left else "yellow" if left else "green"
    return f"[{style}]{passed}/{len(mine)}[/{style}]"


def _mark(verification: Verification, host: str, component: str, name: str) -> str:
    wanted = (host, component, name)
    mine = [check for check in verification.checks if (check.host, check.component, check.name) == wanted]
    if not mine:
        return "[dim]–[/dim]"
    if any(not check.passed and not check.skipped for check in mine):
        return "[red]✗[/red]"
    return "[green]✓[/green]" if all(check.passed for check in mine) else "[yellow]○[/yellow]"


def show_outcome(console: Console, outcome: Outcome, *, plan_shown: bool, view: View = NORMAL) -> None:
    """Print the parts of an outcome; the plan only if it was not shown before."""
    if outcome.plan and not plan_shown:
        show_plan(console, outcome.plan, "none" if view.quiet else view.differences)
    if outcome.result:
        show_result(console, outcome.result)
    if outcome.verification:
        show_verification(console, outcome.verification, every=view.verbose)
    _show_unreachable(console, outcome.unreachable or {})
    if outcome.message:
        console.print(outcome.message, markup=False, soft_wrap=True)


def _show_unreachable(console: Console, unreachable: Mapping[str, ConnectError]) -> None:
    for error in unreachable.values():
        console.print(f"not reached: {error}", markup=False, soft_wrap=True)


def show_history(
    console: Console, history: Mapping[str, Iterable[JournalEntry]], unreachable: Mapping[str, ConnectError]
) -> None:
    """Print the runs on every host, oldest first, and the hosts that cannot be reached."""
    table = Table(box=None, pad_edge=False)
    for column in ("host", "when", "who", "result", "changed"):
        table.add_column(column)
    for host, entries in history.items():
        for entry in entries:
            names = ", ".join(entry.changed[:3]) + (
                f" … {len(entry.changed)}" if len(entry.changed) > 3 else ""
            )
            table.add_row(
                escape(host), entry.time, escape(entry.who), entry.status, escape(names or entry.failure)
            )
    console.print(table)
    _show_unreachable(console, unreachable)

"""One shell answers all commands of the checks as one shell each would."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory.errors import VerifyError
from provision.verification.shell import Ends, ShellBackend


def started(name: str, *command: str) -> ShellBackend:
    """A shell of this machine, by `command`."""
    (stdin, to), (out, stdout), (err, stderr) = os.pipe(), os.pipe(), os.pipe()
    subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr)
    for end in (stdin, stdout, stderr):
        os.close(end)
    return ShellBackend(name, Ends(to, out, err))


@pytest.fixture(scope="module")
def shell() -> Iterator[ShellBackend]:
    opened = started("here", "sh")
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "command",
    [
        "echo one",
        "printf one",
        "printf 'one\\n\\n'",
        "true",
        "exit 7",
        "echo one; echo two >&2; false",
        "printf out; printf err >&2",
        "cat",
        "echo 'it''s' \"quoted\" $((1 + 1))",
        "printf '\\377\\000x'",
        "no-such-command",
        "echo unterminated '",
        "kill -9 $$",
    ],
)
def test_command_result_equals_that_of_its_own_shell(shell: ShellBackend, command: str) -> None:
    alone = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True)
    heard = shell.run(command)
    # A shell reports a signal as 128 and its number; here one shell waits for another.
    assert heard.exit_status == (alone.returncode if alone.returncode >= 0 else 128 - alone.returncode)
    assert heard.stdout_bytes == alone.stdout
    if alone.returncode >= 0:
        assert heard.stderr_bytes == alone.stderr


def test_commands_do_not_change_the_shell_of_later_ones(shell: ShellBackend) -> None:
    before = shell.run("pwd; umask; set").stdout
    shell.run("cd /; umask 0; LEFT=behind; exec 3>&1; exit 1")
    assert shell.run("pwd; umask; set").stdout == before


def test_output_larger_than_a_pipe_is_complete_on_both_streams(shell: ShellBackend) -> None:
    heard = shell.run("head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2")
    assert (len(heard.stdout_bytes), len(heard.stderr_bytes)) == (300_000, 600_000)


@settings(max_examples=30)
@given(out=st.text(max_size=50), err=st.text(max_size=50), status=st.integers(0, 255))
def test_any_output_is_returned_unchanged(out: str, err: str, status: int) -> None:
    out, err = out.replace("\0", ""), err.replace("\0", "")
    shell = started("here", "sh")
    heard = shell.run("printf %%s %s; printf %%s %s >&2; exit %s", out, err, str(status))
    shell.close()
    assert (heard.stdout_bytes, heard.stderr_bytes) == (out.encode(), err.encode())
    assert heard.exit_status == status


@pytest.mark.parametrize(
    "order", ["echo 'Connection reset' >&2", "exec >&-; sleep 0.2; echo 'Connection reset' >&2"]
)
def test_lost_connection_is_reported(order: str) -> None:
    shell = started("bot1", "sh", "-c", f"read line; {order}")
    with pytest.raises(VerifyError, match=r"bot1: the connection was lost during a check: Connection reset"):
        shell.run("true")
    with pytest.raises(VerifyError, match="bot1"):
        shell.run("true")
    shell.close()


def test_standard_input_of_a_command_is_in_no_process_argument(shell: ShellBackend) -> None:
    secret = "it's a $(secret)\nof two `lines`"
    done = shell.run("cat; ps -o args= -p $$ --ppid $$; ps -eo args= | grep -c 'a [$](secret)'", stdin=secret)
    assert done.stdout.startswith(f"{secret}\n")
    assert done.stdout.endswith("0\n")
    assert shell.run("cat").stdout == ""

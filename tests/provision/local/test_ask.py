"""Secrets typed on a real terminal: hidden, asked for once, tried again, never where there is none."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

from provision.local.ask import NoTerminal

ROOT = Path(__file__).parents[3]
ASKING = """
from provision.local import concurrency
concurrency.enable()
import gevent
from provision.local.ask import Terminal
beats = []
gevent.spawn(lambda: [(gevent.sleep(0.05), beats.append(1)) for _ in range(100)])
ask = Terminal()
def right(typed):
    return typed in ("right", "other")
print("got", ask.secret("sudo ops", "sudo password of ops on bot1", right))
print("got", ask.secret("sudo ops", "sudo password of ops on bot2", right))
print("got", ask.secret("passphrase", "passphrase of key", right))
print("beats", len(beats) > 3)
"""


def typing(*lines: str) -> str:
    """What a terminal shows while a person answers each question with a line."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-W", "ignore", "-c", ASKING])
    shown, answers = b"", list(lines)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.5)[0]:
            try:
                shown += os.read(terminal, 4096)
            except OSError:
                break
        if answers and shown.endswith(b": "):
            time.sleep(0.4)
            os.write(terminal, answers.pop(0).encode())
            shown += b"\0"
    os.waitpid(process, 0)
    os.close(terminal)
    return shown.decode().replace("\r\n", "\n")


def test_answer_is_hidden_asked_again_when_wrong_and_remembered_by_kind() -> None:
    shown = typing("nope\n", "right\n", "other\n")
    assert shown.count("sudo password of ops on bot1: ") == 2
    assert "wrong; sudo password of ops on bot1: " in shown
    assert "on bot2" not in shown
    assert "passphrase of key: " in shown
    printed = [line for line in shown.splitlines() if line.startswith(("got", "beats"))]
    assert printed == ["got right", "got right", "got other", "beats True"]
    assert "nope" not in shown


def test_empty_answer_ends_the_question() -> None:
    assert typing("\n", "nope\n", "nope\n", "nope\n", "\4").count("got None") == 3


def test_nothing_is_asked_without_a_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASKING],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout.splitlines()[:3] == ["got None"] * 3
    assert done.stderr == ""
    assert NoTerminal().secret("kind", "question", lambda _: True) is None

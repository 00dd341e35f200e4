"""The log of a run: what goes into it, and what stays off the screen."""

from __future__ import annotations

import logging
import socket
import threading
from pathlib import Path

import paramiko
import pytest

from inventory.errors import ToolError
from provision.local.run_log import RunLog


def test_log_is_private_and_keeps_the_last_lines_of_every_host(tmp_path: Path) -> None:
    log = RunLog("up", tmp_path)
    logging.getLogger("pyinfra").warning("\x1b[1m[one]\x1b[0m \x1b[31mNo space left\x1b[0m")
    logging.getLogger("pyinfra").info("[one] Connected")
    log.close()
    assert log.path.stat().st_mode & 0o777 == 0o600
    assert "[WARNING] [one] No space left" in log.path.read_text()
    assert log.tail("one") == ("No space left",)
    assert log.tail("two") == ()


def test_loggers_are_restored_after_a_run(tmp_path: Path) -> None:
    loggers = [logging.getLogger(name) for name in ("pyinfra", "clawd", "paramiko")]
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    RunLog("up", tmp_path).close()
    assert [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers] == before


def test_broken_ssh_banner_is_logged_and_not_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = RunLog("up", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def say_nonsense() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"nonsense\r\n")

        threading.Thread(target=say_nonsense, daemon=True).start()
        client = paramiko.SSHClient()
        with pytest.raises(paramiko.SSHException):
            client.connect("127.0.0.1", listener.getsockname()[1], allow_agent=False, look_for_keys=False)
        client.close()
    log.close()
    assert "Traceback" not in capfd.readouterr().err
    assert "Error reading SSH protocol banner" in log.path.read_text()


def test_unwritable_log_folder_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = list(logging._handlerList)  # type: ignore[attr-defined]
    with pytest.raises(ToolError, match=r"cannot write the log of this run to .*/file/log: Not a directory"):
        RunLog("up", tmp_path / "file" / "log")
    # What is listed there is flushed and closed when Python ends.
    added = [handler for handler in logging._handlerList if handler not in before]  # type: ignore[attr-defined]
    assert added == []


def test_file_name_that_is_not_utf_8_is_logged_escaped(tmp_path: Path) -> None:
    log = RunLog("up", tmp_path)
    logging.getLogger("clawd").warning("cannot read h\udcff")
    log.close()
    assert r"cannot read h\udcff" in log.path.read_text()

"""Running operations for real, but on this machine: pyinfra's local connector, as the user of the tests.

    machine = Machine()
    run = machine.run(lambda: files.put(str(path), "text", **OWN))
    assert run.predicted and run.changed

Paths are those of a temporary folder. With `facts`, facts are answered from a table instead (of answers, or
of functions of what is asked), so that one can ask what an operation would do on a host in any state. With
`ssh`, the connection has a client as SSH's has.
"""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import isfunction
from types import SimpleNamespace
from typing import Any

import pyinfra
from pyinfra.api import Config, Inventory, State
from pyinfra.api.operations import run_host_op
from pyinfra.api.state import StateStage
from pyinfra.context import ctx_host, ctx_state

from deploys.ops.debian.added import AddedFact
from deploys.ops.diff import collected
from deploys.ops.facts import PathFact, StaysFact
from deploys.ops.paths.data import Data, DataFact
from deploys.ops.removal import ForeignUnitFact, OriginalsFact
from deploys.ops.run_state import Change

OWN: dict[str, Any] = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
"""The user of the tests, who may give files only to itself."""


@dataclass(frozen=True)
class Run:
    """Results of the operations of one run, in order, and taken together."""

    predictions: tuple[bool, ...]
    results: tuple[bool, ...]
    succeeded: bool
    changes: tuple[Change, ...]
    output: str
    commands: tuple[Any, ...]
    names: tuple[str, ...]

    @property
    def predicted(self) -> bool:
        return any(self.predictions)

    @property
    def changed(self) -> bool:
        return any(self.results)


class Machine:
    """This machine as a pyinfra host; `data` is its host data."""

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        facts: Mapping[Any, Any] | None = None,
        ssh: Any = None,
    ) -> None:
        self._data, self._facts, self._ssh = dict(data or {}), facts, ssh

    def run(self, operations: Callable[[], object], *, execute: bool = True) -> Run:
        """Prepare the operations, and `execute` them until one fails."""
        host, state = self._connected()
        with ctx_state.use(state), ctx_host.use(host):
            state.set_stage(StateStage.Prepare)
            operations()
            hashes = tuple(host.op_hash_order)
            metas = [state.ops[host][op_hash].operation_meta for op_hash in hashes]
            predictions = tuple(bool(meta._maybe_is_change) for meta in metas)
            changes = tuple(change for op_hash in hashes for change in collected(host, op_hash))
            names = tuple(name for op_hash in hashes for name in state.get_op_meta(op_hash).names)
            labels = [state.get_op_meta(op_hash).args for op_hash in hashes]
            assert not any(labels), f"arguments shown as labels: {labels}"
            if not execute:
                return Run(predictions, (), True, changes, "", (), names)
            state.set_stage(StateStage.Execute)
            state.is_executing = True
            succeeded = all(run_host_op(state, host, op_hash) for op_hash in hashes)
        done = [meta for meta in metas if meta.is_complete()]
        output = "\n".join(line for meta in done for line in (*meta.stdout_lines, *meta.stderr_lines))
        commands = tuple(command for meta in done for command in meta._commands or ())
        return Run(
            predictions,
            tuple(meta.did_change() for meta in done),
            succeeded,
            changes,
            output,
            commands,
            names,
        )

    def _connected(self) -> tuple[Any, State]:
        pyinfra.is_cli = False
        state = State(Inventory(([("@local", self._data)], {})), Config())
        (host,) = state.inventory
        state.set_stage(StateStage.Connect)
        host.connect(raise_exceptions=True)
        state.activate_host(host)
        host.connector.client = self._ssh
        facts = self._facts
        if facts is not None:
            answers = facts
            host.get_fact = lambda cls, **asked: _answer(answers, cls, asked)
        return host, state


def _answer(answers: Mapping[Any, Any], cls: Any, asked: Mapping[str, Any]) -> Any:
    """Return the answer in the table, which may be a function of what is asked."""
    if cls not in answers:
        return _untold(answers, cls, asked)
    return answers[cls](**asked) if isfunction(answers[cls]) else answers[cls]


def _untold(answers: Mapping[Any, Any], cls: Any, asked: Mapping[str, Any]) -> Any:
    """What is answered without being in the table: that nothing there is anybody else's; and the data of
    a component that is removed: all that it speaks of, where paths are there."""
    if cls in (AddedFact, ForeignUnitFact, OriginalsFact, StaysFact):
        return cls.default()
    if cls is not DataFact:
        raise KeyError(cls)
    there = answers[PathFact].kind != "absent"
    return tuple(Data(path, what, 1) for path, what, *_ in asked["given"]) if there else ()


class Line:
    """A stand-in for paramiko's client whose commands run here. `breaks_after` bytes sent, it is cut off."""

    def __init__(self, breaks_after: int | None = None) -> None:
        self.breaks_after = breaks_after
        self.sent = 0

    def get_transport(self) -> Any:
        return SimpleNamespace(open_session=lambda: _Channel(self))


class _Channel:
    def __init__(self, line: Line) -> None:
        self._line = line

    def exec_command(self, command: str) -> None:
        self._process = subprocess.Popen(
            command, shell=True, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )

    def sendall(self, piece: bytes) -> None:
        if self._line.breaks_after is not None and self._line.sent + len(piece) > self._line.breaks_after:
            self._input.close()
            raise OSError("Socket is closed")
        self._line.sent += len(piece)
        self._input.write(piece)

    def shutdown_write(self) -> None:
        self._input.close()

    def makefile_stderr(self, _mode: str) -> Any:
        return self._process.stderr

    def recv_exit_status(self) -> int:
        return self._process.wait()

    def close(self) -> None:
        if self._process.stderr:
            self._process.stderr.close()

    @property
    def _input(self) -> Any:
        return self._process.stdin

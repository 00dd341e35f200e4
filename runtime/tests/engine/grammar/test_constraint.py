"""Grammars in processes of their own, with the vocabulary of the real model."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from clawd_runtime.engine.grammar.constraint import Grammars
from clawd_runtime.engine.grammar.gbnf import JSON_OBJECT
from clawd_runtime.errors import BusyError, RequestError

pytestmark = pytest.mark.model

ENDLESS_CHAIN = "root ::= r0\n" + "\n".join(f"r{n} ::= r{n + 1}" for n in range(5000)) + '\nr5000 ::= "a"'
AMBIGUOUS = 'root ::= "a" root "b" | "a" root "c" | "a"'


@pytest.fixture(scope="module")
def grammars(model_path):
    made = Grammars(str(model_path), most=4)
    yield made
    made.close()


def follow(constraint, steps: int) -> None:
    """Accept the longest of the allowed tokens, `steps` times."""
    for _ in range(steps):
        allowed = constraint.next(0)
        if allowed is None:
            return
        constraint.accept(int(np.flatnonzero(allowed)[-1]))


def test_constraint_accepts_tokens_or_returns_allowed_ones(grammars):
    constraint = grammars.constraint('root ::= "a" | "b"', "grammar")
    try:
        allowed = constraint.next(0)
        assert 2 <= allowed.sum() <= 4
        constraint.accept(int(np.flatnonzero(allowed)[0]))
        assert constraint.next(0) is None, "the text is complete, and token 0 ends it"
    finally:
        constraint.close()


@pytest.mark.parametrize(
    "grammar",
    [
        "",
        " ",
        "\0",
        "x" * 200_000,
        "\ud800",
        "root ::= (((",
        "root ::= [",
        'rt ::= "a"',
        "root ::= other",
        'root ::= root "a"',
        'root ::= "\\x"',
        'root ::= "a"{99999999}',
        'root ::= "a"{5,2}',
        "root ::= [z-a]",
        "root ::= [^\\x00-\\U0010FFFF]",
        "root ::= " + "(" * 40_000 + '"a"' + ")" * 40_000,
        "root ::= <[99999999]>",
    ],
)
def test_invalid_and_hostile_grammars_are_refused_in_time(grammars, grammar):
    began = time.monotonic()
    with pytest.raises(RequestError) as caught:
        grammars.constraint(grammar, "grammar")
    assert caught.value.status == 400
    assert caught.value.param == "grammar"
    assert len(str(caught.value)) < 1200
    assert time.monotonic() - began < 30
    grammars.constraint('root ::= "a"', "grammar").close()


@pytest.mark.parametrize("grammar", [ENDLESS_CHAIN, 'root ::= ("a"*)*', 'root ::= ("a"?){900}', AMBIGUOUS])
def test_expensive_grammar_fails_alone(grammars, grammar):
    other = grammars.constraint(JSON_OBJECT, "response_format")
    try:
        constraint = grammars.constraint(grammar, "grammar")
    except RequestError:
        constraint = None
    try:
        if constraint is not None:
            if grammar == AMBIGUOUS:
                with pytest.raises(RequestError, match="too much time or memory"):
                    follow(constraint, 200)
            else:
                follow(constraint, 20)
        assert other.next(0) is not None
    finally:
        other.close()
        if constraint is not None:
            constraint.close()


def test_constraints_are_limited_in_number(grammars):
    held = [grammars.constraint(JSON_OBJECT, "grammar") for _ in range(4)]
    try:
        with pytest.raises(BusyError):
            grammars.constraint(JSON_OBJECT, "grammar")
    finally:
        for constraint in held:
            constraint.close()
            constraint.close()
    grammars.constraint(JSON_OBJECT, "grammar").close()


def test_killed_process_is_started_again(grammars):
    held = grammars.constraint(JSON_OBJECT, "grammar")
    os.kill(grammars._process.pid, signal.SIGKILL)
    grammars._process.wait()
    assert held.next(0) is not None, "its own process is another one"
    held.close()
    grammars.constraint(JSON_OBJECT, "grammar").close()


def test_process_survives_sigterm_so_that_answers_are_completed(grammars):
    grammars.constraint(JSON_OBJECT, "grammar").close()
    os.kill(grammars._process.pid, signal.SIGTERM)
    time.sleep(0.2)
    assert grammars._process.poll() is None


def test_processes_end_with_their_constraints(grammars):
    constraint = grammars.constraint(JSON_OBJECT, "grammar")

    def children() -> int:
        text = Path(f"/proc/{grammars._process.pid}/task/{grammars._process.pid}/children").read_text()
        return len(text.split())

    assert children() == 1
    constraint.close()
    deadline = time.monotonic() + 10
    while children():
        assert time.monotonic() < deadline
        time.sleep(0.01)

"""The process that forks a process for each constrained answer: `python -m … MODEL`, control socket as input.

llama.cpp ends the process on an error in a grammar, and some grammars take unlimited time or memory. So each
answer's grammar runs in a process of its own, which limits itself and exits when its socket is closed.
The model is loaded once, without its weights.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from clawd_runtime.engine.grammar.wire import (
    ACCEPT,
    ALLOW,
    LARGEST_PACKET,
    NO,
    READY,
    REFUSED,
    TOKEN,
    YES,
)

# Processor time of one operation; then the kernel ends the process.
MOST_SECONDS = 1.0
MOST_MEMORY = 256 * 1024 * 1024  # bytes that one grammar may add

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Candidates:
    """Tokens as llama.cpp's samplers receive them, all of the same score."""

    def __init__(self, tokens: Any) -> None:
        self._array = np.zeros(len(tokens), _CANDIDATE)
        self._array["id"] = tokens

    def passing(self, grammar: Any) -> Any:
        """Return for each token whether `grammar` allows it."""
        self._array["logit"] = 0
        data = self._array.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data))
        given = llama_cpp.llama_token_data_array(data=data, size=len(self._array), selected=-1, sorted=False)
        llama_cpp.llama_sampler_apply(grammar, ctypes.byref(given))
        return np.isfinite(self._array["logit"])


class TokenVocabulary:
    """The tokens of a model file."""

    def __init__(self, path: str) -> None:
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = True
        model = llama_cpp.llama_model_load_from_file(os.fsencode(path), parameters)
        if not model:
            raise SystemExit(f"cannot read the vocabulary of {path}")
        self.pointer: Any = llama_cpp.llama_model_get_vocab(model)
        self._candidates = Candidates(np.arange(llama_cpp.llama_vocab_n_tokens(self.pointer)))
        size = llama_cpp.llama_vocab_n_tokens(self.pointer)
        self._text = np.array([self._is_text(token) for token in range(size)])

    def _is_text(self, token: int) -> bool:
        """Return whether `token` ends an answer or is text; the grammar knows others by their names."""
        return bool(
            llama_cpp.llama_vocab_is_eog(self.pointer, token)
            or not llama_cpp.llama_vocab_is_control(self.pointer, token)
        )

    def allows(self, grammar: Any, token: int) -> bool:
        """Return whether `grammar` allows `token`."""
        return bool(self._text[token] and Candidates([token]).passing(grammar)[0])

    def allowed(self, grammar: Any) -> Any:
        """Return for each token whether `grammar` allows it."""
        return self._candidates.passing(grammar) & self._text


def serve(vocabulary: TokenVocabulary, control: socket.socket) -> None:
    """Fork a process for each socket received from `control`, until it is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, files, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        if not files:
            continue
        if os.fork() == 0:
            control.close()
            with socket.socket(fileno=files[0]) as answer:
                _constrain(vocabulary, answer)
            os._exit(0)
        os.close(files[0])


def _constrain(vocabulary: TokenVocabulary, answer: socket.socket) -> None:
    """Run one answer's grammar."""
    _limit_memory()
    _arm()
    text = answer.recv(LARGEST_PACKET)
    grammar, why = _compiled(vocabulary, text)
    if not grammar:
        answer.send(REFUSED + why.encode()[:1000])
        return
    if not vocabulary.allowed(grammar).any():
        answer.send(REFUSED + b"no text matches it")
        return
    answer.send(READY)
    while packet := answer.recv(TOKEN.size):
        _arm()
        question, token = TOKEN.unpack(packet)
        if question == ACCEPT or vocabulary.allows(grammar, token):
            llama_cpp.llama_sampler_accept(grammar, token)
            reply = YES
        else:
            reply = NO + np.packbits(vocabulary.allowed(grammar), bitorder="little").tobytes()
        if question == ALLOW:
            answer.send(reply)


def _compiled(vocabulary: TokenVocabulary, text: bytes) -> tuple[Any, str]:
    """Return the grammar, and what llama.cpp writes to standard error about it."""
    errors = os.memfd_create("errors")
    os.dup2(errors, 2)
    grammar = llama_cpp.llama_sampler_init_grammar(vocabulary.pointer, text, b"root")
    os.lseek(errors, 0, os.SEEK_SET)
    lines = os.read(errors, 4000).decode(errors="replace").splitlines()
    return grammar, lines[0].removeprefix("parse: ") if lines else "it cannot be parsed"


def _arm() -> None:
    """Set the time in which the next operation must end."""
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)


def _limit_memory() -> None:
    # Where a sandbox forbids the limit, the kernel ends this process before any other.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (used + MOST_MEMORY, used + MOST_MEMORY))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Serve on standard input."""
    # The engine ends this process by closing the socket. Signals to the group are meant for the engine,
    # which completes its answers first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    quiet = llama_cpp.llama_log_callback(_errors_only)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    with socket.socket(fileno=0) as control:
        serve(TokenVocabulary(sys.argv[1]), control)


def _errors_only(level: int, text: bytes, _data: object) -> None:
    if level == 4:
        os.write(2, text)


if __name__ == "__main__":
    main()

"""Clients that ask a server for streamed answers, all at once, and note when each piece arrives.

A client reads the bytes of the connection itself: a library would take processor time from the servers.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TEXT = re.compile(rb'"content": ?"[^"]')
"""A piece that has text; the first one of an answer often has only the role."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it arrived: when it was asked for, when each piece came, and how many tokens it has."""

    began: float
    pieces: tuple[float, ...]
    tokens: int

    @property
    def first(self) -> float:
        """Return the seconds until the first piece."""
        return self.pieces[0] - self.began

    @property
    def gaps(self) -> list[float]:
        """Return the seconds between pieces."""
        return [later - earlier for earlier, later in zip(self.pieces, self.pieces[1:], strict=False)]


@dataclass(frozen=True, slots=True)
class Question:
    """What one client asks."""

    system: str
    user: str
    tokens: int = 64


def is_ready(path: Path) -> bool:
    """Return whether the server at this socket says that it is ready."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(path))
            client.sendall(b"GET /health HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            return b" 200 " in client.recv(64)
    except OSError:
        return False


def ask(path: Path, system: str, user: str, tokens: int) -> Answer:
    """Ask one question and wait for the whole answer."""
    return asyncio.run(_ask(path, Question(system, user, tokens)))


def ask_all(path: Path, questions: Sequence[Sequence[Question]]) -> list[Answer]:
    """Ask as many clients at once as there are sequences of questions, each one after another."""

    async def client(mine: Sequence[Question]) -> list[Answer]:
        return [await _ask(path, question) for question in mine]

    async def all_clients() -> list[list[Answer]]:
        return await asyncio.gather(*map(client, questions))

    return [answer for answers in asyncio.run(all_clients()) for answer in answers]


async def _ask(path: Path, question: Question) -> Answer:
    body = json.dumps(
        {
            "model": "bench",
            "messages": [
                {"role": "system", "content": question.system},
                {"role": "user", "content": question.user},
            ],
            "max_tokens": question.tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    began = time.monotonic()
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(head.encode() + body)
    pieces, usage = [], b""
    try:
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError((status + await reader.read(2000)).decode(errors="replace"))
        while line := await reader.readline():
            if TEXT.search(line):
                pieces.append(time.monotonic())
            if b'"completion_tokens"' in line:
                usage = line
    finally:
        writer.close()
    tokens = json.loads(usage.partition(b":")[2])["usage"]["completion_tokens"] if usage else len(pieces)
    return Answer(began, tuple(pieces), tokens)

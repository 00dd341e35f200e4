"""Parsing of streamed answers of the chat protocol into strict values.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html and OpenAI's "chat completion chunk".
Extensions that servers send are listed at the code that reads them. `httpx-sse` is not used: it ends an event
only at an empty line, which some servers leave out, and reads lines of any length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from clawd_runtime.bot.foreign_json import read_foreign_json
from clawd_runtime.bot.models.provider_errors import ProviderError, error_of

LONGEST_EVENT = 1024 * 1024
"""Maximum size of one event in bytes."""

Cut = Literal["length", "filtered", "broken"]
"""Why an answer is incomplete: the maximum length, a content filter, or an error during the stream."""

_COMPLETE = {
    *("stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_token", "complete", "completed", "done"),
    *("tool_calls", "tool_use", "function_call", "tool_call"),
}
_CUT: dict[str, Cut] = {
    **dict.fromkeys(
        ("length", "max_tokens", "max_length", "max_output_tokens", "model_length", "limit"), "length"
    ),
    **dict.fromkeys(("model_context_window_exceeded", "context_length_exceeded"), "length"),
    **dict.fromkeys(("content_filter", "content_filtered", "safety", "sensitive", "refusal"), "filtered"),
    **dict.fromkeys(("recitation", "blocklist", "prohibited_content", "spii"), "filtered"),
    "guardrail_intervened": "filtered",
    **dict.fromkeys(("error", "abort", "aborted", "cancelled", "canceled", "network_error"), "broken"),
    **dict.fromkeys(("insufficient_system_resource", "timeout", "malformed_function_call"), "broken"),
}
# Words in further names of these reasons, such as `token_limit`; the first match counts.
_CUT_WORDS: tuple[tuple[re.Pattern[str], Cut], ...] = (
    (
        re.compile(r"filter|safety|sensitive|moderat|polic|prohibit|censor|inspection|flagged"),
        "filtered",
    ),
    (
        re.compile(r"error|fail|abort|cancel|interrupt|time_?out|(time|rate|quota|budget)\w*limit|overload"),
        "broken",
    ),
    (re.compile(r"length|limit|max\w*token|max_|truncat|exceed|too_long|out_of_tokens"), "length"),
)
_LONGEST_REASON = 64
_TEXT_PARTS = {"text", "output_text", "input_text"}
_REASONING_PARTS = {"thinking", "reasoning", "redacted_thinking", "thought", "reasoning_text", "summary_text"}
_REASONING_FIELDS = (
    *("reasoning_content", "reasoning", "thinking", "reasoning_text", "thoughts"),
    # OpenRouter's and LiteLLM's, possibly encrypted.
    *("reasoning_details", "thinking_blocks"),
)
_IGNORED_PARTS = {"reference"}  # Mistral's: the source of the preceding text
_PART_TEXT = ("text", "thinking", "reasoning", "content", "refusal", "summary", "data")
_MOST_DEPTH = 4
_CODES = ("code", "error_code", "status_code", "errcode")
_WORDS = ("message", "msg", "error_msg", "status_msg", "errmsg")


class MalformedChunk(ValueError):
    """A value that is not part of an answer in this protocol."""


@dataclass(frozen=True, slots=True)
class CountedTokens:
    """The server's count of the tokens of a request: of its prompt, and of its answer with its reasoning."""

    prompt: int
    answer: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of an answer.

    `finish` is how the answer ended, if it ended with this part. `reasoning_tokens` and `tokens` are the
    server's count.
    `unknown` lists short names of ignored elements that are not supported.
    """

    text: str = ""
    reasoning: str = ""
    finish: Literal["complete"] | Cut | None = None
    reasoning_tokens: int | None = None
    error: ProviderError | None = None
    unknown: tuple[str, ...] = ()
    tokens: CountedTokens | None = None


DONE: Literal["done"] = "done"


class EventReader:
    """A parser of server-sent events, fed in pieces. How they are split does not change the result.

    An event is complete as soon as it is a whole JSON value, so an empty line after it is not needed. Lines
    may end with CR LF, LF or CR. `error:` lines (llama.cpp) and bare JSON objects (from a server that does
    not wrap them) are events, too. Raise `MalformedChunk` for an event that is larger than `LONGEST_EVENT` or
    not JSON.
    """

    def __init__(self) -> None:
        self._line = bytearray()
        self._after_cr = False
        self._first = True
        self._name = ""
        self._bare = False  # within a JSON value of several lines without field names
        self._data: list[str] = []
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[Chunk | Literal["done"]]:
        """Yield the chunks that `piece` completes."""
        for line in self._lines(piece):
            yield from self._read(line)

    def finish(self) -> Iterator[Chunk | Literal["done"]]:
        """Yield the remaining chunks at the end of the stream."""
        yield from self._read(self._taken())
        yield from self._end()

    def _lines(self, piece: bytes) -> Iterator[str]:
        if self._after_cr and piece.startswith(b"\n"):
            piece, self._after_cr = piece[1:], False
        if not piece:
            return
        self._after_cr = piece.endswith(b"\r")
        # bytes.splitlines breaks at CR LF, LF and CR, and nowhere else.
        for part in piece.splitlines(keepends=True):
            self._line += part.rstrip(b"\r\n")
            if len(self._line) > LONGEST_EVENT:
                raise MalformedChunk(f"event larger than {LONGEST_EVENT} bytes")
            if part[-1:] in (b"\r", b"\n"):
                yield self._taken()

    def _taken(self) -> str:
        line = self._line.decode("utf-8", "replace")
        self._line.clear()
        if self._first:
            self._first = False
            line = line.removeprefix("\ufeff")
        return line

    def _read(self, line: str) -> Iterator[Chunk | Literal["done"]]:
        if not line:
            if not self._bare:
                yield from self._end()
            return
        if self._bare or (line.startswith("{") and not self._data):
            name, value, self._bare = "data", line, True
        else:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
        if name == "event":
            self._name = value.strip()
        elif name == "error" and value.lstrip().startswith("{"):
            yield from self._event("error", value)
        elif name == "data":
            yield from self._add(value)

    def _add(self, value: str) -> Iterator[Chunk | Literal["done"]]:
        self._size += len(value)
        if self._size > LONGEST_EVENT:
            raise MalformedChunk(f"event larger than {LONGEST_EVENT} bytes")
        if not self._data:
            if not value.strip():
                return
            if value.strip().lower() == "[done]":
                yield DONE
                return
            try:
                whole = read_foreign_json(value)
            except ValueError:
                pass
            else:
                yield chunk_of(whole, failed=self._name == "error")
                self._size, self._bare = 0, False
                return
        self._data.append(value)

    def _end(self) -> Iterator[Chunk | Literal["done"]]:
        data, name = self._data, self._name
        self._data, self._name, self._size, self._bare = [], "", 0, False
        if data:
            yield from self._event(name, "\n".join(data))

    def _event(self, name: str, data: str) -> Iterator[Chunk]:
        try:
            value = read_foreign_json(data)
        except ValueError:
            if name == "error":
                value = data
            else:
                raise MalformedChunk("event is not JSON") from None
        yield chunk_of(value, failed=name == "error")


def read_whole(body: bytes) -> Iterator[Chunk | Literal["done"]]:
    """Yield the chunks of an answer whose content type is JSON: one object, or a stream in spite of it."""
    try:
        value = read_foreign_json(body)
    except ValueError:
        reader = EventReader()
        yield from reader.feed(body)
        yield from reader.finish()
    else:
        yield chunk_of(value)


def chunk_of(value: Any, *, failed: bool = False) -> Chunk:
    """Return the chunk in a JSON value: a part of a streamed answer, or a complete unstreamed answer.

    `failed`: the server sent it as an error. Raise `MalformedChunk` if it is neither.
    """
    if failed:
        return Chunk(error=error_of(200, value))
    if not isinstance(value, dict):
        raise MalformedChunk("event is not an object")
    if value.get("error"):
        return Chunk(error=error_of(200, value["error"] if isinstance(value["error"], dict) else value))
    choices = value.get("choices")
    if choices is None and _is_failure(value):
        return Chunk(error=error_of(200, value))
    if not isinstance(choices, list | None):
        raise MalformedChunk("choices is not a list")
    counted, tokens = _reasoning_tokens(value.get("usage")), _tokens(value.get("usage"))
    choice, unknown = _first(choices or [])
    if choice is None:
        return Chunk(reasoning_tokens=counted, unknown=unknown, tokens=tokens)
    if choice.get("error"):
        return Chunk(error=error_of(200, choice["error"]))
    read = _Reading(list(unknown))
    read.message(choice)
    finish = read.finish(choice.get("finish_reason"))
    return Chunk(
        "".join(read.text),
        "".join(read.reasoning),
        finish,
        reasoning_tokens=counted,
        unknown=tuple(dict.fromkeys(read.unknown)),
        tokens=tokens,
    )


def _is_failure(value: dict[str, Any]) -> bool:
    """Return whether an object without choices is an error: some have only a code and a message."""
    nested = value.get("base_resp")
    for body in (value, nested if isinstance(nested, dict) else {}):
        code = next(
            (body[name] for name in _CODES if body.get(name) not in (None, "", 0, "0", 200, "200")), None
        )
        if isinstance(code, int | str) and any(isinstance(body.get(name), str) for name in _WORDS):
            return True
    return value.get("object") == "error"


def _first(choices: list[Any]) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """Return the choice with the answer, and names of further choices, which were not requested."""
    found: dict[str, Any] | None = None
    unknown: tuple[str, ...] = ()
    for choice in choices:
        if not isinstance(choice, dict):
            raise MalformedChunk("choice is not an object")
        if choice.get("index") in (None, 0) and found is None:
            found = choice
        else:
            unknown = ("a second choice",)
    return found, unknown


def _reasoning_tokens(usage: Any) -> int | None:
    details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
    for place in (details, usage):
        counted = place.get("reasoning_tokens") if isinstance(place, dict) else None
        if _is_count(counted):
            return cast(int, counted)
    return None


def _tokens(usage: Any) -> CountedTokens | None:
    if not isinstance(usage, dict):
        return None
    prompt, answer = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not (_is_count(prompt) and _is_count(answer)):
        return None
    return CountedTokens(cast(int, prompt), cast(int, answer))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9


@dataclass(slots=True)
class _Reading:
    """The parts of one choice read so far."""

    unknown: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)

    def message(self, choice: dict[str, Any]) -> None:
        """Read `delta` of a stream, `message` of a whole answer, `text` of the older protocol."""
        message = next((choice[name] for name in ("delta", "message") if choice.get(name) is not None), None)
        if message is None:
            self.content(choice.get("text"))
            return
        if not isinstance(message, dict):
            raise MalformedChunk("delta is not an object")
        for name in _REASONING_FIELDS:
            self.thought(message.get(name))
            if any(self.reasoning):
                break  # the other fields repeat it
        if _is_thought(message):
            self.thought(message.get("content"))
        else:
            self.content(message.get("content"))
        if isinstance(message.get("refusal"), str):
            self.text.append(message["refusal"])
        self.unknown.extend(
            name for name in ("tool_calls", "function_call", "audio", "images") if message.get(name)
        )

    def content(self, content: Any, depth: int = 0) -> None:
        """Read a text, or a list of parts."""
        if content is None:
            return
        if isinstance(content, str):
            self.text.append(content)
        elif isinstance(content, dict) and depth < _MOST_DEPTH:
            self.part(content, depth)
        elif isinstance(content, list) and depth < _MOST_DEPTH:
            for part in content:
                self.content(part, depth + 1)
        else:
            raise MalformedChunk("content is neither text nor a list of parts")

    def part(self, part: dict[str, Any], depth: int) -> None:
        """Read one part by its type."""
        kind = part.get("type", "text")
        if _is_thought(part):
            self.thought(part)
        elif isinstance(kind, str) and kind in _TEXT_PARTS:
            text = part.get("text")
            self.content(text.get("value") if isinstance(text, dict) else text, depth + 1)
        elif kind == "refusal":
            self.content(part.get("refusal"), depth + 1)
        elif isinstance(kind, str) and kind in _REASONING_PARTS:
            self.thought(part)
        elif not (isinstance(kind, str) and kind in _IGNORED_PARTS):
            self.unknown.append(f"a part of type {safe_name(kind)}")

    def thought(self, thought: Any, depth: int = 0) -> None:
        """Read reasoning in any form: only its length matters."""
        if isinstance(thought, str):
            self.reasoning.append(thought)
        elif isinstance(thought, list) and depth < _MOST_DEPTH:
            for each in thought:
                self.thought(each, depth + 1)
        elif isinstance(thought, dict) and depth < _MOST_DEPTH:
            inner = next((thought[name] for name in _PART_TEXT if thought.get(name)), None)
            self.thought(inner, depth + 1)

    def finish(self, reason: Any) -> Literal["complete"] | Cut | None:
        """Return how the answer ended; `None` if it has not."""
        if reason is None or reason == "":
            return None
        word = reason[:_LONGEST_REASON].lower() if isinstance(reason, str) else ""
        if word in _CUT:
            return _CUT[word]
        if word not in _COMPLETE:
            word = re.sub(r"[^a-z0-9]+", "_", word)
            for pattern, cut in _CUT_WORDS:
                if pattern.search(word):
                    return cut
            self.unknown.append(f"finish_reason {safe_name(reason)}")
        return "complete"


def _is_thought(value: dict[str, Any]) -> bool:
    """Return whether a whole message or part is marked as reasoning, as Gemini does."""
    extra = value.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    return value.get("thought") is True or (isinstance(google, dict) and google.get("thought") is True)


def safe_name(value: Any) -> str:
    """Return a foreign name that is safe to log (short, plain characters), otherwise its type."""
    if isinstance(value, str) and value and len(value) <= 40 and value.replace("_", "a").isalnum():
        return value if value.isascii() else "(not ASCII)"
    return f"({type(value).__name__})"

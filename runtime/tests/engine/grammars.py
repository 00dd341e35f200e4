"""Grammars run in the test's own process, on the vocabulary of the real model."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clawd_runtime.engine.grammar.worker import TokenVocabulary


class Matches:
    """The texts that a grammar matches."""

    def __init__(self, vocabulary: TokenVocabulary, grammar: str) -> None:
        self._vocabulary, self._grammar = vocabulary, grammar

    def _begun(self) -> Any:
        import llama_cpp

        grammar = llama_cpp.llama_sampler_init_grammar(
            self._vocabulary.pointer, self._grammar.encode(), b"root"
        )
        assert grammar, f"llama.cpp refuses this grammar:\n{self._grammar}"
        return grammar

    def whole(self, text: str) -> bool:
        """Return whether the grammar matches exactly `text`."""
        import llama_cpp

        grammar = self._begun()
        for byte in text.encode():
            token = BYTES.setdefault(byte, self._token(byte))
            if not self._vocabulary.allows(grammar, token):
                return False
            llama_cpp.llama_sampler_accept(grammar, token)
        return self._vocabulary.allows(grammar, self._end())

    def random(self, source: random.Random, most: int) -> str | None:
        """Return a random text, or `None` if it is longer than `most` tokens."""
        import llama_cpp

        grammar, text = self._begun(), b""
        for _ in range(most):
            allowed = self._vocabulary.allowed(grammar).nonzero()[0].tolist()
            assert allowed, f"nothing can follow {text!r}"
            ends = [
                token for token in allowed if llama_cpp.llama_vocab_is_eog(self._vocabulary.pointer, token)
            ]
            if ends:
                return text.decode(errors="replace")
            # Short ones, and closing ones more often: or the text would never end.
            closing = [token for token in allowed if self._text(token)[-1:] in b'"}]'] or allowed
            token = source.choice(closing if source.random() < 0.5 else allowed)
            text += self._text(token)
            llama_cpp.llama_sampler_accept(grammar, token)
        return None

    def _end(self) -> int:
        import llama_cpp

        return int(llama_cpp.llama_vocab_eos(self._vocabulary.pointer))

    def _text(self, token: int) -> bytes:
        import llama_cpp

        buffer = llama_cpp.ctypes.create_string_buffer(200)
        length = llama_cpp.llama_token_to_piece(self._vocabulary.pointer, token, buffer, 200, 0, True)
        return bytes(buffer.raw[:length])

    def _token(self, byte: int) -> int:
        import llama_cpp

        size = llama_cpp.llama_vocab_n_tokens(self._vocabulary.pointer)
        return next(token for token in range(size) if self._text(token) == bytes([byte]))


BYTES: dict[int, int] = {}

"""The marks by which models separate their reasoning from the answer, and the search for them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from clawd_runtime.patterns import any_of

TAGS: dict[str, str] = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<thoughts>": "</thoughts>",
    "<reasoning>": "</reasoning>",
    "<reflection>": "</reflection>",
    "<scratchpad>": "</scratchpad>",
    "<seed:think>": "</seed:think>",
    "<mm:think>": "</mm:think>",
    "<think:opensource>": "</think:opensource>",
    "<longcat_think>": "</longcat_think>",
    "[THINK]": "[/THINK]",
    "[THINKING]": "[/THINKING]",
    "<|think|>": "<|/think|>",
    "<|thinking|>": "<|/thinking|>",
    "<|thought|>": "<|/thought|>",
    "<|reasoning|>": "<|/reasoning|>",
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|inner_prefix|>": "<|inner_suffix|>",
    "<|channel>thought": "<channel|>",
    "<unused94>thought": "<unused95>",
}
"""ChannelOpening and closing tags, compared case-insensitively."""

CLOSING_MARK = "</think>"
"""The most widely supported mark."""

SENTENCES = {"Here is my thought process:": "Here is my response:"}  # Granite's; only at the beginning
STARTING = {sentence.lower() for sentence in SENTENCES}
PAIRS = {opening.lower(): closing.lower() for opening, closing in (TAGS | SENTENCES).items()}
# Other closing tags. Any closing tag closes any opening one, since models mix them up.
FURTHER_CLOSINGS = {
    *("<|end_think|>", "<|end_thinking|>", "<|end_of_thinking|>", "</|think|>", "</|thinking|>"),
    *("<|endthink|>", "<|endthinking|>", "<|end_reasoning|>", "<|end_thought|>"),
}
CLOSINGS = {closing.lower() for closing in TAGS.values()} | FURTHER_CLOSINGS

# Tags around the answer itself, after reasoning; they are removed.
WRAPPERS = {
    "<answer>": "</answer>",
    "<response>": "</response>",
    "<output>": "</output>",
    "<|begin_of_solution|>": "<|end_of_solution|>",
    "<|start_response|>": "<|end_response|>",
}

START, CHANNEL = "<|start|>", "<|channel|>"
HEADER = (START, CHANNEL)
MESSAGE = "<|message|>"
ENDS = ("<|end|>", "<|return|>", "<|call|>")
HARMONY = (*HEADER, MESSAGE, *ENDS)
STRIPPED_START, STRIPPED_FINAL = "analysis", "assistantfinal"


class Marks:
    """A set of texts to search for, of which none is a prefix of another."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = tuple(sorted({text.lower() for text in texts}))
        self._found = re.compile(any_of(self.texts), re.IGNORECASE)
        self._beginnings = {text[:size] for text in self.texts for size in range(1, len(text))}
        self._longest = max(map(len, self.texts)) - 1

    def find(self, text: str, start: int) -> tuple[int, str] | None:
        """Return position and lower-case text of the first one in `text` from `start` on; None for none."""
        found = self._found.search(text, start)
        return (found.start(), found[0].lower()) if found else None

    def written(self, text: str) -> frozenset[str]:
        """Return those that occur in `text`, as they are written there."""
        return frozenset(self._found.findall(text))

    def unfinished(self, text: str, start: int) -> int:
        """Return how many characters at the end of `text[start:]` may be the beginning of one."""
        longest = min(self._longest, len(text) - start)
        return next((size for size in range(longest, 0, -1) if text[-size:].lower() in self._beginnings), 0)


EVERYWHERE = {*PAIRS, *CLOSINGS, *WRAPPERS, *WRAPPERS.values(), *HARMONY, STRIPPED_FINAL}
AT_START = Marks(EVERYWHERE)
IN_ANSWER = Marks(EVERYWHERE - STARTING)
IN_CHANNEL = Marks(HARMONY)
IN_STRIPPED = Marks([STRIPPED_FINAL])
TAG_MARKERS = Marks({*map(str.lower, TAGS), *CLOSINGS})
IN_TAGS = {
    opening: Marks([opening, closing]) if opening in STARTING else TAG_MARKERS
    for opening, closing in PAIRS.items()
}


def marks_in(template: str) -> frozenset[str]:
    """Return the marks of reasoning that the chat template `template` contains, as it writes them."""
    known = [*TAGS, *TAGS.values(), *(HARMONY if CHANNEL in template else ())]
    return Marks(known).written(template)

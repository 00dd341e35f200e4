"""The section `policy` of an inventory, and the files with rules that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from inventory.types import Declared, Endpoint, Line, Text

RuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
RuleAction = Literal["block", "mask", "replace", "warn"]
ReadyMadeRule = Literal[
    "china-id", "china-phone", "bank-card", "email", "keys", "role-markers", "prompt-injection"
]


class RuleMessage(Declared):
    """A message for the user; the bot's own where one is empty."""

    en: Text = Field("", description="In English.")
    zh: Text = Field("", description="In Chinese.")


class PolicyRule(Declared):
    """What word lists and rules have in common."""

    name: RuleName = Field(description="Name in metrics and logs; only one rule has it.")
    action: RuleAction = Field(
        "mask",
        description="`block` withholds the question or answer, `mask` and `replace` hide what was found, "
        "`warn` only records it; for questions it also adds the message below the answer.",
    )
    replacement: Line = Field("", description="Text shown instead, for the action `replace`.")
    message: RuleMessage = Field(RuleMessage(), description="What the user reads.")
    shadow: bool = Field(False, description="Only count and log what would be found.")


class WordList(PolicyRule):
    """Words that no answer shows, in any variant of their characters."""

    words: tuple[Line, ...] = Field((), description="Words or phrases.")
    file: Path | None = Field(
        None, description="Path of a text file with more words, one on a line; `#` begins a comment line."
    )
    pinyin: bool = Field(False, description="Also forbid Chinese words in Latin letters, in part or whole.")
    homophones: bool = Field(
        False,
        description="Also forbid characters with the same sound, for words of three or more characters.",
    )


class QuestionRule(PolicyRule):
    """Regular expressions that are searched in questions before a model sees them."""

    builtin: ReadyMadeRule | None = Field(None, description="A ready-made rule, instead of `patterns`.")
    patterns: tuple[Line, ...] = Field((), description="Regular expressions in the syntax of RE2.")


class PolicyRules(Declared):
    """The content of a file with rules, and part of the section `policy`."""

    words: tuple[WordList, ...] = Field((), description="Lists of words that no answer shows.")
    allow: tuple[Line, ...] = Field(
        (), description="Longer words in which a forbidden one is allowed, such as 路口交通."
    )
    input: tuple[QuestionRule, ...] = Field((), description="Rules for questions.")


class GuardClassifier(Declared):
    """A guard model that judges every question, over the OpenAI chat protocol."""

    endpoint: Endpoint = Field(description="Base URL, ending before /chat/completions.")
    model: Line = Field(description="Name of the model in requests, such as Qwen3Guard-Gen-0.6B.")
    api_key: SecretStr | None = Field(None, description="API key.")
    seconds: Annotated[int, Field(ge=1, le=60)] = Field(5, description="Time limit of a judgement.")
    when_unavailable: Literal["block", "allow"] = Field(
        "block", description="What happens to a question about which it gives no judgement in time."
    )
    unsafe: tuple[Literal["unsafe", "controversial"], ...] = Field(
        ("unsafe",), min_length=1, description="Judgements that block a question."
    )
    message: RuleMessage = Field(RuleMessage(), description="What the user reads.")
    shadow: bool = Field(False, description="Only count and log its judgements.")


class ContentPolicy(PolicyRules):
    """What may be asked and said: word lists, rules, a guard model. Changes need no restart of the bot."""

    files: tuple[Path, ...] = Field((), description="Paths of YAML files with `words`, `allow` and `input`.")
    classifier: GuardClassifier | None = Field(None, description="Guard model that judges questions.")
    shadow: bool = Field(False, description="Try the whole policy: count and log, and change nothing.")

"""The file of a policy, `policy.json`, which `clawd-provision` writes and the bot reads."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clawd_runtime.bot.policy.credentials import credential_groups
from clawd_runtime.bot.policy.rules import InputRule, InputRules, RuleEffect, RuleError
from clawd_runtime.bot.policy.values import Action, PolicyMessage, WordGroup
from clawd_runtime.bot.policy.words import WordLists
from clawd_runtime.errors import SettingsError

LARGEST = 64 * 1024 * 1024
MOST_WORDS = 500_000
MOST_PROBLEMS = 20
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class NoticeText(_Part):
    """A message for the user in both languages."""

    en: str = ""
    zh: str = ""


class WordsPart(_Part):
    """A list of forbidden words."""

    name: Name
    words: Annotated[list[str], Field(max_length=MOST_WORDS)]
    action: Action = "mask"
    replacement: str = ""
    message: NoticeText = NoticeText()
    shadow: bool = False
    pinyin: bool = False
    homophones: bool = False


class RulePart(_Part):
    """A rule for questions: ready-made ones by their names, or regular expressions."""

    name: Name
    builtin: str | None = None
    patterns: list[str] = Field(default_factory=list)
    action: Action = "mask"
    replacement: str = ""
    message: NoticeText = NoticeText()
    shadow: bool = False


class ClassifierPart(_Part):
    """A guard model that judges questions. Its key is the credential `classifier-api-key`."""

    endpoint: Annotated[str, Field(pattern=r"^(unix:/.+|https?://.+)$")]
    model: Annotated[str, Field(min_length=1)]
    seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    when_unavailable: Annotated[str, Field(pattern="^(block|allow)$")] = "block"
    unsafe: Annotated[list[str], Field(min_length=1)] = Field(default_factory=lambda: ["unsafe"])
    message: NoticeText = NoticeText()
    shadow: bool = False


class PolicyFile(_Part):
    """The whole file."""

    words: list[WordsPart] = Field(default_factory=list)
    allow: list[str] = Field(default_factory=list)
    input: list[RulePart] = Field(default_factory=list)
    classifier: ClassifierPart | None = None
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy in force: `version` identifies the content of its file."""

    version: str
    words: WordLists
    rules: InputRules
    classifier: ClassifierPart | None = None


def compiled(raw: bytes, credentials: Mapping[str, str]) -> Policy:
    """Return the policy in a file's content; raise `SettingsError` with its mistakes."""
    policy, mistakes = _compiled(raw, credentials)
    if policy is None or mistakes:
        rest = len(mistakes) - MOST_PROBLEMS
        more = (f"and {rest} more",) if rest > 0 else ()
        raise SettingsError("; ".join((*mistakes[:MOST_PROBLEMS], *more)))
    return policy


def mistakes_in(raw: bytes) -> list[str]:
    """Return all mistakes of a file's content."""
    return _compiled(raw, {})[1]


def _compiled(raw: bytes, credentials: Mapping[str, str]) -> tuple[Policy | None, list[str]]:
    try:
        content = PolicyFile.model_validate_json(raw)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        return None, [f"{_place(problem['loc'])}: {problem['msg']}" for problem in problems]
    lists = WordLists((*_groups(content), *credential_groups(credentials)), content.allow)
    mistakes = [str(problem) for problem in lists.problems]
    rules = []
    for part in content.input:
        try:
            rules.append(_rule(part, content.shadow))
        except RuleError as error:
            mistakes.append(f"{part.name}: {error}")
    mistakes += _repeated([*(part.name for part in content.words), *(part.name for part in content.input)])
    version = hashlib.sha256(raw).hexdigest()[:16]
    classifier = content.classifier
    if classifier and content.shadow:
        classifier = classifier.model_copy(update={"shadow": True})
    return Policy(version, lists, InputRules(rules), classifier), mistakes


def load_policy(path: Path, credentials: Mapping[str, str]) -> Policy:
    """Return the policy in a file; raise `SettingsError`, naming the file and all of its mistakes."""
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or 'cannot be read'}") from None
    if len(raw) > LARGEST:
        raise SettingsError(f"{path}: longer than {LARGEST} bytes")
    try:
        return compiled(raw, credentials)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error.message}") from None


def empty_policy(credentials: Mapping[str, str]) -> Policy:
    """Return what is in force without a file: credentials of the deployment never leave."""
    return Policy("none", WordLists(credential_groups(credentials)), InputRules(()))


def _groups(content: PolicyFile) -> list[WordGroup]:
    return [
        WordGroup(
            name=part.name,
            words=part.words,
            action=part.action,
            replacement=part.replacement,
            notice=PolicyMessage(part.message.en, part.message.zh),
            shadow=part.shadow or content.shadow,
            pinyin=part.pinyin,
            homophones=part.homophones,
        )
        for part in content.words
    ]


def _rule(part: RulePart, shadow: bool) -> InputRule:
    return InputRule.of(
        part.name,
        part.patterns,
        builtin=part.builtin,
        effect=RuleEffect(
            part.action,
            part.replacement,
            PolicyMessage(part.message.en, part.message.zh),
            part.shadow or shadow,
        ),
    )


def _repeated(names: list[str]) -> list[str]:
    return [f"{name}: the name is used twice" for name, count in Counter(names).items() if count > 1]


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)) or "the whole"

"""Assembly of a policy from the inventory and the files that it names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from inventory.errors import ClawdError, with_hint
from inventory.reading.error_messages import wrongs
from inventory.reading.source import KeyPath
from inventory.reading.yaml_source import read
from inventory.sections.policy import ContentPolicy, PolicyRules, QuestionRule, WordList

LARGEST_LIST = 32 * 1024 * 1024
"""Bytes of a word list: some millions of words."""


@dataclass(frozen=True, slots=True)
class PolicyProblem:
    """A mistake in a policy: the key path in the section `policy` that leads to it, what is wrong, a hint."""

    at: KeyPath
    problem: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class AssembledPolicy:
    """The content of policy.json as data, and the mistakes in what it was made of."""

    content: dict[str, Any]
    problems: tuple[PolicyProblem, ...] = ()

    def text(self) -> str:
        """Return the content of policy.json."""
        return json.dumps(self.content, ensure_ascii=False, separators=(",", ":")) + "\n"


def assembled(policy: ContentPolicy) -> AssembledPolicy:
    """Return the policy that the section `policy` declares; files that cannot be read are problems."""
    problems: list[PolicyProblem] = []
    parts: list[tuple[KeyPath, PolicyRules]] = [((), policy)]
    for number, file in enumerate(policy.files):
        try:
            parts.append((("files", number), rules_in(file)))
        except ClawdError as error:
            problems.append(PolicyProblem(("files", number), error.message, error.advice))
    words: list[dict[str, Any]] = []
    for at, part in parts:
        for number, group in enumerate(part.words):
            place: KeyPath = at or ("words", number)
            try:
                words.append(_words(group))
            except ClawdError as error:
                problems.append(PolicyProblem(place, error.message, error.advice))
    content: dict[str, Any] = {
        "words": words,
        "allow": [word for _, part in parts for word in part.allow],
        "input": [_rule(rule) for _, part in parts for rule in part.input],
        "shadow": policy.shadow,
    }
    if policy.classifier is not None:
        content["classifier"] = policy.classifier.model_dump(mode="json", exclude={"api_key"})
        content["classifier"]["seconds"] = float(policy.classifier.seconds)
    return AssembledPolicy(content, tuple(problems))


def rules_in(file: Path) -> PolicyRules:
    """Return the rules in a YAML file. Paths in it are relative to it.

    Raises `ClawdError` with all mistakes, each with its line, when the file cannot be read or used.
    """
    source = read(file)
    mistakes = list(source.mistakes)
    try:
        rules = PolicyRules.model_validate_json(json.dumps(source.data), strict=True)
    except ValidationError as error:
        found = wrongs(error.errors(include_url=False), source.data, PolicyRules)
        mistakes += [wrong.at(source) for wrong in found]
        rules = PolicyRules()
    if mistakes:
        raise ClawdError("\n".join(str(mistake) for mistake in sorted(set(mistakes))))
    words = tuple(
        group.model_copy(update={"file": (file.parent / group.file.expanduser()).resolve()})
        if group.file
        else group
        for group in rules.words
    )
    return rules.model_copy(update={"words": words})


def words_in(file: Path) -> list[str]:
    """Return the words in a text file, one on a line, without comments; `ClawdError` if it cannot be read."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(LARGEST_LIST + 1)
    except OSError as error:
        raise ClawdError(
            f"cannot read {file}: {error.strerror}", advice="give the path of a text file that you may read"
        ) from error
    if len(raw) > LARGEST_LIST:
        raise ClawdError(f"{file}: is larger than {LARGEST_LIST >> 20} MB", advice="split the list")
    try:
        lines = raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ClawdError(f"{file}:{line}: is not UTF-8", advice="save the file as UTF-8") from None
    return [word for line in lines if (word := line.strip()) and not word.startswith("#")]


def _words(group: WordList) -> dict[str, Any]:
    listed = [*group.words, *(words_in(group.file) if group.file else ())]
    if not listed:
        raise ClawdError(
            f"the list {group.name} has no words", advice="give `words` or the `file` of a list with words"
        )
    return group.model_dump(mode="json", exclude={"file", "words"}) | {"words": listed}


def _rule(rule: QuestionRule) -> dict[str, Any]:
    return rule.model_dump(mode="json")


def hinted(problem: PolicyProblem) -> str:
    """Return a problem as a message with its hint."""
    return with_hint(problem.problem, problem.advice)

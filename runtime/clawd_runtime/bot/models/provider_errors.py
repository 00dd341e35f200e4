"""Classification of the errors of model providers.

Providers agree on neither the form nor the words: an object under `error`, a string, a list (Gemini),
FastAPI's `detail`, DashScope's flat object, an error of another server as JSON within a string (OpenRouter's
`metadata.raw`), plain text, HTML. So every string of the body is read, up to limits, and only classified:
whether it concerns the length or the content, and which parameters it names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from clawd_runtime.bot.foreign_json import read_foreign_json

LARGEST_BODY = 64 * 1024
"""Maximum number of bytes read of an error's body."""
MOST_VALUES = 400
MOST_DEPTH = 12
MOST_NESTED = 8
LONGEST_TEXT = 1024
TAIL = 256
"""Maximum number of characters classified of one string, and how many of them are from its end."""

# Fields that repeat the request or describe the server, not the error.
_SKIPPED = {"input", "request", "request_id", "requestid", "id", "url", "doc_url", "user_id", "help"}
_CODES = {"code", "type", "status", "reason", "error_code", "errcode", "error_type"}
_NAMES = {"param", "parameter", "loc", "field"}
_PATHS = {"pointer", "instancepath", "path", "field_name", "parameter_name", "argument", "property"}
"""Fields that may contain the name of a parameter, or something else."""
_PROBLEMS = {"error", "errors", "detail", "details", "message", "messages", "fields"} | {
    *("field_errors", "fielderrors", "validation_errors", "invalid_params", "violations", "json", "body")
}
"""Fields whose objects contain problems keyed by parameter."""
_KEY = "\0key"

_LENGTH_CODES = {
    "context_length_exceeded",
    "exceed_context_size_error",
    "request_too_large",
    "string_above_max_length",
    "model_context_window_exceeded",
}
_CONTEXT = re.compile(
    r"context[ _-]?(length|size|window|limit)|上下文(长度|窗口)|(entity|payload) too large|max_seq_len",
    re.IGNORECASE,
)
_LENGTH = re.compile(
    r"(prompt|input|request|messages?|conversation)( length| tokens?| token count)? (is |are |was )?"
    r"(too (long|large|big)|exceeds?)"
    r"|(token|length|input) limit"
    r"|(too many|number of|maximum|max) (input |prompt )?tokens"
    r"|(max|maximum) (prompt|input) (length|characters)|input length|reduce the length|shorten|超长"
    r"|(?<![A-Za-z0-9_])(prompt|`?inputs?`?[ _](tokens|length|characters|text))[^.\n]{0,70}"
    r"(<=|exceed|longer than|too (large|long)|less than)"
    r"|(输入|上下文|请求|内容|消息|提示词?|token)[^。\n]{0,16}(过长|太长|超长|超出|超过)",
    re.IGNORECASE,
)
_FILTER_CODE = re.compile(
    r"content_?(filter|policy|exists_?risk)|data_?inspection|responsible_?ai|moderation"
    r"|^sensitive|(new|input|output|text|content|prompt)_?sensitive"
    r"|sensitive_?(content|words?|info|text|input|output|detected)"
    r"|prohibited_?content|illegal_?detected|^1301$"
)
_FILTER = re.compile(
    r"content[ _-]?(filter|management policy|policy|moderation|exists?[ _-]?risk)|data[ _-]?inspection"
    r"|(inappropriate|prohibited|illegal|unsafe|harmful|offensive|sensitive)[ _-]"
    r"(content|information|words?|text|topics?)(?![ _-]?(type|encoding|length|format|part|block))"
    r"|considered (high[ -])?risk|new_sensitive|safety (system|filter|polic)"
    r"|^\W{0,3}sensitive\W{0,3}$|politically sensitive"
    r"|(?<!\w)(contents?|inputs?|outputs?|prompts?|requests?|messages?|texts?) "
    r"(is|are|was|were|may be) ([a-z]{1,20} )?sensitive\b(?! to)"
    r"|(input|prompt|request|message|content)s? (was|were|has been|is) flagged"
    r"|(?<!大小写)(?<!时间)敏感|违规|不合规|涉黄|涉政|内容(安全|风险)|审核(不|未)通过",
    re.IGNORECASE,
)
_NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached", "insufficient_user_quota", "arrearage"}
_SYSTEM_ROLE = re.compile(
    r"system (role|messages?|prompt)[^.\n]{0,40}not (supported|allowed)"
    r"|not support[^.\n]{0,20}[`'\"“]?system"
    r"|(role|developer instruction)[^.\n]{0,20}system[^.\n]{0,20}not (supported|allowed|enabled)",
    re.IGNORECASE,
)
_ROLE_PLACE = re.compile(r"messages\W{0,3}0\W{0,3}(\.?role)?", re.IGNORECASE)
_AS_NAME = (
    r"[`'\"“‘「『]{word}[`'\"”’」』]",
    r"\b(parameters?|arguments?|fields?|property|value (for|of)|only|invalid):? {word}",
    r"\bun(supported|known|expected):? {word_ing}",
    r"\bnot (supported|permitted|allowed|accepted|recognized)\W{{1,3}}{word_ing}",
    r"\bnot (support|permit|allow|accept|recognize)( (the|a|an|any|custom|setting|changing))?:? {word_ing}",
    (
        r"{word_ing} (is |are )?(not (supported|permitted|allowed|accepted|enabled|available)"
        r"|unsupported|unavailable|disabled|deprecated)\b"
    ),
    r"{word} (parameter|argument|field|option|setting|property)\b",
    r"(^|\n)\W{{0,3}}{word}\s?([:：=]|\Z)",
    r"{word}[^.\n]{{0,30}}\b(not|unsupported|only|must|should|cannot|deprecated|invalid)\b",
    r"(参数|字段|属性|选项|无效的?|非法的?|未知的?)[\s:：]{{0,3}}{word}",
    r"不支持[\s:：]{{0,3}}{word_ing}",
    r"{word}\s?(的?取?值|模式)?\s?(参数|字段|属性|不|非|无|错误|必须|应|需|只|仅|超出|超过|范围|已|暂)",
)
"""Patterns for a word such as `temperature` that is used as the name of a parameter."""
_STATUSES = {
    401: re.compile(r"api[_-]?key|unauthori|authent|permission|denied|forbidden"),
    429: re.compile(r"rate[_-]?limit|throttl|too[_-]?many"),
    400: re.compile(r"^invalid|^bad[_-]?request|^unsupported|^context|^badrequest"),
}
"""The HTTP status for an error within an answer, by its code."""
_SAFE_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


def _word(name: str, ending: str = "") -> str:
    """Return a pattern for `name` as a whole word, which may be adjacent to Chinese characters."""
    return rf"(?<![A-Za-z0-9_]){re.escape(name)}{ending}(?![A-Za-z0-9_])"


@lru_cache(64)
def _as_name(name: str) -> re.Pattern[str]:
    # `streaming` is used for the parameter only where it is said to be unsupported.
    words = {"word": _word(name), "word_ing": _word(name, "(?:ing)?")}
    return re.compile("|".join(_AS_NAME).format(**words), re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ProviderError:
    """A parsed error. `codes`, `names` and `keys` are in lower case, `texts` are truncated.

    `names` are from fields for names; `keys` are the keys of individual problems.
    """

    status: int
    code: str | None = None
    codes: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    texts: tuple[str, ...] = ()

    @property
    def about_context(self) -> bool:
        """Return whether the request is certainly too long for the model."""
        return self.status == 413 or bool(self.codes & _LENGTH_CODES) or self._says(_CONTEXT)

    @property
    def about_length(self) -> bool:
        """Return whether the request is probably too long for the model."""
        return self.about_context or self._says(_LENGTH)

    @property
    def about_content(self) -> bool:
        """Return whether a content filter refused the request."""
        return any(map(_FILTER_CODE.search, self.codes)) or self._says(_FILTER)

    @property
    def about_credit(self) -> bool:
        """Return whether the account has no credit left, so that retries are pointless."""
        return bool(self.codes & _NO_CREDIT)

    @property
    def about_system_role(self) -> bool:
        """Return whether the model does not support the system role."""
        return self._says(_SYSTEM_ROLE) and (
            not self.names or any(_ROLE_PLACE.search(name) or name == "messages" for name in self.names)
        )

    def parameters(self, sent: Iterable[str]) -> tuple[str, ...]:
        """Return the parameters of `sent` that the error names.

        An ordinary word such as `stream` or `temperature` counts only where it is used as a name: in a field
        for names, or quoted. A name that is not an ordinary word counts anywhere.
        """
        return tuple(name for name in sent if self._names(name))

    def mentions(self, name: str) -> bool:
        """Return whether a parameter's name occurs anywhere."""
        return name in self.names or self._says(re.compile(_word(name)))

    def _names(self, name: str) -> bool:
        if name in self.names or name in self.keys:
            return True
        if "_" in name:
            return self._says(re.compile(_word(name)))
        return self._says(_as_name(name))

    def _says(self, what: re.Pattern[str]) -> bool:
        return any(what.search(text) for text in self.texts)


def read_error(status: int, body: bytes) -> ProviderError:
    """Return the parsed body of an error response; a body that is not JSON is read as one text."""
    body = body[:LARGEST_BODY]
    try:
        value: Any = read_foreign_json(body)
    except ValueError:
        value = body.decode("utf-8", "replace")
    return error_of(status, value)


def error_of(status: int, value: Any) -> ProviderError:
    """Return the error in a JSON value; with status 200, the status is taken from the error itself."""
    codes: list[str] = []
    names: set[str] = set()
    keys: set[str] = set()
    texts: list[str] = []
    found = status
    left = LARGEST_BODY
    for key, text in _strings(value):
        left -= min(len(text), LONGEST_TEXT)
        if left < 0:
            break
        if found == 200 and key in ("code", "status", "status_code") and re.fullmatch("[45][0-9][0-9]", text):
            found = int(text)
        if key == _KEY:
            keys.add(text.lower())
            continue
        if key in _CODES:
            codes.append(text[:LONGEST_TEXT])
        if key in _PATHS:
            keys.update(re.split(r"[.\[\]/]+", text.lower()))
        if key in _NAMES:
            names.update((text.lower(), *re.split(r"[.\[\]/]+", text.lower())))
        else:
            texts.append(_shortened(text))
    code = next((each for each in codes if _SAFE_CODE.fullmatch(each)), None)
    lower = frozenset(each.lower() for each in codes)
    if found == 200:
        found = next((status for status, words in _STATUSES.items() if any(map(words.search, lower))), found)
    return ProviderError(found, code, lower, frozenset(names - {""}), frozenset(keys), tuple(texts))


def _shortened(text: str) -> str:
    """Return beginning and end of a long text, which may repeat the request in between."""
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[: LONGEST_TEXT - TAIL - 1]}\n{text[-TAIL:]}"


def _strings(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the strings and integers within a JSON value, each with its key.

    The keys of individual problems are also yielded, under `_KEY`.
    """
    # In reading order; a list instead of recursion, so that deep nesting cannot exhaust the stack.
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    nested = 0
    for _ in range(MOST_VALUES):
        if not waiting:
            return
        key, each, depth = waiting.pop()
        if isinstance(each, bool) or depth > MOST_DEPTH:
            continue
        if isinstance(each, str):
            yield key, each
            if nested < MOST_NESTED and each.lstrip()[:1] in ("{", "["):
                nested += 1
                try:
                    waiting.append((key, read_foreign_json(each[:LARGEST_BODY]), depth + 1))
                except ValueError:
                    continue
        elif isinstance(each, int):
            yield key, str(each) if abs(each) < 10**9 else ""
        elif isinstance(each, list):
            waiting.extend((key, item, depth + 1) for item in reversed(each[:MOST_VALUES]))
        elif isinstance(each, dict):
            items = [(name.lower(), item) for name, item in list(each.items())[:MOST_VALUES]]
            if key in _PROBLEMS:
                # A number or null under a key is a repeated value, not a problem.
                yield from ((_KEY, name) for name, item in items if isinstance(item, str | list | dict))
            waiting.extend((name, item, depth + 1) for name, item in reversed(items) if name not in _SKIPPED)

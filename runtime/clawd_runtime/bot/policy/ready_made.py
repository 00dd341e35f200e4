"""Ready-made rules for questions: personal data, keys and tokens, role markers, prompt injection.

Formats: mainland identity numbers GB 11643-1999 (check digit ISO 7064, MOD 11-2), card numbers ISO/IEC 7812
(Luhn), mobile numbers of the Chinese numbering plan. Tokens have the prefixes that their providers document.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
CHECK_DIGITS = "10X98765432"
_SEPARATORS = re.compile(r"[\s-]")


@dataclass(frozen=True, slots=True)
class ReadyMade:
    """Regular expressions of RE2, and a check of what they match."""

    patterns: tuple[str, ...]
    holds: Callable[[str], bool] = lambda _: True


def is_identity_number(text: str) -> bool:
    """Return whether a text is a mainland identity number, with a real date and the right check digit."""
    digits = _SEPARATORS.sub("", text).upper()
    if len(digits) != 18:
        return False
    try:
        date(int(digits[6:10]), int(digits[10:12]), int(digits[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * weight for digit, weight in zip(digits, WEIGHTS, strict=False))
    return digits[17] == CHECK_DIGITS[total % 11]


def is_card_number(text: str) -> bool:
    """Return whether a text is a card number by Luhn's check digit."""
    digits = [int(digit) for digit in _SEPARATORS.sub("", text)]
    if not 13 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [
        digit if place % 2 == 0 else sum(divmod(2 * digit, 10))
        for place, digit in enumerate(reversed(digits))
    ]
    return sum(doubled) % 10 == 0


def _digits(count: str) -> str:
    return rf"\d(?:[ -]?\d){{{count}}}"


READY_MADE: Mapping[str, ReadyMade] = {
    "china-id": ReadyMade((r"\b[1-9](?:[ -]?\d){16}[ -]?[\dXx]\b",), is_identity_number),
    "china-phone": ReadyMade((r"\b(?:\+?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}\b",)),
    "bank-card": ReadyMade((rf"\b{_digits('12,18')}\b",), is_card_number),
    "email": ReadyMade((r"\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+\b",)),
    "keys": ReadyMade(
        (
            r"\bsk-[A-Za-z0-9_-]{20,}",
            r"\bgh[pousr]_[A-Za-z0-9]{36,}",
            r"\bgithub_pat_[A-Za-z0-9_]{22,}",
            r"\bglpat-[A-Za-z0-9_-]{20,}",
            r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
            r"\bLTAI[A-Za-z0-9]{12,20}\b",
            r"\bAKID[A-Za-z0-9]{32}\b",
            r"\bAIza[A-Za-z0-9_-]{35}",
            r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
            r"\b\d{8,10}:[A-Za-z0-9_-]{35}\b",
            r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}",
            (
                r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----"
                r"(?:[A-Za-z0-9+/=\s:,-]*-----END (?:[A-Z0-9]+ )*PRIVATE KEY-----)?"
            ),
        )
    ),
    "role-markers": ReadyMade(
        (
            r"<\|[a-z0-9_▁]{2,40}\|>",
            r"\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]",
            r"<</?SYS>>",
            r"</?(?:start|end)_of_turn>",
            r"(?im)^[ \t#*>]*(?:system|assistant|developer)[ \t*]*:",
            r"(?m)^[ \t#*>]*(?:系统|系统提示|助手|开发者)[ \t*]*:",
        )
    ),
    "prompt-injection": ReadyMade(
        (
            (
                r"(?i)\b(?:ignore|disregard|forget|override|bypass)\b[^.!?\n]{0,40}"
                r"\b(?:previous|above|prior|earlier|preceding|all|any|your|system)\b[^.!?\n]{0,30}"
                r"\b(?:instructions?|prompts?|rules?|guidelines?|restrictions?)\b"
            ),
            (
                r"(?i)\b(?:reveal|show|print|repeat|output|tell me)\b[^.!?\n]{0,30}"
                r"\b(?:your|the|system|initial|hidden)\b[^.!?\n]{0,20}"
                r"\b(?:system prompt|instructions above|initial instructions|hidden prompt)\b"
            ),
            r"(?i)\byou are now (?:in )?(?:developer mode|DAN\b|jailbroken|(?:an? )?unrestricted)",
            (
                r"(?:忽略|无视|忘记|忘掉|不要理会|绕过)[^。！？!?\n]{0,15}"
                r"(?:以上|上面|之前|先前|前面|此前|所有|一切|系统)[^。！？!?\n]{0,12}"
                r"(?:指令|指示|提示|规则|设定|限制|要求)"
            ),
            (
                r"(?:输出|显示|告诉我|透露|重复|打印)[^。！？!?\n]{0,12}"
                r"(?:系统提示|系统指令|初始指令|提示词原文|隐藏指令)"
            ),
            r"你现在(?:是|进入|处于)[^。！？!?\n]{0,10}(?:开发者模式|越狱|(?:不受|没有)(?:任何)?限制)",
        )
    ),
}

"""GBNF of the decimal integers within bounds."""

from __future__ import annotations

from collections.abc import Iterator

_DIGITS = 15  # of an integer without a bound on that side


def integers_between(least: int | None, most: int | None) -> str:
    """Return the GBNF expression of the integers from `least` to `most`; `None` is no bound."""
    low = -(10**_DIGITS) + 1 if least is None else least
    high = 10**_DIGITS - 1 if most is None else most
    choices = []
    if low < 0:
        smallest, largest = max(1, -high), -low
        choices += [f'"-" {digits}' for digits in _naturals(smallest, largest)]
    if high >= 0:
        choices += _naturals(max(0, low), high)
    return " | ".join(choices)


def _naturals(low: int, high: int) -> Iterator[str]:
    """Yield expressions of all numbers from `low` to `high`, which are not negative."""
    while low <= high:
        # The largest block low…end whose last digits run through all values and whose length is that of low.
        free = 0
        while low % 10 ** (free + 1) == 0 and low != 0 and low + 10 ** (free + 1) - 1 <= high:
            free += 1
        block = 10**free
        digit = low // block % 10
        steps = min(9 - digit, (high - low + 1) // block - 1)
        head = str(low // block)[:-1]
        parts = [f'"{head}"'] if head else []
        parts.append(f"[{digit}-{digit + steps}]")
        if free:
            parts.append(f"[0-9]{{{free}}}")
        yield " ".join(parts)
        low += block * (steps + 1)

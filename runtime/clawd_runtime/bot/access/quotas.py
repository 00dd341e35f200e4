"""Daily quotas of tokens: soft, with a warning, then hard. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from clawd_runtime.bot.access.file import AccessTable, DailyQuota
from clawd_runtime.bot.access.values import Person, UsageToday

QuotaOf = Literal["user", "group"]


@dataclass(frozen=True, slots=True)
class QuotaState:
    """A quota of a person or a group: `used` of `limit` tokens."""

    of: QuotaOf
    used: int
    limit: int
    warns: bool

    @property
    def is_exhausted(self) -> bool:
        """Return whether no model is asked any more today."""
        return self.used >= self.limit

    @property
    def percent(self) -> int:
        """Return how much is used, rounded down."""
        return self.used * 100 // self.limit


def quota_states(table: AccessTable, person: Person, used: UsageToday) -> Iterator[QuotaState]:
    """Yield the quotas that apply to a message of `person`."""
    quotas = table.quotas
    if quota := quotas.users.get(person.id, quotas.user):
        yield _state("user", used.user, quota)
    if person.group and (quota := quotas.groups.get(person.group, quotas.group)):
        yield _state("group", used.group, quota)


def exhausted_models(table: AccessTable, used: Mapping[str, int]) -> frozenset[str]:
    """Return the models that may not be asked any more today."""
    return frozenset(
        name for name, quota in table.quotas.models.items() if used.get(name, 0) >= quota.tokens_per_day
    )


def _state(of: QuotaOf, used: int, quota: DailyQuota) -> QuotaState:
    limit = quota.tokens_per_day
    return QuotaState(of, used, limit, warns=used * 100 >= limit * quota.warn_percent)

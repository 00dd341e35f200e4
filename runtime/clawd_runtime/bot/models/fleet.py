"""The models of the current table of routes, made and closed as the table changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from clawd_runtime.bot.models.guarded import GuardedModel
from clawd_runtime.bot.models.judge import Judge, Trial
from clawd_runtime.bot.models.pool import ModelOrder, ModelPool
from clawd_runtime.bot.models.remote_policy import Asker
from clawd_runtime.bot.models.routes import RouteTable
from clawd_runtime.bot.settings import ModelEndpoint

log = logging.getLogger(__name__)

MakeModel = Callable[[str, ModelEndpoint], GuardedModel]


class ModelFleet:
    """The models of `table`, made by `make`. A model whose settings stay the same stays as it is."""

    def __init__(self, table: RouteTable, make: MakeModel) -> None:
        self._make = make
        self.table = table
        self.models: dict[str, GuardedModel] = {}
        self.retired: list[GuardedModel] = []
        self.stopped: dict[str, str] = {}
        """Models that have lost the share that they have in this version of the table, and why."""
        self.exhausted: frozenset[str] = frozenset()
        """Models that may not be asked any more today."""
        self.pool = ModelPool((), self._order)
        self._build(table)

    def apply(self, table: RouteTable) -> None:
        """Use another table. Models that are not in it finish the answers that they have begun."""
        self.stopped = {
            name: reason
            for name, reason in self.stopped.items()
            if table.entry(name) == self.table.entry(name)
        }
        self._build(table)

    def observe(self, model: str, trial: Trial) -> None:
        """Record the end of a request to a model."""
        self.judge.add(model, trial)

    def stop(self, model: str, reason: str) -> None:
        """Return all conversations of a model to the default."""
        if model not in self.stopped:
            log.warning("model %s: loses its share in routes %d: %s", model, self.table.version, reason)
        self.stopped[model] = reason

    def exhaust(self, names: frozenset[str], asker: Asker) -> bool:
        """Ask these models no more, until called again without them.

        Return whether one is left for `asker`, or none may answer it in any case.
        """
        if names - self.exhausted:
            log.warning("models whose quota of the day is used up: %s", ", ".join(sorted(names)))
        self.exhausted = frozenset()
        permitted = self.pool.selection(asker).models
        self.exhausted = names
        return not permitted or bool(self.pool.selection(asker).models)

    def shares(self) -> Mapping[str, int]:
        """Return the shares of the models that have not been stopped."""
        return {name: share for name, share in self.table.shares.items() if name not in self.stopped}

    def objections(self) -> Mapping[str, str]:
        """Return the models that must lose their share now, and why."""
        found = {name: self.judge.objection(name) for name, share in self.shares().items() if share}
        return {name: reason for name, reason in found.items() if reason}

    async def close_idle(self) -> None:
        """Close models that are no longer in the table and have finished their answers."""
        idle = [model for model in self.retired if not model.gate.inside and not model.gate.waiting]
        self.retired = [model for model in self.retired if model not in idle]
        for model in idle:
            await model.close()

    async def close(self) -> None:
        """Close all models."""
        for model in (*self.models.values(), *self.retired):
            await model.close()

    def _build(self, table: RouteTable) -> None:
        before, known = self.models, self.table.models if self.models else {}
        self.models = {
            name: before[name] if known.get(name) == endpoint else self._make(name, endpoint)
            for name, endpoint in table.models.items()
        }
        kept = set(map(id, self.models.values()))
        self.retired.extend(model for model in before.values() if id(model) not in kept)
        if self.table != table or not before:
            self.judge = Judge(table.judge, _now)
        self.table = table
        self.pool.use(tuple(self.models.values()))

    def _order(self, asker: Asker) -> ModelOrder:
        names = self.table.order(asker.conversation, self.stopped)
        asked = tuple(self.models[name] for name in names if name not in self.exhausted)
        return ModelOrder(asked, self.table.version)


def _now() -> float:
    return asyncio.get_running_loop().time()

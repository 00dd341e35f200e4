"""The order in which the hosts of a run change.

First come hosts without a serving bot, new bots after their database; then the hosts whose bots serve, batch
by batch. A batch is drained at every nginx in front of it (`provision.rollout.draining`), changed, checked,
and enabled again. When a host of a batch does not become ready, the whole batch is rolled back and the
following batches are not started.

An nginx in service whose bots move or change is changed after these bots: until then they also listen where
it reaches them (`provision.rollout.former_addresses`). Bots that do not listen where an nginx looks for
them, since a run was interrupted, change before the other bots. A bot that is removed is removed after
that.

With a new authority, bots and nginx accept each other only once both have changed: nginx changes after the
first batch. Until then the other bots answer it, afterwards those of that batch; it tries another bot when
the certificate of one is not from its authority.

The nodes of an Elasticsearch cluster also change one by one: one of three may be down, two may not. The start
of a node waits for a healthy cluster, so the next node may follow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from deploys.topology.bots import bots_behind, drained_at
from inventory.model import Inventory
from provision.plan import Plan
from provision.rollout.plan_changes import changes_bot, changes_database, changes_node


@dataclass(frozen=True, slots=True)
class Stage:
    """Hosts that change together after all hosts in `needs`, from earlier stages, have succeeded.

    With `moves`, their nginx will reach bots at another place, where these must listen first.
    """

    hosts: tuple[str, ...]
    needs: tuple[str, ...] = ()
    drained: bool = False
    moves: bool = False


@dataclass(frozen=True, slots=True)
class HostStates:
    """Names of hosts by what was found on them and what their plan changes, on which the order depends."""

    serving: Collection[str] = ()
    """Their bot runs."""
    nodes: Collection[str] = ()
    """Their Elasticsearch runs."""
    passing: Collection[str] = ()
    """Their nginx runs, and will reach bots at other addresses."""
    renewing: Collection[str] = ()
    """Their nginx gets a certificate of a new authority."""
    lacking: Collection[str] = ()
    """Their bot does not listen at an address that an nginx uses."""


def stages(inventory: Inventory, planned: Plan, found: HostStates) -> tuple[Stage, ...]:
    """Return the stages of a plan in order."""
    groups = _grouped(inventory, planned, found)
    order = _Order(frozenset(groups.running_nodes))
    order.add_others(inventory, groups)
    batches = _batches(groups.rolling, inventory.rollout.batch_percent)
    behind = {bot for front in groups.halfway for bot in bots_behind(inventory, front)}
    # Bots that an earlier run has changed accept nginx after its change, as those of the first batch do.
    changed_before = behind - {*groups.rolling, *groups.changing_bots}
    first = 0 if changed_before else 1
    order.add_batches(batches[:first])
    order.needed += [name for name in groups.others if name in behind and name not in order.needed]
    order.add_fronts(groups.halfway, moving=groups.passing)
    order.needed += groups.halfway
    order.add_batches(batches[first:])
    behind = {bot for front in groups.moving for bot in bots_behind(inventory, front)}
    order.needed += [name for name in groups.others if name in behind and name not in order.needed]
    order.add_fronts(groups.moving, moving=groups.moving)
    order.stages.append(Stage(tuple(groups.leaving), needs=tuple(groups.moving)))
    return tuple(stage for stage in order.stages if stage.hosts)


@dataclass(frozen=True, slots=True)
class _Groups:
    """Names of the hosts of a plan, in its order, by when they change; each is in one of the first five."""

    others: list[str]
    """First: hosts without a running bot that changes."""
    rolling: list[str]
    """Hosts with running bots, in batches."""
    halfway: list[str]
    """Hosts whose nginx gets a new authority, after the first batch."""
    moving: list[str]
    """Hosts whose nginx will reach bots at other addresses, after the bots."""
    leaving: list[str]
    """Hosts whose bot is removed, after nginx no longer uses it."""
    passing: list[str]
    """Hosts whose nginx will reach bots at other addresses, whenever they change."""
    databases: list[str]
    changing_bots: list[str]
    changing_nodes: list[str]
    """Hosts whose Elasticsearch changes."""
    running_nodes: list[str]
    """Those of them whose Elasticsearch runs."""


def _grouped(inventory: Inventory, planned: Plan, found: HostStates) -> _Groups:
    names = [host.host for host in planned.hosts]
    databases = [name for name in names if name in inventory.with_role("database")]
    changing_nodes = [host.host for host in planned.hosts if changes_node(host)]
    changing_bots = [host.host for host in planned.hosts if changes_bot(host)]
    # A host whose database other bots need cannot change after them.
    free = [host.host for host in planned.hosts if not changes_database(host)]
    passing = [name for name in found.passing if name in free]
    rolling = sorted(
        (name for name in changing_bots if name in found.serving),
        key=lambda name: (name not in found.lacking, name in passing, name not in databases),
    )
    if len(rolling) == 1 and not drained_at(inventory, rolling[0]):
        rolling = []
    halfway = [name for name in free if name in found.renewing and name not in rolling]
    moving = [name for name in names if name in passing and name not in (*rolling, *halfway)]
    leaving = [name for name in rolling if moving and name not in inventory.with_role("runtime")]
    rolling = [name for name in rolling if name not in leaving]
    return _Groups(
        others=[name for name in names if name not in (*rolling, *halfway, *moving, *leaving)],
        rolling=rolling,
        halfway=halfway,
        moving=moving,
        leaving=leaving,
        passing=passing,
        databases=databases,
        changing_bots=changing_bots,
        changing_nodes=changing_nodes,
        running_nodes=[name for name in changing_nodes if name in found.nodes],
    )


@dataclass(slots=True)
class _Order:
    """The stages so far, and what the next ones need."""

    nodes: frozenset[str]
    """Running nodes of Elasticsearch that change, one after another."""
    stages: list[Stage] = field(default_factory=list)
    needed: list[str] = field(default_factory=list)
    """Hosts that must have succeeded before the next batch or nginx."""
    cluster: list[str] = field(default_factory=list)
    """Hosts with nodes of Elasticsearch in the stages so far."""

    def add_others(self, inventory: Inventory, groups: _Groups) -> None:
        """Add hosts without a running bot that changes; new bots after their database."""
        runtime = inventory.with_role("runtime")
        waiting = [name for name in groups.others if groups.databases and name in runtime]
        fresh = [name for name in waiting if name not in groups.databases]
        at_once = [name for name in groups.others if name not in fresh]
        # A node that is down changes immediately, because the cluster may be unhealthy without it.
        following = [name for name in at_once if name in self.nodes][1:]
        at_once = [name for name in at_once if name not in following]
        self.stages.append(Stage(tuple(at_once)))
        self.cluster += [name for name in at_once if name in groups.changing_nodes]
        for name in following:
            self.stages.append(Stage((name,), needs=tuple(self.cluster)))
            self.cluster.append(name)
        self.needed += [name for name in groups.databases if name in groups.others]
        self.stages.append(Stage(tuple(fresh), needs=tuple(self.needed)))
        self.needed += fresh

    def add_batches(self, batches: Sequence[Sequence[str]]) -> None:
        """Add batches of running bots, each after the one before."""
        for batch in batches:
            self.stages.append(Stage(tuple(batch), needs=tuple(self.needed), drained=True))
            self.needed += batch

    def add_fronts(self, hosts: Sequence[str], moving: Collection[str]) -> None:
        """Add hosts with nginx; those in `moving` will reach bots at other addresses."""
        for group in _apart(hosts, self.nodes):
            nodes = [name for name in group if name in self.nodes]
            needs = (*self.needed, *(self.cluster if nodes else ()))
            self.stages.append(Stage(group, needs, moves=any(name in moving for name in group)))
            self.cluster += nodes


def _batches(hosts: Sequence[str], percent: int) -> list[Sequence[str]]:
    size = max(1, len(hosts) * percent // 100)
    return [hosts[start : start + size] for start in range(0, len(hosts), size)]


def _apart(hosts: Sequence[str], nodes: Collection[str]) -> Iterator[tuple[str, ...]]:
    """Yield `hosts` in groups that may change together: nodes of Elasticsearch one after another."""
    yield tuple(name for name in hosts if name not in nodes)
    for name in hosts:
        if name in nodes:
            yield (name,)

"""The machines of hosts as they are, read over SSH."""

from __future__ import annotations

from collections.abc import Mapping

from inventory.errors import ConnectError
from provision.connecting import connected
from provision.model_tools.fitting import HostMachine
from provision.preflight.doctor import found_resources
from provision.preflight.facts import HostFacts, probe
from provision.run import Run


def host_machines(run: Run) -> tuple[Mapping[str, HostMachine], Mapping[str, ConnectError]]:
    """Return the machines of the hosts that can be reached, and why the others cannot."""
    with connected(run) as (session, unreachable):

        def ask(host: str) -> HostMachine:
            done = session.run(host, probe((), ask_mirrors=False), timeout=60)
            facts = HostFacts.parse(host, done)
            return HostMachine(found_resources(run.loaded.inventory, host, facts), facts.cores, "found")

        return session.everywhere(ask), unreachable

"""The command `model fit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from commands.model_tools.arguments import context_option, json_option, slots_option
from commands.options import CommandWithExamples, RunOptions, inventory_option
from commands.running import in_json, loaded_from, print_json, running
from provision.model_tools.kinds import KINDS

if TYPE_CHECKING:
    from provision.model_tools.fitting import FitSettings, HostFit

EXAMPLES = """Examples:
  clawd-provision model fit -i prod                          from the declared cores and memory
  clawd-provision model fit -i prod --connect                with those of the hosts themselves
  clawd-provision model fit -i prod --to Q8_0 --slots 16
"""


@click.command(cls=CommandWithExamples, epilog=EXAMPLES)
@inventory_option
@click.option(
    "--to",
    "kind",
    type=click.Choice(KINDS, case_sensitive=False),
    default="Q4_K_M",
    show_default=True,
    help="Quantisation of the models.",
)
@context_option
@slots_option
@click.option("--connect", is_flag=True, help="Ask the hosts what they have; changes nothing there.")
@json_option
def fit(inventory_name: str, kind: str, context: int, slots: int, connect: bool, as_json: bool) -> None:
    """Show which of the three tiers of models (7B, 13B, 70B) runs on which host, how fast, and why.

    What other components of a host need is left free. Speeds are estimates.
    """
    from provision.model_tools.fitting import FitSettings

    settings = FitSettings(kind, context, slots)
    if connect:
        found = with_real_machines(inventory_name, settings, as_json=as_json)
    else:
        from provision.model_tools.fitting import fit as fitted

        with in_json(as_json):
            found = fitted(loaded_from(inventory_name).inventory, settings)
    if as_json:
        print_json({"hosts": [item.to_json() for item in found]})
        return
    from provision.reporting.model_tools.fitting import show_fit
    from provision.reporting.terminal import stdout_console

    show_fit(stdout_console(), found, settings)


def with_real_machines(inventory_name: str, settings: FitSettings, *, as_json: bool) -> list[HostFit]:
    """Return the fit with the resources of the hosts that can be reached, for others with declared ones."""
    options = RunOptions(inventory_name, (), (), True, as_json, False, False)
    with running("model-fit", options) as (run, screen):
        from provision.model_tools.fitting import fit as fitted
        from provision.model_tools.host_machines import host_machines

        machines, unreachable = host_machines(run)
        for host, why in unreachable.items():
            screen.warn(f"{host}: its declared resources are used: {why.message}")
        return fitted(run.loaded.inventory, settings, machines)

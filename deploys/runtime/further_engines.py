"""Engines of further models: clawd-engine@NAME.service, all under one slice with a budget of memory."""

from __future__ import annotations

from collections.abc import Collection

from pyinfra import host
from pyinfra.api.operation import OperationMeta

from deploys.model.deploy import further_model
from deploys.model.settings import ModelSettings, model_path
from deploys.ops import services, units
from deploys.ops.facts import Fact
from deploys.ops.paths import files, push
from deploys.ops.services import Service
from deploys.runtime.config import engine_config
from deploys.runtime.settings import FURTHER_SOCKETS, EngineSettings, further_socket
from deploys.settings import settings_of
from deploys.topology.engines import ENGINES_PERCENT, further_unit

CONFIGS = "/etc/clawd/engines"
SLICE = "clawd-engines.slice"
UNITS = "/etc/systemd/system"


def in_slice(several: bool) -> OperationMeta:
    """Write the slice of all engines, with a budget where there are several.

    One engine has its own limit; the budget is set without a restart when a second one comes.
    """
    budget = f"{ENGINES_PERCENT}%" if several else "infinity"
    return files.template(f"runtime/{SLICE}", f"{UNITS}/{SLICE}", {"memory_max": budget})


def config_of(name: str) -> str:
    """Return the path of the settings of the engine of the model `name`."""
    return f"{CONFIGS}/{name}.json"


def unit_file(name: str) -> str:
    """Return the path of the unit of the engine of the model `name`."""
    return f"{UNITS}/{further_unit(name)}.service"


def reads(name: str, model: str) -> tuple[str, ...]:
    """Return the files that the engine of the model `name` reads at its start."""
    return (config_of(name), unit_file(name), push.record_of(model))


def served(name: str, engine: EngineSettings, release: str) -> str:
    """Install the engine of a further model, wait until it has loaded it, and return the model's path.

    The other engines keep serving.
    """
    model = model_path(further_model(settings_of("model", ModelSettings), name))
    files.directory(CONFIGS)
    files.put(config_of(name), engine_config(engine, model, socket=further_socket(name)))
    values = {
        "model_name": engine.model_name,
        "memory_max": engine.memory_max,
        "release": release,
        "cuda": "",
        "config": config_of(name),
        "folder": f"{FURTHER_SOCKETS.removeprefix('/run/')}/{name}",
    }
    files.template(
        "runtime/clawd-engine.service",
        unit_file(name),
        values,
        check="systemd-analyze verify --recursive-errors=no {}",
    )
    services.converge(Service(further_unit(name), watch=reads(name, model), keep=False))
    return model


def only(names: Collection[str]) -> None:
    """Remove the engines of all other models, after the answers that they have begun."""
    for name in host.get_fact(EngineNamesFact):
        if name not in names:
            units.absent(f"{further_unit(name)}.service")
            files.absent(config_of(name))


def absent() -> None:
    """Remove all of them, and the slice."""
    only(())
    files.absent(CONFIGS)
    # To systemd every slice exists, with a file or without; this one goes with the last unit in it.
    files.absent(f"{UNITS}/{SLICE}")


class EngineNamesFact(Fact):
    """The names of the models that have an engine of their own, by their units."""

    def command(self) -> str:
        """Return a script that prints the names."""
        return f"ls {UNITS} | sed -n 's/^clawd-engine@\\(.*\\)\\.service$/\\1/p'"

    @staticmethod
    def default() -> tuple[str, ...]:
        """Return no names."""
        return ()

    def process(self, output: list[str]) -> tuple[str, ...]:
        """Return the lines."""
        return tuple(sorted(output))

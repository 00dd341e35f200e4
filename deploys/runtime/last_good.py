"""The last good state of engine and bot, which passed their readiness, kept on the host for a rollback.

One archive, readable only by root since it contains secrets. It is replaced only by another state that
passed: never by the state that an interrupted or failed run leaves.
"""

from __future__ import annotations

from pyinfra.api.operation import OperationMeta

from deploys.ops.paths import files
from deploys.ops.programs import program
from deploys.ops.services import STAMPS, ready_path, stamp_path
from deploys.ops.shell import assignments
from deploys.runtime import further_engines
from deploys.runtime.config import ACCESS, POLICY, ROUTES
from deploys.runtime.settings import INTERNAL
from deploys.topology.engines import MODELS_FOLDER

BOT, ENGINE = "clawd-bot.service", "clawd-engine.service"
SETTINGS = (
    "etc/clawd/bot.json",
    "etc/clawd/secrets",
    *(path.removeprefix("/") for path in (INTERNAL, f"{INTERNAL}.d")),
    f"etc/systemd/system/{BOT}",
    "opt/clawd/current",
)
READ_WHILE_RUNNING = tuple(path.removeprefix("/") for path in (ACCESS, ROUTES, POLICY))
"""Files that the bot reads again without a restart: a change of these alone leaves the state good."""
ENGINE_SETTINGS = ("etc/clawd/engine.json", f"etc/systemd/system/{ENGINE}")
FURTHER_UNITS = further_engines.unit_file("*").removeprefix("/")
"""A pattern of the shell, as are those of their records."""
FURTHER = (
    further_engines.CONFIGS.removeprefix("/"),
    f"{further_engines.UNITS}/{further_engines.SLICE}".removeprefix("/"),
    FURTHER_UNITS,
    *(path(FURTHER_UNITS.rsplit("/", 1)[-1]).removeprefix("/") for path in (stamp_path, ready_path)),
)
KEPT = (
    *SETTINGS,
    *READ_WHILE_RUNNING,
    *ENGINE_SETTINGS,
    *FURTHER,
    # With the stamps of the last good start of both, so that nothing differs after a rollback.
    *(path(unit).removeprefix("/") for unit in (BOT, ENGINE) for path in (stamp_path, ready_path)),
)
ARCHIVE = "/var/lib/clawd/state/runtime.good.tar"
ASIDE = ".old"
"""Suffix of a model that is no longer declared, but may be needed by the last good state."""
RUNS = "/var/lib/clawd/state/runtime.runs"
"""The invocation IDs of the services before a change."""

_VALUES = assignments(
    settings=" ".join(SETTINGS),
    engine_settings=" ".join(ENGINE_SETTINGS),
    engine_config=ENGINE_SETTINGS[0],
    engine_unit=ENGINE_SETTINGS[1],
    kept=" ".join(KEPT),
    further_configs=FURTHER[0],
    further_units=FURTHER_UNITS,
    stamps=STAMPS,
    archive=ARCHIVE,
    runs=RUNS,
    models=MODELS_FOLDER,
    suffix=ASIDE,
    bot_stamp=stamp_path(BOT),
    engine_stamp=stamp_path(ENGINE),
    bot_ready=ready_path(BOT),
)

KEEP = _VALUES + program("deploys/runtime/scripts/keep_good.sh")
"""Keep the present state if it passed its readiness, else leave the last one that did; print `kept` if any.

Neither depends on the services that run now: a bot that is down may have the last good state.
"""

PUT_BACK = _VALUES + program("deploys/runtime/scripts/put_back_good.sh")
"""Restore the last state that passed, start the services, and wait until they are ready.

When all files are as they were kept and the services were not restarted since, nothing is done, and it prints
`untouched`.
"""


def forgotten() -> OperationMeta:
    """Delete the kept state."""
    for path in (RUNS, f"{ARCHIVE}.new", *(ready_path(unit) for unit in (BOT, ENGINE))):
        files.absent(path)
    return files.absent(ARCHIVE)

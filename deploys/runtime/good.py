"""The last good state of engine and bot, which passed their readiness, kept on the host for a rollback.

One archive, readable only by root since it contains secrets. It is replaced only by another state that
passed: never by the state that an interrupted or failed run leaves.
"""

from __future__ import annotations

from pyinfra.api.operation import OperationMeta

from deploys.ops.paths import files
from deploys.ops.services import ready_path, stamp_path
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
ENGINE_SETTINGS = ("etc/clawd/engine.json", f"etc/systemd/system/{ENGINE}")
KEPT = (
    *SETTINGS,
    *ENGINE_SETTINGS,
    # With the stamps of the last good start of both, so that nothing differs after a rollback.
    *(path(unit).removeprefix("/") for unit in (BOT, ENGINE) for path in (stamp_path, ready_path)),
)
ARCHIVE = "/var/lib/clawd/state/runtime.good.tar"
ASIDE = ".old"
"""Suffix of a model that is no longer declared, but may be needed by the last good state."""
RUNS = "/var/lib/clawd/state/runtime.runs"
"""The invocation IDs of the services before a change."""

PASSED = f"""
# A stamp is written when the unit was ready, and taken away before the next start. What was changed later, as
# by a run that was cut off, has not passed.
unchanged_since() {{
    stamp=$1; shift
    [ -f "$stamp" ] && [ -z "$(find "$@" ! -type d -cnewer "$stamp" 2>/dev/null | head -n 1)" ]
}}
passed() {{
    [ -L opt/clawd/current ] && [ -e opt/clawd/current ] || return
    unchanged_since {stamp_path(BOT)} {" ".join(SETTINGS)} || return
    [ ! -f {ENGINE_SETTINGS[1]} ] || unchanged_since {stamp_path(ENGINE)} {" ".join(ENGINE_SETTINGS)}
}}
"""

KEEP = f"""set -eu
umask 077
cd /
rm -f /var/lib/clawd/state/previous.tar /var/lib/clawd/state/previous.runs
{PASSED}
if passed; then
    there=
    for path in {" ".join(KEPT)}; do
        if [ -e "$path" ] || [ -L "$path" ]; then there="$there $path"; fi
    done
    tar -cf {ARCHIVE}.new $there
    sync {ARCHIVE}.new
    mv {ARCHIVE}.new {ARCHIVE}
    rm -f {MODELS_FOLDER}/*{ASIDE}
fi
systemctl show --property=InvocationID clawd-bot clawd-engine > {RUNS}
if [ -f {ARCHIVE} ]; then echo kept; fi
"""
"""Keep the present state if it passed its readiness, else leave the last one that did; print `kept` if any.

Neither depends on the services that run now: a bot that is down may have the last good state.
"""

PUT_BACK = f"""set -eu
umask 022
cd /
tar -tf {ARCHIVE} >/dev/null
there() {{ find {" ".join(KEPT)} 2>/dev/null | sort; }}
archived() {{ tar -tf {ARCHIVE} | sed 's|/$||' | sort; }}
serving() {{
    systemctl is-active --quiet clawd-bot || return
    [ ! -f {ENGINE_SETTINGS[1]} ] || systemctl is-active --quiet clawd-engine
}}
untouched() {{
    [ "$(systemctl show --property=InvocationID clawd-bot clawd-engine)" = "$(cat {RUNS})" ] &&
    [ "$(there)" = "$(archived)" ] && tar -df {ARCHIVE} >/dev/null 2>&1
}}
if untouched && serving; then echo untouched; exit 0; fi
if ! archived | grep -qx {ENGINE_SETTINGS[1]}; then
    systemctl disable --now clawd-engine 2>/dev/null || true
fi
# First what was, then without what came: cut off in between, nothing is missing.
tar -xpf {ARCHIVE}
archived > {ARCHIVE}.names
there | grep -vxFf {ARCHIVE}.names | while IFS= read -r path; do rm -rf "$path"; done
for aside in {MODELS_FOLDER}/*{ASIDE}; do
    model=${{aside%{ASIDE}}}
    if [ -f "$aside" ] && grep -qsF -e "$model" {ENGINE_SETTINGS[0]}; then mv -f "$aside" "$model"; fi
done
rm -f {ARCHIVE}.names {stamp_path(BOT)} {stamp_path(ENGINE)}
systemctl daemon-reload
systemctl reset-failed clawd-bot clawd-engine 2>/dev/null || true
if [ -f {ENGINE_SETTINGS[1]} ]; then systemctl restart clawd-engine; fi
systemctl restart clawd-bot
systemctl is-active --quiet clawd-bot
if [ -f {ready_path(BOT)} ]; then
    tries=0
    until answer=$(sh {ready_path(BOT)} 2>&1 </dev/null); do
        tries=$((tries + 1))
        if [ $tries -ge 60 ]; then printf 'it starts, and is not ready: %s\\n' "$answer" >&2; exit 1; fi
        sleep 1
    done
fi
# Now it has passed once more. The stamps are as new as that.
tar -xpf {ARCHIVE} --touch --wildcards 'var/lib/clawd/state/*.stamp'
"""
"""Restore the last state that passed, start both services, and wait until they are ready.

When all files are as they were kept and the services were not restarted since, nothing is done, and it prints
`untouched`.
"""


def forgotten() -> OperationMeta:
    """Delete the kept state."""
    for path in (RUNS, f"{ARCHIVE}.new", *(ready_path(unit) for unit in (BOT, ENGINE))):
        files.absent(path)
    return files.absent(ARCHIVE)

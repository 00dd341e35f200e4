"""Originals: files of a host that a component replaced, kept, and restored when the component is removed.

Each component has a folder `ORIGINALS/<component>`:

    files/<path>   the original of <path>: content, owner, mode, times, or the link itself
    ours           paths that the component has written since, one per line
    folders        `MODE OWNER GROUP PATH` of folders whose owner or mode it has changed, one per line
    since          when it first changed the host, in seconds since 1970
    earlier        instead of `since`, where a version that kept no originals has set the component up

Files that were never the administrator's are not kept: those in folders of this program, and those of
packages that a component installed. On a host that an earlier version set up, a file counts as the
component's when its text names this program as the author, it is named after it, or it matches `UNMARKED`;
other files that are newly replaced are kept.

From a folder in /etc, a removal deletes what the component wrote and what its programs generate. Files that
users or other packages added there stay.
"""

from __future__ import annotations

from pyinfra import host

from deploys.ops.paths.foreign import PLACE
from deploys.ops.programs import program
from deploys.ops.run_state import run_state

ORIGINALS = "/var/lib/clawd/state/originals"
MOST_NAMED = 20
"""Files that one operation names in a plan; of others it says how many they are."""
COMPONENTS = "/var/lib/clawd/state/components"
PACKAGES = "/var/lib/clawd/state/packages"
ETC = "/etc"
"""Folders of components below it may also have files of the administrator."""
UNMARKED = (
    "*/.ssh/authorized_keys",
    "/etc/docker/daemon.json",
    "/etc/localtime",
    "/etc/prometheus/alertmanager.yml",
    "/etc/prometheus/blackbox.yml",
    "/etc/prometheus/prometheus.yml",
    "/etc/timezone",
)
"""Patterns of files that versions without originals wrote without a mark. The list is closed."""
NAMES = (
    "*/.clawd-??????*",
    "*.service.d/clawd.conf",
    "apt/apt.conf.d/52clawd-security-updates",
    "apt/apt.conf.d/70clawd-packages",
    "apt/apt.conf.d/90clawd-elastic",
    "apt/keyrings/clawd-*.asc",
    "apt/keyrings/clawd-*.gpg",
    "apt/sources.list.d/clawd-*.sources",
    "clawd",
    "clawd/*",
    "docker/clawd.env",
    "docker/clawd.nft",
    "elasticsearch/clawd-tls",
    "elasticsearch/clawd-tls.d/*",
    "elasticsearch/jvm.options.d/clawd.options",
    "fail2ban/jail.d/zz-clawd.local",
    "filebeat/clawd-tls",
    "filebeat/clawd-tls.d/*",
    "grafana/clawd-admin-password",
    "grafana/clawd-dashboards",
    "grafana/clawd-dashboards/*",
    "grafana/provisioning/dashboards/clawd.yml",
    "grafana/provisioning/datasources/clawd.yml",
    "kibana/clawd-tls",
    "kibana/clawd-tls.d/*",
    "logstash/clawd-tls",
    "logstash/clawd-tls.d/*",
    "logstash/conf.d/clawd.conf",
    "modprobe.d/clawd-unused.conf",
    "nginx/clawd",
    "nginx/clawd/*",
    "postgresql/*/conf.d/[12]0-clawd.conf",
    "profile.d/clawd-cores.sh",
    "profile.d/clawd-idle.sh",
    "prometheus/clawd-alerts-token",
    "prometheus/clawd-rules.yml",
    "prometheus/clawd-web.yml",
    "security/limits.d/60-clawd-cores.conf",
    "ssh/sshd_config.d/05-clawd-hardening.conf",
    "ssh/sshd_config.d/10-clawd.conf",
    "sudoers.d/clawd",
    "sudoers.d/clawd-hardening",
    "sysctl.d/60-clawd-elasticsearch.conf",
    "sysctl.d/60-clawd.conf",
    "systemd/*.conf.d/[16]0-clawd.conf",
    "systemd/journald@clawd-bot.conf",
    "systemd/system/clawd-*.service",
    "systemd/system/clawd-*.timer",
)
"""Patterns of the paths in /etc, relative to it, that this program names after itself.

Only these: an administrator's file may have a domain or a registry with that word in its name.
"""
OWN_FOLDERS = (
    "/etc/clawd",
    "/opt/clawd",
    "/run",
    "/usr/local/lib/clawd",
    "/var/lib/clawd",
    "/var/lib/clawd-bot",
    "/var/cache/clawd-grafana",
)
"""Folders that have only files of this program."""


def owner_of(path: str) -> str:
    """Return the component whose deploy is evaluated; empty outside one, and for a `path` in `OWN_FOLDERS`.

    A component's deploys are named `NAME` and `Remove NAME`, in plain pyinfra too.
    """
    if any(path == folder or path.startswith(f"{folder}/") for folder in OWN_FOLDERS):
        return ""
    deploy = str(host.current_deploy_name or "").split(" | ")[0]
    return deploy.removeprefix("Remove ").lower()


def kept_at(owner: str, path: str) -> str:
    """Return the path of the copy of the original of `path`."""
    return f"{ORIGINALS}/{owner}/files{path}"


def staying(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return the plan's lines about files of users or others that removal keeps, each once."""
    named = run_state(host).staying_files
    operation = host.current_op_hash
    mine = [path for path in paths if named.setdefault(path, operation) == operation]
    shown, more = mine[:MOST_NAMED], len(mine[MOST_NAMED:])
    return tuple(f"stays: {path}, which is not of clawd-provision" for path in shown) + (
        (f"stays: {more} more files, which are not of clawd-provision",) if more else ()
    )


def values(owner: str) -> dict[str, str]:
    """Return the shell variables of `originals.sh`."""
    return {
        "whose": owner,
        "place": PLACE,
        "etc": ETC,
        "originals": ORIGINALS,
        "components": COMPONENTS,
        "package_records": PACKAGES,
        "names": "\n".join(NAMES),
        "unmarked": "\n".join(UNMARKED),
    }


KEEP = program("deploys/ops/paths/scripts/originals.sh")

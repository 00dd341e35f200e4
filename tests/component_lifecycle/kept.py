"""What components that were dropped leave: their data, and the accounts that these belong to."""

from __future__ import annotations

ACCOUNTS = ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow")
"""Files that differ where an account stays."""

PSQL = "cd / && runuser -u postgres -- psql -q -At -d clawd -c"
MAKE_DATA = (("app", f"{PSQL} 'CREATE TABLE of_before (); '"),)
FOUND_AGAIN = (("app", f"{PSQL} '\\d'", "of_before"),)

# What lies on the data disk (PostgreSQL's cluster) stays there, and is not seen while it is not mounted.
KEPT = {
    "app": frozenset(
        {
            "+ /var/backups/clawd",
            "+ /var/lib/clawd-alertmanager",
            "+ /var/lib/clawd-prometheus",
            "+ /var/lib/containerd",
            "+ /var/lib/docker",
            "+ /var/lib/filebeat",
            "+ /var/lib/grafana",
            "+ /var/log/unattended-upgrades",
            "+ group grafana:",
            "+ group postgres:",
            "+ group prometheus:",
            "+ group ssl-cert:postgres",
            "+ user grafana",
            "+ user postgres",
            "+ user prometheus",
        }
    ),
    "log": frozenset(
        {
            "+ /var/lib/clawd/state/elasticsearch-formed",
            "+ /var/lib/containerd",
            "+ /var/lib/docker",
            "+ /var/lib/elasticsearch",
            "+ /var/lib/filebeat",
            "+ /var/lib/kibana",
            "+ /var/log/unattended-upgrades",
        }
    ),
}

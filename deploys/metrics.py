"""Where programs of ours leave what the node exporter shows.

Root writes there, so only root may: Debian's own folder belongs to the user of the exporters, who could put a
link in the place of a file and have root overwrite what it leads to.
"""

from __future__ import annotations

TEXTFILES = "/var/lib/clawd/node-exporter"
SHOWN = "/var/lib/*/node-exporter"
"""What the node exporter reads: ours, and Debian's folder, where the administrator's own collectors write."""
FORMER = tuple(
    f"/var/lib/prometheus/node-exporter/{name}.prom"
    for name in ("clawd_certificates", "clawd_database_backup", "clawd_gpu", "clawd_tls")
)
"""What earlier versions wrote into Debian's folder: shown twice, it would hide the present measurements."""

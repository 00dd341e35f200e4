"""Folders in which our programs write metrics for the node exporter.

Root writes there, so only root may: Debian's own folder belongs to the user of the exporters, who could
replace a file by a link and have root overwrite its target.
"""

from __future__ import annotations

TEXTFILES = "/var/lib/clawd/node-exporter"
SHOWN = "/var/lib/*/node-exporter"
"""Folders that the node exporter reads: ours, and Debian's, where the administrator's collectors write."""
FORMER = tuple(
    f"/var/lib/prometheus/node-exporter/{name}.prom"
    for name in ("clawd_certificates", "clawd_database_backup", "clawd_gpu", "clawd_tls")
)
"""Files of earlier versions in Debian's folder: a metric in two files would hide the current measurement."""

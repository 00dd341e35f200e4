"""Monitoring, as declared."""

from __future__ import annotations

from inventory.declared import Declared


class Monitoring(Declared):
    """Prometheus, Alertmanager and Grafana, on the host with the role monitoring."""

"""Logs, as declared."""

from __future__ import annotations

from inventory.declared import Declared


class Logs(Declared):
    """Elasticsearch, Logstash and Kibana on hosts with the role logs; Filebeat on all."""

"""Certificates of the project's authority on hosts: their folders, and names in them.

nginx's certificate for clients is none of them: it may be of another authority (`deploys.tls`).
"""

from __future__ import annotations

AUTHORITY = "/etc/clawd/authority.pem"
"""File with the project's authority: a bot checks our servers by it, and uploads it to Telegram."""

INTERNAL_BOT = "bot.clawd.internal"
"""A name in the internal certificate of every bot: nginx checks all bots of a group by one name."""

LEAST_DAYS = 30
"""Days left of a certificate that only `up` renews (from 120 on) when people are asked to run it."""

CERTIFICATE_FOLDERS = {
    "database": "/etc/clawd/database-tls",
    "elasticsearch": "/etc/elasticsearch/clawd-tls",
    "exporters": "/etc/clawd/monitoring",
    "filebeat": "/etc/filebeat/clawd-tls",
    "grafana": "/etc/clawd/grafana",
    "kibana": "/etc/kibana/clawd-tls",
    "logstash": "/etc/logstash/clawd-tls",
    "nginx": "/etc/clawd/nginx-internal",
    "runtime": "/etc/clawd/bot-internal",
}
"""Folders with `fullchain.pem`, `privkey.pem` and `ca.pem` of every component that has such a certificate
(`deploys.tls.deploy.internal`); a host has some of them."""

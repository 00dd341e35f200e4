"""The components, in the order in which a host is built."""

from __future__ import annotations

from deploys.component import Component

COMPONENTS: tuple[Component, ...] = (
    Component("base", "packages, operators, SSH hardening, journal limits, time zone"),
    Component("hardening", "fail2ban, security updates, sysctl, login banner"),
    Component("disk", "a blank data disk: file system, mount, folders on it"),
    Component("firewall", "nftables: only declared ports"),
    Component("nvidia", "GPU driver, persistence daemon, container toolkit"),
    Component("docker", "Docker engine"),
    Component("tls", "certificates: ACME, own authority, self-signed or provided"),
    Component("database", "PostgreSQL, which several runtime hosts share, and its backups"),
    Component("model", "GGUF files, checked by SHA-256"),
    Component("runtime", "clawd-engine and clawd-bot"),
    Component("nginx", "TLS termination and webhooks in front of the bots"),
    Component("exporters", "metrics of host, nginx, database and GPU"),
    Component("prometheus", "metrics gathered, alert rules"),
    Component("alertmanager", "alerts to people, through the bot"),
    Component("grafana", "dashboards"),
    Component("elasticsearch", "log lines kept and searched"),
    Component("logstash", "log lines taken apart"),
    Component("kibana", "log lines looked at"),
    Component("filebeat", "log lines sent"),
)

BY_NAME = {component.name: component for component in COMPONENTS}

"""The components, in the order in which a host is built."""

from __future__ import annotations

from deploys.component import Component

COMPONENTS: tuple[Component, ...] = (
    Component("base", "packages, operators, SSH hardening, journal limits, time zone"),
    Component("firewall", "nftables: only declared ports"),
    Component("tls", "certificates from the project's own authority, or self-signed"),
    Component("model", "GGUF files, checked by SHA-256"),
    Component("runtime", "clawd-engine and clawd-bot under systemd"),
    Component("nginx", "TLS termination and webhooks in front of the bots"),
)

"""Changes of a host's plan on which the order of hosts depends."""

from __future__ import annotations

import re

from deploys.tls.certificate import OTHER_AUTHORITY
from provision.plan import HostPlan
from provision.rollout.rollback import GUARDED

UPSTREAMS = "/etc/nginx/clawd/upstreams.conf"
NGINX_CERTIFICATE = "/etc/clawd/nginx-internal/fullchain.pem"


def changes_bot(plan: HostPlan) -> bool:
    """Return whether a plan changes the bot of a host."""
    return any(operation.component in GUARDED for operation in plan.changing)


def changes_database(plan: HostPlan) -> bool:
    """Return whether a plan changes the database of a host."""
    return any(operation.component == "database" for operation in plan.changing)


def changes_upstreams(plan: HostPlan) -> bool:
    """Return whether a plan has the nginx of a host reach other bots, or reach them elsewhere.

    One that only puts a drained bot back in service does not.
    """
    lines = [
        line
        for operation in plan.changing
        for file in operation.files
        if file.path == UPSTREAMS
        for line in file.diff
    ]
    removed, added = (
        {found[1] for line in lines if (found := re.match(rf"{sign}\s*server\s+(\S+?);?(\s|$)", line))}
        for sign in ("-", r"\+")
    )
    return removed != added


def changes_authority(plan: HostPlan) -> bool:
    """Return whether a plan gives the nginx of a host a certificate of a new authority, to show to bots."""
    return any(
        file.path == NGINX_CERTIFICATE and any(OTHER_AUTHORITY in line for line in file.diff)
        for operation in plan.changing
        for file in operation.files
    )


def changes_node(plan: HostPlan) -> bool:
    """Return whether a plan changes the Elasticsearch of a host."""
    return any(operation.component == "elasticsearch" for operation in plan.changing)

"""What is on a host, as lines: to find what a deployment has left there."""

from __future__ import annotations

from collections.abc import Iterable

LOOK = r"""
dpkg-query -W -f='package ${Package} ${db:Status-Status}\n'
getent passwd | sed 's/^\([^:]*\).*/user \1/'
getent group | sed 's/^\([^:]*\):[^:]*:[^:]*/group \1/'
systemctl list-unit-files --no-legend --no-pager | awk '$2 == "enabled" {print "enabled", $1}'
systemctl list-units --no-legend --no-pager --plain --state failed | awk '{print "failed", $1}'
systemctl list-units --no-legend --no-pager --plain --type service,timer,socket,mount --state active |
    awk '!/^(user|session|run-user-|apt-daily|dpkg-db|logrotate|systemd-)/ {print "active", $1}'
nft --stateless list ruleset 2>/dev/null | sed 's/^/rules /'
ss -Hltun | awk '{print "listens", $1, $5}'
find /etc -xdev -type f -exec sha256sum {} +
find /etc -xdev -type l -printf '%p -> %l\n'
find /opt /usr/local /srv /var/lib/clawd* /run/clawd* -xdev -not -type d
find /etc /opt /usr/local /srv /var/lib/clawd* -xdev -type d
find /var/lib /var/log /var/cache /var/backups -mindepth 1 -maxdepth 1
"""

MAY_DIFFER = (
    # Written by programs of Debian whenever a package is installed or a user logs in.
    "/etc/.pwd.lock",
    "/etc/ld.so.cache",
    "/etc/passwd-",
    "/etc/group-",
    "/etc/shadow-",
    "/etc/gshadow-",
    "/etc/subuid-",
    "/etc/subgid-",
    "/etc/mailcap",
    "/etc/ssl/certs/",
    "alternatives.log",
    "dpkg.log",
    # Runs at the first boot of a host and at no other.
    "active ldconfig.service",
)


def differences(
    before: Iterable[str], after: Iterable[str], *, but: Iterable[str] = MAY_DIFFER
) -> frozenset[str]:
    """Lines that have gone (`- …`) and come (`+ …`), save those that name one of `but`."""
    gone, come = set(before) - set(after), set(after) - set(before)
    marked = {f"- {line}" for line in gone} | {f"+ {line}" for line in come}
    return frozenset(line for line in marked if not any(text in line for text in but))

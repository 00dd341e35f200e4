"""Ports that two of a host's programs want."""

from __future__ import annotations

from tests.inventory.mistakes.case import ROLES, Cases, reported

CASES: Cases = {
    "firewall opens nginx's port": (
        "base:\n",
        "firewall:\n  open:\n    - port: ‸443\nbase:\n",
        "port 443 is used twice on bot1: by `firewall.open[0].port` and by `nginx.https_port`",
        "remove it: the firewall opens the ports of components automatically",
    ),
    "firewall opens the bot's port": (
        "base:\n",
        "firewall:\n  open:\n    - port: ‸8080\nbase:\n",
        "port 8080 is used twice on bot1: by `firewall.open[0].port` and by `bot.port`",
        "remove it: the bot is reached only through nginx",
    ),
    "firewall opens a port twice": (
        "base:\n",
        "firewall:\n  open: [{port: 9000}, {port: 9000, protocol: udp}, {port: ‸9000}]\nbase:\n",
        "port 9000 is used twice on bot1: by `firewall.open[2].port` and by `firewall.open[0].port`",
        "keep one entry, with all networks in its `from`",
    ),
    "nginx on the SSH port": (
        "base:\n",
        "nginx:\n  http_port: ‸22\nbase:\n",
        "port 22 is used twice on bot1: by `nginx.http_port` and by `hosts.bot1.port`",
        "give one of them another port",
    ),
    "SSH reached on nginx's port": (
        "    address: 192.0.2.11\n",
        "    address: 192.0.2.11\n    port: ‸443\n",
        "port 443 is used twice on bot1: by `nginx.https_port` and by `hosts.bot1.port`",
        "give one of them another port",
    ),
    "SSH on nginx's port": (
        "  time_zone",
        "  ssh_port: ‸443\n  time_zone",
        "port 443 is used twice on bot1: by `nginx.https_port` and by `base.ssh_port`",
        "give one of them another port",
    ),
    "bot and nginx on one port": (
        "base:\n",
        "bot:\n  port: ‸443\nbase:\n",
        "port 443 is used twice on bot1: by `bot.port` and by `nginx.https_port`",
        "give one of them another port",
    ),
    "SSH on a port of the log programs": (
        ROLES,
        ROLES + "  log1: {address: 192.0.2.12, port: ‸9200, roles: [logs]}\nlogs: {password: !file jwt}\n",
        "port 9200 is used twice on log1: by `hosts.log1.port` and by elasticsearch",
        "choose another port",
    ),
}

test_mistake = reported(CASES)

"""`hosts`: names, addresses, roles, and the hosts that they are reached through."""

from __future__ import annotations

from tests.inventory.conftest import VALID
from tests.inventory.mistakes.case import ROLES, Cases, reported

CASES: Cases = {
    # hosts and roles
    "no hosts": (
        VALID[VALID.index("hosts:\n") : VALID.index("base:")],
        "‸hosts: {}\n",
        "`hosts` is an empty mapping",
        "write at least one item",
    ),
    "host without a role": (
        "    roles: [runtime, nginx]",
        "    ‸roles: []",
        "`hosts.bot1.roles` is an empty list",
        "write at least one item",
    ),
    "unknown role": (
        "[runtime, nginx]",
        "[runtime, ‸ngnix]",
        "`hosts.bot1.roles[1]` is `ngnix`, which is not allowed here",
        "did you mean `nginx`?",
    ),
    "role twice": (
        "[runtime, nginx]",
        "[runtime, nginx, ‸runtime]",
        "`bot1` has the role runtime twice",
        "list each role once",
    ),
    "roles that exclude each other": (
        "[runtime, nginx]",
        "[runtime, nginx, ‸logs]\nlogs: {password: !file jwt}",
        (
            "`bot1` has the roles logs and runtime, which exclude each other: Elasticsearch would evict "
            "the model's weights from the page cache"
        ),
        "give the role logs to another host, without the role runtime",
    ),
    "no runtime host": (
        "hosts:\n  bot1:\n    address: 192.0.2.11\n    ssh_key: id\n    roles: [runtime, nginx]\n",
        "‸hosts:\n  bot1:\n    address: 192.0.2.11\n    ssh_key: id\n    roles: [nginx]\n",
        "no host has the role runtime",
        "add `runtime` to the roles of a host",
    ),
    "same address": (
        "base:\n",
        "  bot2: {address: ‸192.0.2.11}\nbase:\n",
        "`bot2` and `bot1` have the same address 192.0.2.11",
        "give each host its own address, or give one host all the roles",
    ),
    "login in address": (
        "address: 192.0.2.11",
        "address: ‸root@192.0.2.11",
        "`root@192.0.2.11` is not an address",
        "write the login as `user:` and the address without it",
    ),
    "port in address": (
        "address: 192.0.2.11",
        "address: ‸192.0.2.11:22",
        "`192.0.2.11:22` is not an address",
        "write the port as `port:` and the address without it",
    ),
    "impossible address": (
        "address: 192.0.2.11",
        "address: ‸192.0.2.256",
        "`192.0.2.256` is not an address",
        "write an IP address or a host name",
    ),
    "bad host key": (
        ROLES,
        ROLES + "    host_key: ‸192.0.2.11 ssh-ed25519 AAAA\n",
        "this is not an SSH public key",
        "write the whole line of a .pub file: `ssh-ed25519 AAAA…`",
    ),
    # jump hosts
    "jump host named nowhere": (
        ROLES,
        ROLES + "    bastion: {host: ‸gatway}\n  gateway: {address: 192.0.2.1}\n",
        "there is no host `gatway` in this file",
        "did you mean `gateway`?",
    ),
    "jump host unlike any host": (
        ROLES,
        ROLES + "    bastion: {host: ‸xyz}\n  gateway: {address: 192.0.2.1}\n",
        "there is no host `xyz` in this file",
        "use one of: bot1, gateway",
    ),
    "jump host without a name": (
        ROLES,
        ROLES + "    ‸bastion: {port: 22}\n",
        "`hosts.bot1.bastion` has neither `host` nor `address`",
        "add `host:` with the name of a host of this file, or `address:`",
    ),
    "jump host by name and address": (
        ROLES,
        ROLES
        + "    bastion: {host: gateway, user: me, address: ‸192.0.2.9}\n  gateway: {address: 192.0.2.1}\n",
        "`hosts.bot1.bastion` has `address`, `user` in addition to the host `gateway`",
        "remove `address`, `user` to use what `hosts.gateway` declares, or remove `host:`",
    ),
    "own jump host": (
        ROLES,
        ROLES + "    bastion: {host: ‸bot1}\n",
        "`bot1` is its own jump host",
        "write another host, or remove `bastion:`",
    ),
    "jump host behind a jump host": (
        ROLES,
        ROLES + "    bastion: {host: ‸b}\n  b: {address: 192.0.2.2, bastion: {address: 192.0.2.3}}\n",
        "the jump host `b` is itself behind a jump host",
        "write a host that is reached directly",
    ),
    "bad address of a jump host": (
        ROLES,
        ROLES + "    bastion: {address: ‸root@192.0.2.9}\n",
        "`root@192.0.2.9` is not an address",
        "write the login as `user:` and the address without it",
    ),
    "malformed size of a host": (
        ROLES,
        ROLES + "    memory: ‸4GB\n",
        "`hosts.bot1.memory` is `4GB`, which is malformed",
        "write a whole number followed by K, M or G, such as 500M",
    ),
}

test_mistake = reported(CASES)

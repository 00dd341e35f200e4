"""Every kind of mistake gives file, line, column, what is wrong and what would be right.

A case changes one thing in a valid inventory; `‸` marks where the mistake must be reported.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from deploys.ports import RULES
from inventory.errors import InventoryError
from inventory.load import load
from inventory.mistakes import PATTERN_WORDS
from inventory.model import Inventory
from tests.inventory.conftest import ED25519, VALID, private

ROLES = "    roles: [runtime, nginx]\n"
END = "    jwt_secret: !file jwt\n"

# kind: (what is replaced, by what, problem, advice)
CASES: dict[str, tuple[str, str, str, str]] = {
    # the file
    "empty file": (VALID, "‸# nothing here\n", "the file is empty", "declare at least `hosts` and `models`"),
    "not a mapping": (
        VALID,
        "‸- hosts\n",
        "the file is not a mapping",
        "write keys with values: `hosts:`, `models:`, …",
    ),
    "tab": (
        "  bot1:\n",
        "‸\tbot1:\n",
        "found character '\\t' that cannot start any token",
        "indent with spaces, not with tabs",
    ),
    "colon in text": (
        "project: team",
        "project: a‸: b",
        "mapping values are not allowed here",
        "check the indentation, and quote a text that contains `: `",
    ),
    "unclosed bracket": (
        "nginx]\nbase:",
        "nginx\nbase‸:",
        "expected ',' or ']', but got ':'",
        "close the bracket, or put a comma between the items",
    ),
    "undefined alias": (
        "app_id: cli_1",
        "app_id: ‸*cli",
        "found undefined alias",
        "quote a text that begins with `*`, or define the anchor before",
    ),
    "two documents": (
        END,
        END + "‸---\nproject: b\n",
        "but found another document",
        "keep one inventory a file: remove the `---`",
    ),
    "alias to itself": (
        "base:\n",
        "tls:\n  names: ‸&b [*b]\nbase:\n",
        "this alias refers to itself",
        "write the value out",
    ),
    "duplicate key": (
        "models:\n",
        "‸project: other\nmodels:\n",
        "the key `project` stands twice, first in line 1",
        "keep one of the two",
    ),
    "unknown tag": (
        "!file secret-token",
        "‸!flie secret-token",
        "unknown tag `!flie`",
        "did you mean `!file`?",
    ),
    "control character": (
        "app_id: cli_1",
        'app_id: ‸"a\\0b"',
        "the text contains the character U+0000",
        "remove it",
    ),
    "infinite number": (
        "base:\n",
        "tls:\n  renew_fraction: ‸.inf\nbase:\n",
        "this is not a float that can be read",
        "write a decimal number, or quote it as text",
    ),
    # keys and types
    "unknown key": (
        "    roles:",
        "    ‸rolse:",
        "unknown key `rolse` in `hosts.bot1`",
        "did you mean `roles`?",
    ),
    "unknown section": (
        "base:\n",
        "‸bsae:\n",
        "unknown key `bsae`",
        "did you mean `base`?",
    ),
    "unlike any key": (
        "  time_zone:",
        "  ‸xyz:",
        "unknown key `xyz` in `base`",
        "known are time_zone, packages, upgrade, operators, journal_max, ssh_port",
    ),
    "missing key": (
        "  bot1:\n    address: 192.0.2.11\n",
        "  ‸bot1:\n",
        "`hosts.bot1` lacks `address`",
        "add `address:` (Name or IP address to reach it by)",
    ),
    "missing section": (
        VALID,
        "‸" + VALID[: VALID.index("models:")] + VALID[VALID.index("channels:") :],
        "the inventory lacks `models`",
        "add `models:` (The language models that answer)",
    ),
    "no engine": (
        "  default:\n    engine: llama-cpp\n",
        "  ‸default:\n",
        "`models.default` lacks `engine`",
        "add `engine: llama-cpp` or `engine: openai-compatible`",
    ),
    "unknown engine": (
        "engine: llama-cpp",
        "engine: ‸llama.cpp",
        "`models.default.engine` is `llama.cpp`, which is not allowed here",
        "did you mean `llama-cpp`?",
    ),
    "text for number": (
        ROLES,
        ROLES + '    port: ‸"22"\n',
        "`hosts.bot1.port` is `22`, the wrong type",
        "write a whole number from 1 to 65535",
    ),
    "fraction for whole number": (
        "    memory_max",
        "    parallel: ‸1.5\n    memory_max",
        "`models.default.parallel` is `1.5`, the wrong type",
        "write a whole number from 1 to 64",
    ),
    "number for text": (
        "    roles:",
        "    user: ‸5\n    roles:",
        "`hosts.bot1.user` is `5`, the wrong type",
        'write "5" in quotes',
    ),
    "number for size": (
        "memory_max: 1G",
        "memory_max: ‸1024",
        "`models.default.memory_max` is `1024`, the wrong type",
        "write a whole number followed by K, M or G, such as 500M",
    ),
    "text for list": (
        "[runtime, nginx]",
        "‸runtime",
        "`hosts.bot1.roles` is a text, the wrong type",
        "write a list: `[…]`, or one `- ` line an item",
    ),
    "text for true or false": (
        ROLES,
        ROLES + "    internet: ‸ja\n",
        "`hosts.bot1.internet` is `ja`, the wrong type",
        "write true or false",
    ),
    "empty section": (
        "base:\n  time_zone: Asia/Shanghai\n",
        "‸base:\n",
        "`base` is empty",
        "write keys with values below it, or leave the key out",
    ),
    "number too large": (
        ROLES,
        ROLES + "    port: ‸70000\n",
        "`hosts.bot1.port` is `70000`, which is too large",
        "write a whole number from 1 to 65535",
    ),
    "number too small": (
        "    memory_max",
        "    context_size: ‸8\n    memory_max",
        "`models.default.context_size` is `8`, which is too small",
        "write a whole number from 256 to 1048576",
    ),
    "fraction out of range": (
        "base:\n",
        "tls: {renew_fraction: ‸1}\nbase:\n",
        "`tls.renew_fraction` is `1`, which is too large",
        "write a number above 0 and below 1",
    ),
    "malformed size": (
        "memory_max: 1G",
        "memory_max: ‸1GB",
        "`models.default.memory_max` is `1GB`, which is malformed",
        "write a whole number followed by K, M or G, such as 500M",
    ),
    "malformed host name": (
        "  bot1:\n",
        "  ‸Bot_1:\n",
        "`Bot_1` is not a name",
        "use lower-case letters, digits and hyphens, at most 63",
    ),
    "malformed network": (
        "base:\n",
        "firewall:\n  management: [10.0.0.0/8, ‸10.1.2.3/16]\nbase:\n",
        "`firewall.management[1]` is `10.1.2.3/16`, which is not a network",
        "write 10.1.0.0/16",
    ),
    "no network at all": (
        "base:\n",
        "firewall:\n  open:\n    - port: 9000\n      from: [‸office]\nbase:\n",
        "`firewall.open[0].from[0]` is `office`, which is not a network",
        "write an address or a network such as 10.0.0.0/8 or 2001:db8::/32",
    ),
    # hosts and roles
    "no hosts": (
        VALID[VALID.index("hosts:\n") : VALID.index("base:")],
        "‸hosts: {}\n",
        "`hosts` is an empty mapping",
        "name at least one",
    ),
    "host without a role": (
        "    roles: [runtime, nginx]",
        "    ‸roles: []",
        "`hosts.bot1.roles` is an empty list",
        "name at least one",
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
        "name each role once",
    ),
    "roles that exclude each other": (
        "[runtime, nginx]",
        "[runtime, nginx, ‸logs]\nlogs: {password: !file jwt}",
        "`bot1` has the roles logs and runtime, which exclude each other: Elasticsearch would push the "
        "model's weights out of the memory that the host keeps files in",
        "give the role logs to a host of its own, or to one without runtime",
    ),
    "no runtime host": (
        "hosts:\n  bot1:\n    address: 192.0.2.11\n    ssh_key: id\n    roles: [runtime, nginx]\n",
        "‸hosts:\n  bot1:\n    address: 192.0.2.11\n    ssh_key: id\n    roles: [nginx]\n",
        "no host has the role runtime",
        "add `runtime` to the roles of one",
    ),
    "same address": (
        "base:\n",
        "  bot2: {address: ‸192.0.2.11}\nbase:\n",
        "`bot2` and `bot1` have the same address 192.0.2.11",
        "give each host its own, or give one host all the roles",
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
        "known are bot1, gateway",
    ),
    "jump host without a name": (
        ROLES,
        ROLES + "    ‸bastion: {port: 22}\n",
        "`hosts.bot1.bastion` names no jump host",
        "add `host:` with the name of a host of this file, or `address:`",
    ),
    "jump host by name and address": (
        ROLES,
        ROLES
        + "    bastion: {host: gateway, user: me, address: ‸192.0.2.9}\n  gateway: {address: 192.0.2.1}\n",
        "`hosts.bot1.bastion` names the host `gateway` and has `address`, `user` as well",
        "remove `address`, `user`: what `hosts.gateway` declares is used, or remove `host:`",
    ),
    "own jump host": (
        ROLES,
        ROLES + "    bastion: {host: ‸bot1}\n",
        "`bot1` would be its own jump host",
        "name another host, or remove `bastion:`",
    ),
    "jump host behind a jump host": (
        ROLES,
        ROLES + "    bastion: {host: ‸b}\n  b: {address: 192.0.2.2, bastion: {address: 192.0.2.3}}\n",
        "the jump host `b` is itself behind a jump host",
        "name a host that is reached directly",
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
    # ports
    "firewall opens nginx's port": (
        "base:\n",
        "firewall:\n  open:\n    - port: ‸443\nbase:\n",
        "port 443 is used twice on bot1: by `firewall.open[0].port` and by `nginx.https_port`",
        "remove it: the firewall opens the ports of the components by itself",
    ),
    "firewall opens the bot's port": (
        "base:\n",
        "firewall:\n  open:\n    - port: ‸8080\nbase:\n",
        "port 8080 is used twice on bot1: by `firewall.open[0].port` and by `bot.port`",
        "remove it: the bot is reached through nginx only",
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
    # base and certificates
    "bad time zone": (
        "Asia/Shanghai",
        "‸Asia/Shangai",
        "there is no time zone `Asia/Shangai`",
        "did you mean `Asia/Shanghai`?",
    ),
    "bad package": (
        "  time_zone",
        "  packages: [htop, ‸jq=1.6]\n  time_zone",
        "`jq=1.6` is not the name of a Debian package",
        "write the name alone, as `apt-get install` takes it",
    ),
    "journal too small": (
        "  time_zone",
        "  journal_max: ‸1M\n  time_zone",
        "1M is too little for journald to work",
        "write at least 16M",
    ),
    "bad SSH public key": (
        "  time_zone",
        f"  operators:\n    - name: a\n      keys:\n        - ‸{ED25519[:60]}\n  time_zone",
        "this SSH public key is damaged",
        "copy the whole line of the .pub file again",
    ),
    "private key": (
        "  time_zone",
        "  operators:\n    - name: a\n      keys: [‸-----BEGIN OPENSSH PRIVATE KEY-----]\n  time_zone",
        "this is a private key",
        "replace this key pair, and write the line of the .pub file here",
    ),
    "operator twice": (
        "  time_zone",
        f"  operators: [{{name: a, keys: [{ED25519}]}}, {{name: ‸a, keys: [{ED25519}]}}]\n  time_zone",
        "the login a is listed twice",
        "choose another name",
    ),
    "operator root": (
        "  time_zone",
        f"  operators: [{{name: ‸root, keys: [{ED25519}]}}]\n  time_zone",
        "the login root belongs to the system",
        "choose another name",
    ),
    "bad certificate name": (
        "base:\n",
        "tls:\n  names: [bot.example.com, ‸bot_1.example.com]\nbase:\n",
        "`bot_1.example.com` cannot stand in a certificate",
        "write a host name, `*.example.com` or an IP address",
    ),
    # models
    "not a .gguf": (
        "model.gguf",
        "‸model.bin",
        "`model.bin` does not end in .gguf",
        "name a GGUF file; convert others first",
    ),
    "url without sha256": (
        "    memory_max",
        "    url: ‸https://models.example.com/m.gguf\n    memory_max",
        "a model fetched by `url` needs a digest, so that nothing else is served",
        "add `sha256:` as `sha256sum` prints it",
    ),
    "bad sha256": (
        "    memory_max",
        "    sha256: ‸abc\n    memory_max",
        "`models.default.sha256` is `abc`, which is malformed",
        "write the 64 hexadecimal digits (lower case) that `sha256sum` prints",
    ),
    "too little memory": (
        "memory_max: 1G",
        "memory_max: ‸64M",
        "64M is too little for the engine to work",
        "write at least 256M",
    ),
    "two local models": (
        "    memory_max: 1G\n",
        "    memory_max: 1G\n  fallback:\n    engine: ‸llama-cpp\n    path: model.gguf\n",
        "`models.default` and `models.fallback` are both llama-cpp models, but a host runs one engine",
        "make one of them `engine: openai-compatible`, or leave the fallback out",
    ),
    "endpoint too long": (
        "    memory_max: 1G\n",
        "    memory_max: 1G\n  fallback:\n    engine: openai-compatible\n"
        "    endpoint: ‸https://llm.example.com/v1/chat/completions\n",
        "this address ends in /chat/completions, which is added by itself",
        "remove /chat/completions",
    ),
    "login in endpoint": (
        "    memory_max: 1G\n",
        "    memory_max: 1G\n  fallback:\n    engine: openai-compatible\n    endpoint: ‸https://a:b@llm.example.com\n",
        "this address has a login in it",
        "remove the part before `@`; secrets have fields of their own",
    ),
    "reply longer than context": (
        "    memory_max",
        "    context_size: ‸639\n    memory_max",
        "a reply of 512 tokens leaves no room for a question in a context of 639",
        "lower `bot.max_reply_tokens`, or raise `models.default.context_size` to at least 640",
    ),
    "reply longer than the fallback's context": (
        "    memory_max: 1G\n",
        "    memory_max: 1G\n  fallback:\n    engine: openai-compatible\n"
        "    endpoint: https://llm.example.com\n    context_size: ‸256\n",
        "a reply of 512 tokens leaves no room for a question in a context of 256",
        "lower `bot.max_reply_tokens`, or raise `models.fallback.context_size` to at least 640",
    ),
    "more threads than the engine takes": (
        "    memory_max",
        "    threads: ‸1025\n    memory_max",
        "`models.default.threads` is `1025`, which is too large",
        "write a whole number from 1 to 1024",
    ),
    "more context than the engine takes": (
        "    memory_max",
        "    context_size: ‸1048577\n    memory_max",
        "`models.default.context_size` is `1048577`, which is too large",
        "write a whole number from 256 to 1048576",
    ),
    "model without a name": (
        "    memory_max: 1G\n",
        "    memory_max: 1G\n  fallback:\n    engine: openai-compatible\n"
        '    endpoint: https://llm.example.com\n    model: ‸""\n',
        "`models.fallback.model` is ``, which is not allowed here",
        "write a text, or leave the key out",
    ),
    "bot without memory": (
        "base:\n",
        "bot:\n  memory_max: ‸8M\nbase:\n",
        "8M is too little for the bot to work",
        "write at least 96M",
    ),
    # channels
    "webhook without secret_token": (
        "  telegram:\n    token: !env TELEGRAM_TOKEN\n    secret_token: !file secret-token\n",
        "  ‸telegram:\n    token: !env TELEGRAM_TOKEN\n",
        "`channels.telegram` lacks `secret_token`, so anyone could write to the webhook",
        "add `secret_token:` (1 to 256 of A-Z a-z 0-9 _ -), or write `mode: polling`",
    ),
    "secret_token of wrong letters": (
        "!file secret-token",
        "‸!file spaced",
        "Telegram does not accept this secret token",
        "use 1 to 256 of A-Z a-z 0-9 _ and -",
    ),
    "not a bot token": (
        "!env TELEGRAM_TOKEN",
        "‸!file secret-token",
        "this is not a token of a Telegram bot",
        "copy it from BotFather: digits, a colon, and about 35 more characters",
    ),
    "not a token of one's own Bot API server": (
        "    token: !env TELEGRAM_TOKEN\n",
        "    api_base: https://tg.example.com\n    token: ‸!file secret-token\n",
        "this is not a token of a Telegram bot",
        "copy it from BotFather: digits, a colon, and about 35 more characters",
    ),
    "bad app_id": (
        "app_id: cli_1",
        "app_id: ‸cli-1",
        "`channels.feishu.app_id` is `cli-1`, which is malformed",
        "write `cli_` and what follows it in the developer console",
    ),
    "webhook port": (
        "base:\n",
        "nginx:\n  https_port: ‸9443\nbase:\n",
        "Telegram calls no webhook on port 9443",
        "use 443, 80, 88 or 8443, or write `mode: polling` for Telegram",
    ),
    "short jwt_secret": (
        "!file jwt",
        "‸!file secret-token",
        "the secret has 19 bytes; HS256 needs at least 32 (RFC 7518, section 3.2)",
        "make one with `openssl rand -base64 48`",
    ),
    "bad api_base": (
        "app_id: cli_1",
        "app_id: cli_1\n    api_base: ‸https://",
        "`https://` is not the address of a server",
        "write https://NAME or https://NAME:PORT/path",
    ),
    # secrets
    "plain-text secret": (
        "!env TELEGRAM_TOKEN",
        "‸123456:canary",
        "`channels.telegram.token` is a secret in plain text",
        "give it by !age, !env NAME, !cmd COMMAND or !file PATH, and replace it if others saw it",
    ),
    "secret tag where none belongs": (
        "app_id: cli_1",
        "app_id: ‸!env TELEGRAM_TOKEN",
        "`channels.feishu.app_id` is not a secret, !env is for secrets",
        "write the value",
    ),
    "variable not set": (
        "!env TELEGRAM_TOKEN",
        "‸!env NOT_THERE",
        "the environment variable NOT_THERE is not set",
        "set it before the run: `export NOT_THERE=…`",
    ),
    "variable with $": (
        "!env TELEGRAM_TOKEN",
        "‸!env $TELEGRAM_TOKEN",
        "`!env` takes the name of an environment variable",
        "write `!env NAME`, without `$`",
    ),
    "command fails": (
        "!cmd cat app-secret",
        "‸!cmd cat app-secret; exit 3",
        "the command failed with exit code 3",
        "try it in {folder}; its output is never shown here",
    ),
    "command says nothing": (
        "!cmd cat app-secret",
        "‸!cmd true",
        "the secret from `!cmd` is empty",
        "put the value where it is read from",
    ),
    "secret file missing": (
        "!file encrypt-key",
        "‸!file encrypt-kee",
        "the secret file {folder}/encrypt-kee does not exist",
        "create it with mode 0600, or correct the path",
    ),
    "secret file open to others": (
        "!file encrypt-key",
        "‸!file open",
        "{folder}/open is open to others than its owner (mode 0640)",
        "`chmod 600 {folder}/open`",
    ),
    "secret file is a folder": (
        "!file encrypt-key",
        "‸!file .",
        "{folder} is not a file",
        "name a file that holds nothing but the secret",
    ),
    "no age key": (
        "!file encrypt-key",
        "‸!age abc",
        "there is no age key on this machine to decrypt with",
        "put yours into ~/.config/clawd-provision/age.key (mode 0600), or name it in CLAWD_AGE_KEY_FILE",
    ),
    "secret tag without text": ("!file encrypt-key", "‸!file", "`!file` names nothing", "write `!file PATH`"),
    # files on the laptop
    "model missing": (
        "path: model.gguf",
        "path: ‸modell.gguf",
        "{folder}/modell.gguf does not exist",
        "correct the path, or let the host fetch it with `url:` and `sha256:`",
    ),
    "model is something else": (
        "path: model.gguf",
        "path: ‸pointer.gguf",
        "{folder}/pointer.gguf is not a GGUF file",
        "download it again; a pointer or a web page was saved",
    ),
    "model larger than memory": (
        "path: model.gguf\n    memory_max: 1G",
        "path: big.gguf\n    memory_max: ‸300M",
        "300M is less than the model file itself has (400M)",
        "allow the file's size and about a third more",
    ),
    "SSH key missing": (
        "ssh_key: id",
        "ssh_key: ‸~/.ssh/id",
        "{home}/.ssh/id does not exist",
        "correct the path, or make a key with `ssh-keygen -t ed25519`",
    ),
    "SSH key open to others": (
        "ssh_key: id",
        "ssh_key: ‸open",
        "{folder}/open is open to others than its owner (mode 0640)",
        "`chmod 600 {folder}/open`",
    ),
    "authority of a registry missing": (
        "project: team",
        "project: team\ndocker:\n  registry: r.internal/bots\n  registry_authority: ‸nowhere.pem",
        "{folder}/nowhere.pem does not exist",
        "correct the path, or leave it out for a public authority",
    ),
    "known_hosts missing": (
        "known_hosts: known_hosts",
        "known_hosts: ‸nowhere",
        "{folder}/nowhere does not exist",
        "correct the path, or make it with `ssh-keyscan` and compare the keys",
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_mistake(kind: str, laptop: Path) -> None:
    old, new, problem, advice = CASES[kind]
    assert VALID.count(old) == 1, "the case must change exactly one place"
    private(laptop / "spaced", "has spaces")
    (laptop / "open").write_text("open")
    (laptop / "open").chmod(0o640)
    (laptop / "pointer.gguf").write_text("version https://git-lfs")
    with (laptop / "big.gguf").open("wb") as big:
        big.write(b"GGUF")
        big.truncate(400 << 20)
    line, column, text = place_and_text(VALID.replace(old, new))
    (laptop / "prod.yml").write_text(text)
    folders = {"{folder}": str(laptop), "{home}": str(laptop.parent / "home")}
    for name, folder in folders.items():
        problem, advice = problem.replace(name, folder), advice.replace(name, folder)

    with pytest.raises(InventoryError) as raised:
        load(Path("prod.yml"), more=RULES)

    assert [str(mistake) for mistake in raised.value.mistakes] == [
        f"prod.yml:{line}:{column}: {problem}; {advice}"
    ]


def place_and_text(marked: str) -> tuple[int, int, str]:
    before = marked.partition("‸")[0]
    return before.count("\n") + 1, len(before) - before.rfind("\n"), marked.replace("‸", "")


def test_there_are_many_kinds() -> None:
    assert len(CASES) >= 20
    assert len({case[2:] for case in CASES.values()}) > 0.9 * len(CASES)


def test_all_at_once_in_file_order(laptop: Path) -> None:
    (laptop / "prod.yml").write_text(
        "project: Team\n"
        "hosts:\n"
        "  bot1:\n"
        "    adress: 192.0.2.11\n"
        "    port: 0\n"
        "  bot2:\n"
        "    address: -x\n"
        "    roles: [runtime, gateway]\n"
        "base: {time_zone: Mars}\n"
        "models:\n"
        "  default: {engine: llama-cpp, path: m.gguf, url: 'https://x/m.gguf'}\n"
        "channels:\n"
        "  console: {jwt_secret: plain}\n"
        "bot: {port: 8080, memory_max: 1T}\n"
    )
    with pytest.raises(InventoryError) as raised:
        load(Path("prod.yml"))
    found = [(mistake.line, mistake.column) for mistake in raised.value.mistakes]
    assert found == [
        (1, 10),  # project
        (3, 3),  # address missing
        (4, 5),  # adress
        (5, 11),  # port
        (7, 14),  # address
        (8, 22),  # gateway
        (9, 19),  # Mars
        (11, 51),  # url without sha256
        (13, 25),  # plain-text secret
        (14, 31),  # memory_max
    ]


def test_a_mistake_does_not_cause_others(laptop: Path) -> None:
    """Roles that cannot be read say nothing about whether a runtime host is there."""
    (laptop / "prod.yml").write_text(VALID.replace("[runtime, nginx]", "[runtme, ngnix]"))
    with pytest.raises(InventoryError) as raised:
        load(Path("prod.yml"))
    assert [mistake.advice for mistake in raised.value.mistakes] == [
        "did you mean `runtime`?",
        "did you mean `nginx`?",
    ]


def test_a_mistake_does_not_hide_others(laptop: Path) -> None:
    """What is beside a mistake is still compared with the rest."""
    (laptop / "prod.yml").write_text(VALID + "bot: {port: 443, memory_max: 1T}\n")
    with pytest.raises(InventoryError) as raised:
        load(Path("prod.yml"))
    assert [(mistake.line, mistake.column) for mistake in raised.value.mistakes] == [(26, 13), (26, 30)]


@pytest.mark.parametrize(
    ("channel", "place", "advice"),
    [
        (
            "  telegram: {token: !env TELEGRAM_TOKEN, secret_token: !file secret-token}\n",
            (3, 3),
            "add `nginx` to the roles of a host, or write `mode: polling`",
        ),
        (
            "  feishu:\n    app_id: cli_a\n    app_secret: !env HOME\n"
            "    encrypt_key: !env HOME\n    verification_token: !env HOME\n",
            (3, 3),
            "add `nginx` to the roles of a host",
        ),
    ],
)
def test_webhook_needs_nginx(laptop: Path, channel: str, place: tuple[int, int], advice: str) -> None:
    models = "models: {default: {engine: openai-compatible, endpoint: 'https://x/v1'}}\n"
    hosts = "hosts: {a: {address: a.example.com, roles: [runtime]}}\n"
    (laptop / "prod.yml").write_text(f"{models}channels:\n{channel}{hosts}")
    with pytest.raises(InventoryError) as raised:
        load(Path("prod.yml"))
    (mistake,) = raised.value.mistakes
    assert (mistake.line, mistake.column, mistake.advice) == (*place, advice)


def test_polling_by_two(laptop: Path) -> None:
    text = VALID.replace("    secret_token: !file secret-token\n", "    mode: polling\n")
    (laptop / "prod.yml").write_text(text.replace("base:\n", "  bot2: {address: 192.0.2.12}\nbase:\n"))
    with pytest.raises(InventoryError) as raised:
        load(Path("prod.yml"))
    (mistake,) = raised.value.mistakes
    assert (mistake.line, mistake.column) == (19, 11)
    assert mistake.problem == "2 runtime hosts would poll Telegram, which answers one of them only"


def test_webhook_needs_a_bot_beside_nginx_whose_certificate_is_self_signed(laptop: Path) -> None:
    """Its bot uploads the certificate, which Telegram cannot know otherwise."""
    apart = VALID.replace(ROLES, "    roles: [runtime]\n  web1: {address: 192.0.2.12, roles: [nginx]}\n")
    (laptop / "prod.yml").write_text(apart)
    load(Path("prod.yml"))
    apart += "tls: {mode: self-signed}\n"
    (laptop / "prod.yml").write_text(apart)
    with pytest.raises(InventoryError) as raised:
        load(Path("prod.yml"))
    (mistake,) = raised.value.mistakes
    assert mistake.line == apart.count("\n")
    assert mistake.advice == "write `tls.mode: own-ca` or `acme`, or give one host both roles"


def test_every_pattern_of_the_model_has_words() -> None:
    written = re.findall(r'"pattern": ("(?:[^"\\]|\\.)*")', schema_of(Inventory))
    patterns = {json.loads(pattern) for pattern in written}
    assert patterns
    assert patterns == set(PATTERN_WORDS)


def schema_of(model: type[BaseModel]) -> str:
    return json.dumps(model.model_json_schema(), ensure_ascii=False)

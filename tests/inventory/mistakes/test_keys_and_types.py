"""Keys and values against the model, whichever section they stand in."""

from __future__ import annotations

from tests.inventory.conftest import VALID
from tests.inventory.mistakes.case import ROLES, Cases, reported

CASES: Cases = {
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
        "use one of: time_zone, packages, upgrade, mirrors, operators, journal_max, ssh_port",
    ),
    "missing key": (
        "  bot1:\n    address: 192.0.2.11\n",
        "  ‸bot1:\n",
        "`hosts.bot1` lacks `address`",
        "add `address:` (Host name or IP address for SSH, or a `Host` entry of ~/.ssh/config)",
    ),
    "missing section": (
        VALID,
        "‸" + VALID[: VALID.index("models:")] + VALID[VALID.index("channels:") :],
        "the inventory lacks `models`",
        "add `models:` (Language models that answer)",
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
        '`hosts.bot1.port` is the string "22", the wrong type',
        "write a whole number from 1 to 65535, without quotes",
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
    "more than a login, which ssh would read as an option": (
        "    roles:",
        "    user: ‸-oProxyCommand=x\n    roles:",
        "`hosts.bot1.user` is `-oProxyCommand=x`, which is malformed",
        "write a login of letters, digits, `.`, `_`, `@` and `-`, at most 64",
    ),
    "password in an address, which is not shown": (
        "models:",
        "docker: {enabled: true, proxy: ‸'http://u:pAsSw0rd@proxy:3128'}\nmodels:",
        "this address contains a login",
        "remove the part before `@`; secrets have fields of their own",
    ),
    "password in the address of Docker's repository": (
        "models:",
        "docker: {enabled: true, source: docker, key: key.asc, repository: ‸'https://u:pAsSw0rd@m.example'}\nmodels:",
        "this address contains a login",
        "remove the part before `@`; secrets have fields of their own",
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
        "`hosts.bot1.roles` is a string, the wrong type",
        "write a list: `[…]`, or one `- ` line for each item",
    ),
    "text for true or false": (
        ROLES,
        ROLES + "    internet: ‸ja\n",
        '`hosts.bot1.internet` is the string "ja", the wrong type',
        "write true or false",
    ),
    "empty section": (
        "base:\n  time_zone: Asia/Shanghai\n",
        "‸base:\n",
        "`base` is empty",
        "write a mapping below it, or leave the key out",
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
    "true for the number of a kernel setting": (
        "base:\n",
        "hardening: {sysctl: {vm.overcommit_memory: ‸true}}\nbase:\n",
        "`hardening.sysctl.vm.overcommit_memory` is `true`, the wrong type",
        "write 1 or 0",
    ),
    "number in quotes that is too large, too": (
        ROLES,
        ROLES + '    port: ‸"70000"\n',
        '`hosts.bot1.port` is the string "70000", the wrong type',
        "write a whole number from 1 to 65535, without quotes",
    ),
    "true in quotes": (
        ROLES,
        ROLES + '    internet: ‸"true"\n',
        '`hosts.bot1.internet` is the string "true", the wrong type',
        "write true or false, without quotes",
    ),
    "number of more digits than fit": (
        ROLES,
        ROLES + "    port: ‸123456789012345678901234567890\n",
        "this number is too large",
        "write a smaller one, or quote it as a string",
    ),
    "network with a scope": (
        "base:\n",
        "firewall:\n  management: [‸'fe80::%eth0/64']\nbase:\n",
        "`firewall.management[0]` is `fe80::%eth0/64`, which is not a network",
        "write fe80::/64",
    ),
    "line break in what is reached without a proxy": (
        "base:\n",
        'docker: {no_proxy: [a.internal, ‸"b\\nHTTP_PROXY=http://evil.example"]}\nbase:\n',
        "`b HTTP_PROXY=http://evil.example` contains the control character U+000A",
        "write it on one line",
    ),
    "mirror with a query, which dockerd refuses": (
        "base:\n",
        "docker: {registry_mirrors: [‸'https://mirror.example.com?ns=docker.io']}\nbase:\n",
        "`https://mirror.example.com?ns=docker.io` has a query, which is not allowed here",
        "write it like https://mirror.example.com",
    ),
    "no network at all": (
        "base:\n",
        "firewall:\n  open:\n    - port: 9000\n      from: [‸office]\nbase:\n",
        "`firewall.open[0].from[0]` is `office`, which is not a network",
        "write an address or a network such as 10.0.0.0/8 or 2001:db8::/32",
    ),
}

test_mistake = reported(CASES)

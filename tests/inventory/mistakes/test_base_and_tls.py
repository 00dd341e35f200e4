"""`base` and `tls`."""

from __future__ import annotations

from tests.inventory.conftest import ED25519
from tests.inventory.mistakes.case import Cases, reported

CASES: Cases = {
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
        "1M is too little memory for journald",
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
    "operator with the name of a component's user": (
        "  time_zone",
        f"  operators: [{{name: ‸postgres, keys: [{ED25519}]}}]\n  time_zone",
        "the login postgres belongs to the system",
        "choose another name",
    ),
    "project too long for the name of an authority": (
        "project: team",
        f"project: ‸{'a' * 41}",
        f"`project` is `{'a' * 39}…`, which is malformed",
        "write lower-case letters, digits and hyphens, at most 40",
    ),
    "bad certificate name": (
        "base:\n",
        "tls:\n  names: [bot.example.com, ‸bot_1.example.com]\nbase:\n",
        "`bot_1.example.com` is not a name for a certificate",
        "write its IP address, or a host name without `_`",
    ),
}

test_mistake = reported(CASES)

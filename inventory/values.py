"""Checks of single values: texts, sizes, time zones, packages, paths and keys. For addresses see `addresses`.

Each check returns what is wrong with a value and a hint, or `None`. `Checked` makes a check part of a type;
the types of inventories and settings of components are in `inventory.types`.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from inventory.wording import edges, nearest, shown

ValueProblem = tuple[str, str] | None
"""What is wrong with a value, and a hint; `None` when it is right."""

ValueCheck = Callable[[str], ValueProblem]

SSH_KEY_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
LEAST_RSA_BITS = 2048
SYSTEM_FOLDERS = (
    *(
        "bin",
        "boot",
        "dev",
        "etc",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "proc",
        "root",
        "run",
        "sbin",
        "sys",
        "tmp",
    ),
    "usr",
)
"""Top-level folders of a host that belong to the system."""
SYSTEM_FOLDERS_OF_VAR = (
    *("account", "cache", "crash", "games", "lib", "lock", "log", "mail", "run", "spool", "tmp", "yp"),
)
"""Folders below /var that belong to the system (FHS 3.0, section 5)."""
OTHERS_FOLDERS = ("/opt/clawd", "/snap")
"""Folders of this program's releases, and of snapd."""
SHARED_FOLDERS = ("/home", "/media", "/mnt", "/opt", "/srv", "/var", "/var/lib", "/var/log")

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*[a-z0-9+]")
_PATH = re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9._-]*)+")
_DEVICE = re.compile(r"/dev(/[A-Za-z0-9_][A-Za-z0-9._:+@=-]*)+")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_SYSCTL = re.compile(r"[a-z0-9_]+(\.[A-Za-z0-9_/-]+)+")
_DIGITS = re.compile(r"-?[0-9]+")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
NO_ZONES = ("Factory", "localtime", "posixrules")
"""Files among the zones of a host that are not zones; /etc/localtime must not link to itself."""
_OTHER_CLOCKS = ("posix/", "right/")
# Invisible characters that change the order or the appearance of a text.
_UNSEEN = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A)), "\u200b", "\u2060", "\ufeff"}


@dataclass(frozen=True, slots=True)
class Checked:
    """A check as part of a type: `Annotated[str, Checked(check_time_zone)]`.

    Validation fails with the error type `checked`, whose context has `problem` and `advice`.
    """

    check: ValueCheck

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, text: str) -> str:
        if (verdict := self.check(text)) is not None:
            problem, advice = edges(text) or verdict
            raise PydanticCustomError(
                "checked", "{problem}: {advice}", {"problem": problem, "advice": advice}
            )
        return text


MIB = 1 << 20
GIB = 1 << 30


def size_in_bytes(size: str) -> int:
    """Return the bytes of a size such as `400M`; K, M and G are powers of 1024, as in systemd."""
    return int(size[:-1]) * _UNITS[size[-1]]


def check_line(text: str) -> ValueProblem:
    """Check a text that becomes a line, or a part of one, in a file on a host."""
    if not text.strip():
        return "this text is empty", "write a text, or leave the key out"
    if (verdict := edges(text)) is not None:
        return verdict
    if (letter := _control(text)) is not None:
        return f"{shown(text)} contains the control character U+{ord(letter):04X}", "write it on one line"
    return None


def check_registry_user(text: str) -> ValueProblem:
    """Check a login at a registry; it is sent in front of a colon (RFC 7617)."""
    if (verdict := check_line(text)) is not None:
        return verdict
    return (f"{shown(text)} contains a colon", "write the name alone") if ":" in text else None


def check_text(text: str) -> ValueProblem:
    """Check a text for people, of any number of lines."""
    if (letter := _control(text, but="\n\t")) is not None:
        return f"this text contains the control character U+{ord(letter):04X}", "write plain text"
    return None


def _control(text: str, but: str = "") -> str | None:
    """Return the first invisible character, except those in `but`."""
    for letter in text:
        if letter in but:
            continue
        unseen = letter in _UNSEEN and not but
        if unseen or unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp"):
            return letter
    return None


def check_time_zone(text: str) -> ValueProblem:
    """Check an IANA zone name.

    On a machine without zone data only the form is checked; each host is queried when the plan is made.
    """
    zones = _zones()
    if text in NO_ZONES or text.startswith(_OTHER_CLOCKS):
        return (
            f"{shown(text)} cannot be the time zone of a host",
            "write the name of the zone, such as Asia/Shanghai or Etc/UTC",
        )
    if _ZONE.fullmatch(text) and len(text) <= 255 and (not zones or text in zones):
        return None
    advice = nearest(text, sorted(zones))
    if not advice.startswith("did"):
        advice = "write an IANA name such as Asia/Shanghai or Etc/UTC"
    return f"there is no time zone {shown(text)}", advice


def check_package(text: str) -> ValueProblem:
    """Check the name of a Debian package (Debian Policy, section 5.6.1).

    A `-` at the end is refused: apt would remove the package.
    """
    if _PACKAGE.fullmatch(text) and len(text) <= 128:
        return None
    return (
        f"{shown(text)} is not the name of a Debian package",
        "write the name alone, as `apt-get install` takes it",
    )


def check_folder(text: str) -> ValueProblem:
    """Check a folder of a host that only one component uses."""
    if not _PATH.fullmatch(text) or len(text) > 200:
        return (
            f"{shown(text)} is not the path of a folder on a host",
            "write an absolute path of letters, digits, `.`, `_` and `-`, such as /srv/clawd",
        )
    if text in SHARED_FOLDERS or _of_the_system(text):
        return f"{text} belongs to the system", "choose a folder that nothing else uses, such as /srv/clawd"
    return None


def check_docker_folder(text: str) -> ValueProblem:
    """Check a folder for Docker's images and volumes: one that nothing else uses, or /var/lib/docker."""
    return None if re.fullmatch(r"/var/lib/docker(/[A-Za-z0-9_-]+)*", text) else check_folder(text)


def _of_the_system(folder: str) -> bool:
    first, *below = folder.split("/")[1:]
    if first == "var" and below:
        return below[0] in SYSTEM_FOLDERS_OF_VAR
    return first in SYSTEM_FOLDERS or f"{folder}/".startswith(tuple(f"{other}/" for other in OTHERS_FOLDERS))


def check_device(text: str) -> ValueProblem:
    """Check the path of a whole disk, or `auto`."""
    if text == "auto" or (_DEVICE.fullmatch(text) and len(text) <= 200):
        return None
    return (
        f"{shown(text)} is not the path of a disk",
        "write `auto`, or a path such as /dev/disk/by-id/… as `ls -l /dev/disk/by-id` shows it",
    )


def check_file_name(text: str) -> ValueProblem:
    """Check the name of a file that becomes part of names and settings on hosts."""
    if _FILE_NAME.fullmatch(text) and len(text) <= 150:
        return None
    return (
        f"the file name {shown(text)} contains other characters than letters, digits, `.`, `_`, `+` and `-`",
        "rename the file",
    )


def check_sysctl_key(text: str) -> ValueProblem:
    """Check the name of a kernel setting (sysctl.d(5)); `/` is a dot within a part, as in eth0/100."""
    if _SYSCTL.fullmatch(text) and not re.search(r"//|/$|/\.|\./", text) and len(text) <= 200:
        return None
    return (
        f"{shown(text)} is not the name of a kernel setting",
        "write it as `sysctl -a` prints it: net.ipv4.ip_forward",
    )


def check_sysctl_value(text: str) -> ValueProblem:
    """Check the value of a kernel setting: numbers or words on one line."""
    if (verdict := check_line(text)) is not None:
        return verdict
    if not text.isascii():
        return f"{shown(text)} is not a value of a kernel setting", "write numbers or ASCII words"
    if text.lower() in ("true", "false", "yes", "no"):
        return f"{shown(text)} is not a value of a kernel setting", "write 1 or 0"
    words = text.split()
    advices = [_as_a_number(word) for word in words]
    # In a text such as kernel.core_pattern a word is no number for the kernel.
    if all(advice or _DIGITS.fullmatch(word) for word, advice in zip(words, advices, strict=True)):
        for word, advice in zip(words, advices, strict=True):
            if advice is not None:
                return f"{shown(word)} is not a value of a kernel setting", advice
    return None


def _as_a_number(word: str) -> str | None:
    """Return how to write a number that the kernel refuses or displays differently; else `None`.

    The kernel reads 010 as eight and 0x10 as sixteen (`proc_dointvec`, `kstrtoul` with base 0).
    """
    if re.fullmatch(r"-?0[0-7]+", word):
        return f"write {int(word, 8)}, as the kernel reads it, or the number without leading zeros"
    if re.fullmatch(r"-?0[0-9]+", word):
        return "write the number without leading zeros"
    if re.fullmatch(r"-?0[xX][0-9A-Fa-f]+", word):
        return f"write {int(word, 16)}"
    if re.fullmatch(r"\+[0-9]+|-?[0-9]+(_[0-9]+)+|-?[0-9]+[.][0-9]+|[0-9]+[KkMmGgTt]i?[Bb]?", word):
        return "write a whole number with digits only"
    return None


def check_public_key(text: str) -> ValueProblem:
    """Check an SSH public key as `ssh-keygen` prints it (RFC 4253, section 6.6).

    The key is never shown.
    """
    if "PRIVATE KEY" in text:
        return "this is a private key", "replace this key pair, and write the line of the .pub file here"
    if "\n" in text.strip():
        return "this is more than one line", "write one public key in each item"
    if _control(text.strip()) is not None:
        return (
            "this SSH public key contains control characters",
            "copy the whole line of the .pub file again",
        )
    kind, _, rest = text.strip().partition(" ")
    if kind not in SSH_KEY_TYPES:
        return (
            "this is not an SSH public key",
            f"write the whole line of a .pub file: `{SSH_KEY_TYPES[0]} AAAA…`",
        )
    encoded = rest.strip().split(" ")[0]
    try:
        fields = list(_fields(base64.b64decode(encoded, validate=True)))
    except (binascii.Error, ValueError):
        fields = []
    if len(fields) < 2 or fields[0] != kind.encode() or not _has_the_size(kind, fields[1:]):
        return "this SSH public key is damaged", "copy the whole line of the .pub file again"
    if kind == "ssh-rsa" and int.from_bytes(fields[2], "big").bit_length() < LEAST_RSA_BITS:
        return (
            f"this RSA key has fewer than {LEAST_RSA_BITS} bits: sshd does not accept it",
            "create another with `ssh-keygen -t ed25519`",
        )
    return None


_POINTS = {"ecdsa-sha2-nistp256": 65, "ecdsa-sha2-nistp384": 97, "ecdsa-sha2-nistp521": 133}
"""Bytes of an uncompressed point (RFC 5656, section 3.1)."""


def _has_the_size(kind: str, fields: list[bytes]) -> bool:
    """Return whether number and lengths of the fields after the key type are those of the type."""
    lengths = [len(field) for field in fields]
    match kind:
        case "ssh-ed25519":
            return lengths == [32]
        case "sk-ssh-ed25519@openssh.com":
            return len(lengths) == 2 and lengths[0] == 32
        case "sk-ecdsa-sha2-nistp256@openssh.com":
            return len(lengths) == 3 and lengths[1] == 65
        case "ssh-rsa":
            return len(lengths) == 2 and min(lengths) > 0
        case _:
            return len(lengths) == 2 and lengths[1] == _POINTS[kind]


def _fields(blob: bytes) -> Iterator[bytes]:
    """Yield the length-prefixed strings of an SSH key. Raises `ValueError` when the last is truncated."""
    while blob:
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + length:
            raise ValueError("truncated")
        yield blob[4 : 4 + length]
        blob = blob[4 + length :]


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones().difference(NO_ZONES))

"""Hints for errors that programs on hosts print: a table, the more specific causes first.

Named groups of a pattern can be used in its hint: `{holder}`, `{source}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

NO_PACKAGE = re.compile(
    r"Unable to locate package (?P<source>\S+)|Package '?(?P<package>[^' ]+)'? has no "
    r"installation candidate"
)
"""Messages of apt-get for a package that no source has."""
_ADVICE: tuple[tuple[str, str], ...] = (
    # Disk space and memory, which cause many other errors.
    (
        r"No space left on device|not enough free space|You don't have enough free space",
        "free disk space on the host (`df -h`, `journalctl --vacuum-size=200M`), then run `up` again",
    ),
    (r"Disk quota exceeded", "raise the disk quota on the host, then run `up` again"),
    (r"Read-only file system", "the host's file system is read-only: check `dmesg` and the disk"),
    (
        (
            r"oom-kill|Out of memory|Cannot allocate memory|[Vv]irtual memory exhausted"
            r"|Killed signal terminated program|status=9/KILL.*oom|cc1plus: out of memory"
        ),
        (
            "the host ran out of memory: compare with `clawd-provision inventory check`, add memory or swap, "
            "then run `up` again"
        ),
    ),
    # Registries of images.
    (
        (
            r"the registry does not (?:take|give) (?P<source>\S+):"
            r"(?s:.*)(?:unauthorized|denied|authentication required|no basic auth credentials)"
        ),
        "the registry refused the login{at}: check `docker.registry_login` and its permissions",
    ),
    (
        r"the registry does not (?:take|give) (?P<source>\S+):(?s:.*)x509:",
        "the host does not trust the registry's certificate{at}: check `docker.registry_authority`",
    ),
    (
        r"the registry does not (?:take|give) (?P<source>\S+):",
        "check that the registry runs and that the host can reach it{at}, then run `up` again",
    ),
    # Packages.
    (
        r"Could not get lock (?P<lock>\S+?)\.? It is held by process (?P<holder>\d+ \([^)]*\))",
        (
            "process {holder} on the host holds the package lock: wait until it ends (`ps -p {pid}`), then "
            "run `up` again"
        ),
    ),
    (
        r"Could not get lock|dpkg frontend lock|is another process using it|Unable to lock",
        "another package manager is running on the host: wait until it ends, then run `up` again",
    ),
    (r"dpkg was interrupted", "run `sudo dpkg --configure -a` on the host, then `up` again"),
    (
        r"not valid yet|certificate is not yet valid|invalid for another|Not live until \d",
        "the host's clock is slow: check `timedatectl` and set the clock, then run `up` again",
    ),
    (
        r"Release file for (?P<source>\S+) is expired|certificate has expired",
        "the package source is out of date or the host's clock is fast: check `timedatectl`, then the mirror",
    ),
    (
        r"(NO_PUBKEY|EXPKEYSIG|KEYEXPIRED|signatures couldn't be verified|is not signed|BADSIG)",
        (
            "a package source is not signed by a key that the host trusts: check the mirror and its key "
            "before you install from it"
        ),
    ),
    (
        (
            r"repository '(?P<source>[^']+)' (does not have|no longer has) a Release file"
            r"|404 +Not Found"
        ),
        "the package source does not have this release{at}: check /etc/apt and the declared mirror",
    ),
    (
        r"Hash Sum mismatch|File has unexpected size|Mirror sync in progress",
        "the package mirror is being updated, or a cache is stale: run `up` again in a few minutes",
    ),
    (
        (
            r"Temporary failure resolving|Could not resolve|Could not connect to|Connection timed out"
            r"|Connection refused.*apt|Failed to fetch|Unable to fetch|Unable to connect to"
        ),
        "the host cannot reach its package mirror: check its network, or set `internet: false`",
    ),
    (
        r"Bad return status for module build on kernel: (?P<kernel>\S+)[\s\S]*?Consult (?P<log>\S+)",
        (
            "the driver does not compile for kernel {kernel}: run `grep error: {log}` on the host; declare a "
            "newer `nvidia.branch`, or boot another kernel"
        ),
    ),
    (
        r"Unable to locate package linux-headers-(?P<kernel>\d\S*)",
        (
            "the host's package sources have no headers for its kernel {kernel}: install the kernel of the "
            "release (`linux-image-amd64` on Debian), reboot, then run `up` again"
        ),
    ),
    (
        NO_PACKAGE.pattern,
        (
            "the host's package sources do not have this package{at}: check the name, and that /etc/apt "
            "lists the whole release"
        ),
    ),
    (
        r"held broken packages|unmet dependencies|have been kept back",
        "packages on the host conflict: run `sudo apt-get -f install`, then run `up` again",
    ),
    # Services.
    (
        r"[Aa]ddress already in use|bind\(\) to \S+ failed",
        (
            "another program listens on that port: find it with `sudo ss -ltnp` and stop it, or choose "
            "another port"
        ),
    ),
    (
        r"(?P<unit>\S+\.\w+): (does not start|fails after its start|is not ready after|does not reload)",
        (
            "read `journalctl --namespace='*' -u {unit}` on the host, correct the declaration, then run `up` "
            "again"
        ),
    ),
    (
        r"is masked",
        "this unit is masked on the host: run `sudo systemctl unmask` for it, or do not declare it",
    ),
    # Logins.
    (
        r"sudo: a password is required|incorrect password attempt",
        "write `sudo_password: !env NAME` under the host, or give the login sudo without a password",
    ),
    (r"sudo: .*not allowed|is not in the sudoers file", "give the login sudo for all commands on the host"),
)


def advice_for(output: Iterable[str]) -> str:
    """Return a hint for the first known cause in `output`; empty when none is known."""
    text = "\n".join(output)
    for pattern, advice in _ADVICE:
        found = re.search(pattern, text)
        if found:
            return advice.format(**_parts(found))
    return ""


def _parts(found: re.Match[str]) -> dict[str, str]:
    named = {key: value or "" for key, value in found.groupdict().items()}
    source = named.get("source") or named.get("package") or ""
    holder = named.get("holder", "")
    return {**named, "at": f" ({source.strip()})" if source else "", "pid": holder.partition(" ")[0]}

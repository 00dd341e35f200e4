"""Every known cause has its hint, found in the real output of programs."""

from __future__ import annotations

import pytest

from provision.connection.error_hints import advice_for
from provision.plan import HostResult, OperationFailure, Status

# What was printed, and a part of the advice. Lines are those of apt, dpkg, gcc, systemd and our own scripts.
CASES: dict[str, tuple[str, str]] = {
    "lock with its holder": (
        (
            "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1234 "
            "(unattended-upgr)\nE: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), "
            "is another process using it?"
        ),
        (
            "process 1234 (unattended-upgr) on the host holds the package lock: wait until it ends "
            "(`ps -p 1234`)"
        ),
    ),
    "lock": (
        "E: Could not get lock /var/lib/apt/lists/lock - open (11)",
        "another package manager is running",
    ),
    "interrupted": (
        "E: dpkg was interrupted, you must manually run 'sudo dpkg --configure -a'",
        "--configure -a",
    ),
    "no space": (
        "dpkg: error processing archive x.deb (--unpack):\n cannot copy: No space left on device",
        "free disk space",
    ),
    "no space foreseen": (
        "E: You don't have enough free space in /var/cache/apt/archives/.",
        "free disk space",
    ),
    "unreachable": (
        (
            "W: Failed to fetch http://mirror.example/dists/x/InRelease  Temporary failure resolving "
            "'mirror.example'"
        ),
        "cannot reach its package mirror",
    ),
    "refused": (
        (
            "E: Failed to fetch http://192.0.2.1/x  Could not connect to 192.0.2.1:80 (192.0.2.1). - "
            "connect (111)"
        ),
        "cannot reach its package mirror",
    ),
    "driver and kernel do not fit": (
        (
            "Error! Bad return status for module build on kernel: 6.12.118+deb13-amd64 (x86_64)\n"
            "Consult /var/lib/dkms/nvidia-current-open/550.163.01/build/make.log for more information.\n"
            "dpkg: error processing package nvidia-open-kernel-dkms (--configure):"
        ),
        (
            "does not compile for kernel 6.12.118+deb13-amd64: "
            "run `grep error: /var/lib/dkms/nvidia-current-open/550.163.01/build/make.log` on the host"
        ),
    ),
    "no headers": (
        "E: Unable to locate package linux-headers-6.1.0-21-amd64",
        "no headers for its kernel 6.1.0-21-amd64",
    ),
    "signed later than the host's clock says it is": (
        (
            "W: OpenPGP signature verification failed: http://m.example trixie InRelease: Sub-process "
            "/usr/bin/sqv returned an error code (1), error message is: Verifying signature:            "
            "Not live until 2026-11-21T08:46:20Z\n"
            "E: The repository 'http://m.example trixie InRelease' is not signed."
        ),
        "the host's clock is slow",
    ),
    "unsigned": ("E: The repository 'http://m.example x InRelease' is not signed.", "not signed by a key"),
    "unknown key": (
        (
            "W: GPG error: http://m.example x InRelease: The following signatures couldn't be verified "
            "because the "
            "public key is not available: NO_PUBKEY 0123456789ABCDEF"
        ),
        "not signed by a key",
    ),
    "no release": (
        "E: The repository 'http://m.example/debian nosuch Release' does not have a Release file.",
        "does not have this release (http://m.example/debian nosuch Release)",
    ),
    "not found": (
        "E: Failed to fetch http://m.example/x.deb  404  Not Found [IP: 192.0.2.1 80]",
        "does not have this release:",
    ),
    "clock behind": (
        "E: Release file for http://m.example/InRelease is not valid yet (invalid for another 3h 2min 1s).",
        "clock is slow",
    ),
    "clock ahead": (
        "E: Release file for http://m.example/InRelease is expired (invalid since 3d 1h).",
        "clock is fast",
    ),
    "mirror in change": (
        "E: Failed to fetch http://m.example/P.xz  Hash Sum mismatch",
        "run `up` again in a few",
    ),
    "no such package": ("E: Unable to locate package nosuch", "do not have this package (nosuch)"),
    "no candidate": (
        "E: Package 'nosuch' has no installation candidate",
        "do not have this package (nosuch)",
    ),
    "dependencies": ("E: Unable to correct problems, you have held broken packages.", "apt-get -f install"),
    "service": (
        (
            "clawd-bot.service: does not start\nNov 22 20:00:00 bot1 systemd[1]: Failed to start "
            "clawd-bot.service"
        ),
        "`journalctl --namespace='*' -u clawd-bot.service`",
    ),
    "service never ready": (
        "nginx.service: is not ready after 30 seconds (active)",
        "-u nginx.service`",
    ),
    "port taken": (
        (
            "nginx.service: does not start\nnginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address "
            "already in use)"
        ),
        "another program listens on that port",
    ),
    "memory at build": ("c++: fatal error: Killed signal terminated program cc1plus", "ran out of memory"),
    "memory of a service": (
        "clawd-engine.service: does not start\nclawd-engine.service: Failed with result 'oom-kill'.",
        "ran out of memory",
    ),
    "registry down": (
        (
            'the registry does not take r.internal/bots/clawd-runtime:1:\nGet "https://r.internal/v2/": dial '
            "tcp 192.0.2.1:443: connect: connection refused"
        ),
        "check that the registry runs and that the host can reach it (r.internal/bots/clawd-runtime:1)",
    ),
    "registry without login": (
        (
            "the registry does not give r.internal/python:3:\nError response from daemon: unauthorized: "
            "authentication required"
        ),
        "`docker.registry_login`",
    ),
    "registry of an unknown authority": (
        "the registry does not take r.internal/x:1:\nx509: certificate signed by unknown authority",
        "`docker.registry_authority`",
    ),
    "sudo": ("sudo: a password is required", "`sudo_password: !env NAME`"),
    "sudo not allowed": ("sudo: user ops is not allowed to execute", "sudo for all commands"),
    "read-only": ("touch: cannot touch '/etc/x': Read-only file system", "read-only"),
}


@pytest.mark.parametrize("case", CASES)
def test_known_error_output_has_a_hint(case: str) -> None:
    printed, says = CASES[case]
    assert says in advice_for(printed.splitlines())


@pytest.mark.parametrize("printed", ["", "Reading package lists...", "E: something {never} seen %s"])
def test_unknown_error_output_has_no_hint(printed: str) -> None:
    assert advice_for([printed]) == ""


def test_failure_names_component_operation_output_and_hint() -> None:
    output = ("E: Unable to locate package nosuch",)
    failure = OperationFailure("base", "Packages nosuch", output, advice_for(output))
    text = str(failure)
    assert HostResult("bot1", Status.FAILED, failure=failure).host == "bot1"
    assert text.splitlines()[0] == "base: Packages nosuch failed"
    assert "    E: Unable to locate package nosuch" in text
    assert text.splitlines()[-1].startswith(
        "hint: the host's package sources do not have this package (nosuch)"
    )

"""Looks for secrets where others could read them; runs on a host as nobody while something is deployed.

Standard input: the secrets, a line each, then an empty line. Ends when a file `stop` appears in /tmp.
Prints a line for each place where one was seen.
"""

import os
import sys
import time

PLACES = (
    "/tmp",
    "/var/tmp",
    "/etc",
    "/var/lib/clawd",
    "/var/lib/clawd-bot",
    "/opt/clawd",
    "/run",
    "/home",
    "/var/log",
)
LARGEST = 1 << 20


def main() -> None:
    """Look as often as possible until stopped."""
    secrets = []
    for line in sys.stdin:
        if not line.strip():
            break
        secrets.append(line.strip().encode())
    print("watching", flush=True)
    seen: set[tuple[str, int]] = set()
    read: dict[str, tuple[int, int]] = {}
    rounds = 0
    while not os.path.exists("/tmp/clawd-watch-stop"):
        rounds += 1
        for place, content in [*processes(), *files(read)]:
            for number, secret in enumerate(secrets):
                if secret in content and (place, number) not in seen:
                    seen.add((place, number))
                    print(f"secret {number} in {place}", flush=True)
        time.sleep(0.005)
    print(f"rounds {rounds}", flush=True)


def processes():
    """The arguments and, where readable, the environment of every process."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        for name in ("cmdline", "environ"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    yield f"/proc/PID/{name}", file.read()
            except OSError:
                pass


def files(read):
    """Every readable file that is new or has changed."""
    for place in PLACES:
        for folder, _, names in os.walk(place):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    status = os.lstat(path)
                    identity = (status.st_ino, status.st_mtime_ns, status.st_size)
                    if read.get(path) == identity or status.st_size > LARGEST or not os.path.isfile(path):
                        continue
                    read[path] = identity
                    with open(path, "rb") as file:
                        yield path, file.read()
                except OSError:
                    pass


if __name__ == "__main__":
    main()

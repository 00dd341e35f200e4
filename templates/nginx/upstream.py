#!/usr/bin/python3
# Written by clawd-provision: changes by hand are undone.
"""Takes a bot out of nginx and puts it back, without a failed request.

    upstream drain ADDRESS:PORT [SECONDS]    nothing new goes there; waits until what runs there has ended
    upstream restore ADDRESS:PORT
    upstream status                          a line `ADDRESS:PORT up|down` for each

Every command can be given again. Exit status: 0 done, also when requests still ran after SECONDS (30);
1 nginx refuses the change, which is undone; 2 no such bot, or wrong arguments; 3 it is the last one.
"""

import fcntl
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

CONFIG = "/etc/nginx/nginx.conf"
UPSTREAMS = Path("/etc/nginx/clawd/upstreams.conf")
PID = Path("/run/nginx.pid")
# The lock, and the digest of the configuration that nginx last loaded: if a run is killed between the change
# and the reload, the next run reloads it.
STATE = Path("/run/clawd-upstream")
NGINX = "/usr/sbin/nginx"

SERVER = re.compile(r"^(?P<head>\s*server\s+(?P<name>\S+?))(?P<rest>(?:\s+[^;\s]+)*);\s*$", re.MULTILINE)
QUIET = 2.0  # seconds without a connection after which no request can be on its way there any more


def main(words):
    """Run the command that the arguments name, and return the exit status."""
    match words:
        case ["status"]:
            for name, up in servers(read()).items():
                print(name, "up" if up else "down")
            return 0
        case ["restore", name]:
            with locked():
                return restore(name)
        case ["drain", name] | ["drain", name, _] if all(word.isdigit() for word in words[2:]):
            with locked():
                return drain(name, float(words[2]) if words[2:] else 30.0)
    print(__doc__, file=sys.stderr)
    return 2


def drain(name, patience):
    """Send nothing new to `name`; give what runs there `patience` seconds."""
    known = servers(read())
    if name not in known:
        return unknown(name, known)
    if not any(up for other, up in known.items() if other != name):
        print(f"{name} is the last one that is up: it is not drained", file=sys.stderr)
        return 3
    if not change(name, up=False):
        return 1
    if wait_until_idle(name, time.monotonic() + patience):
        print(name, "down")
    else:
        print(name, "down, with requests that still run there")
    return 0


def restore(name):
    """Send requests to `name` again."""
    known = servers(read())
    if name not in known:
        return unknown(name, known)
    if not change(name, up=True):
        return 1
    print(name, "up")
    return 0


def unknown(name, known):
    """Print a message to standard error."""
    print(f"nginx passes nothing to {name}, only to: {' '.join(known)}", file=sys.stderr)
    return 2


def servers(text):
    """Return every server in the file's order, and whether it is up."""
    return {found["name"]: "down" not in found["rest"].split() for found in SERVER.finditer(text)}


def marked(text, name, up):
    """Return the file with every line of the server `name` marked as `up`, or not."""

    def line(found):
        if found["name"] != name:
            return found[0]
        rest = [word for word in found["rest"].split() if word != "down"]
        return found["head"] + "".join(f" {word}" for word in (*rest, *(() if up else ("down",)))) + ";"

    return SERVER.sub(line, text)


def change(name, up):
    """Mark the server and have nginx load the file. Where it does not, put the old file back."""
    old = read()
    new = marked(old, name, up)
    if new != old:
        remember(old)
        write(new)
    elif loaded() in (None, digest(new)):
        return True
    if not running() or reload():
        remember(new)
        return True
    if new != old:
        write(old)
    return False


def reload():
    """Return whether nginx took its configuration: new workers serve, and the old ones take nothing more."""
    tested = subprocess.run([NGINX, "-t", "-q", "-c", CONFIG], capture_output=True, text=True)
    if tested.returncode != 0:
        print(tested.stderr.strip(), file=sys.stderr)
        return False
    before = workers()
    os.kill(master(), signal.SIGHUP)
    deadline = time.monotonic() + 10
    while not (serving := workers(serving=True)) or serving & before:
        if time.monotonic() > deadline:
            print("nginx does not load its configuration: see /var/log/nginx/error.log", file=sys.stderr)
            return False
        time.sleep(0.05)
    return True


def wait_until_idle(name, deadline):
    """Return whether, before `deadline`, the old workers ended or held no connection to `name` for long."""
    quiet_since = None
    while workers() - workers(serving=True):
        now = time.monotonic()
        quiet_since = None if connected(name) else quiet_since or now
        if quiet_since is not None and now - quiet_since >= QUIET:
            return True
        if now > deadline:
            return False
        time.sleep(0.1)
    return True


def connected(name):
    """Return whether a connection of this host to `ADDRESS:PORT` is open."""
    address, _, port = name.rpartition(":")
    try:
        found = socket.getaddrinfo(address.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError:
        return True
    wanted = {(socket.inet_pton(family, place[0]), place[1]) for family, _, _, _, place in found}
    return any(remote in wanted for remote in established())


def established():
    """Return the other ends of all open connections: packed address and port."""
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            _, _, remote, state, *_ = line.split()
            if state == "01":
                address, port = remote.split(":")
                words = (address[i : i + 8] for i in range(0, len(address), 8))
                packed = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
                yield packed, int(port, 16)


def running():
    """Return whether nginx runs."""
    try:
        os.kill(master(), 0)
    except (OSError, ValueError):
        return False
    return True


def master():
    """Return the process of nginx's master."""
    return int(PID.read_text())


def workers(serving=False):
    """Return the processes of nginx's workers; with `serving`, only those that take new requests."""
    try:
        parent = master()
    except (OSError, ValueError):
        return set()
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            # The name before it may contain spaces and brackets.
            state, ppid = (process / "stat").read_text().rpartition(")")[2].split()[:2]
            title = (process / "cmdline").read_bytes()
        except OSError:
            continue
        ours = int(ppid) == parent and state != "Z" and title.startswith(b"nginx: worker process")
        if ours and not (serving and b"shutting down" in title):
            found.add(int(process.name))
    return found


def read():
    """Return the content of the file."""
    return UPSTREAMS.read_text()


def write(text):
    """Replace the file in one step."""
    descriptor, temporary = tempfile.mkstemp(prefix=".clawd-", dir=UPSTREAMS.parent)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
    Path(temporary).replace(UPSTREAMS)


def digest(text):
    """Return the digest of a content."""
    return hashlib.sha256(text.encode()).hexdigest()


def loaded():
    """Return the digest of the file that this program last had nginx load."""
    file = STATE / "loaded"
    return file.read_text() if file.exists() else None


def remember(text):
    """Record that nginx has loaded this."""
    (STATE / "loaded").write_text(digest(text))


@contextmanager
def locked():
    """Hold the lock: one run at a time."""
    STATE.mkdir(exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

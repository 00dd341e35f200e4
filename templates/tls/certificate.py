#!/usr/bin/python3
# Written by clawd-provision: changes by hand are undone.
"""The certificate of this host: obtained from an ACME server (RFC 8555), renewed, its end told to metrics.

    certificate renew      obtain a new one when it is time, and tell (what the timer does)
    certificate obtain     obtain a new one now
    certificate tell       only tell

A new one is looked at before it goes live, and goes live in one step; nginx is reloaded. When anything fails,
the old one goes on serving, and the exit status is 1. What is declared stands in /etc/clawd/acme/config.json.
"""

import fcntl
import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

CONFIG = Path("/etc/clawd/acme/config.json")
ENVIRONMENT = Path("/etc/clawd/acme/environment.json")
CURRENT = Path("/etc/clawd/tls")
SERIALS = Path("/etc/clawd/tls.d")
LEGO = Path("/var/lib/clawd/lego")
STAMP = Path("/var/lib/clawd/state/nginx.service.stamp")
METRICS = Path("/var/lib/clawd/node-exporter/clawd_tls.prom")

PATIENCE = 300  # seconds for one attempt; a DNS record may take minutes to be seen
LONGEST_PAUSE = 6 * 3600  # seconds after an attempt that failed; authorities count them


class Problem(Exception):
    """An obstacle that keeps a new certificate from going live."""


def main(words):
    """Run the command that the arguments name, and return the exit status."""
    if words not in (["renew"], ["obtain"], ["tell"]):
        print(__doc__, file=sys.stderr)
        return 2
    config = json.loads(CONFIG.read_text())
    status = 0
    with locked():
        try:
            if words == ["obtain"] or (words == ["renew"] and is_time(config, time.time())):
                attempt(config)
        except (Problem, OSError, subprocess.SubprocessError) as error:
            print(f"no new certificate: {error}", file=sys.stderr)
            status = 1
        tell()
    return status


def is_time(config, now):
    """Return whether less than the declared part of the lifetime is left, and no attempt was made lately."""
    if config["mode"] != "acme":
        return False
    if not (CURRENT / "fullchain.pem").exists():
        return True
    begin, end = lifetime(CURRENT / "fullchain.pem")
    left = end - now
    pause = max(60.0, min(LONGEST_PAUSE, left / 8))
    failed = LEGO / "failed"
    rested = not failed.exists() or now - failed.stat().st_mtime >= pause
    return left < config["renew_fraction"] * (end - begin) and rested


def attempt(config):
    """Get a new certificate, or record that this failed."""
    LEGO.mkdir(mode=0o700, parents=True, exist_ok=True)
    failed = LEGO / "failed"
    failed.touch()
    obtained = LEGO / "certificates"
    shutil.rmtree(obtained, ignore_errors=True)
    try:
        chain, key = obtain(config, obtained)
        check(config, chain, key)
        install(config, chain, key)
    finally:
        shutil.rmtree(obtained, ignore_errors=True)
    failed.unlink()


def obtain(config, folder):
    """Return chain and key, as lego leaves them."""
    done = subprocess.run(
        ["/usr/bin/lego", *arguments(config), "run"],
        env=environment(config),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        raise Problem(f"{config['server']} did not issue one:\n" + "\n".join(lines[-8:]))
    (chain,) = (path for path in folder.glob("*.crt") if not path.name.endswith(".issuer.crt"))
    return chain, chain.with_suffix(".key")


def arguments(config):
    """Return the options of lego (https://go-acme.github.io/lego/usage/cli/)."""
    words = ["--accept-tos", "--path", str(LEGO), "--server", config["server"], "--email", config["email"]]
    words += ["--key-type", "ec256"]
    for name in config["names"]:
        words += ["--domains", name]
    if config["challenge"] == "dns-01":
        words += ["--dns", config["provider"]]
        for resolver in config["resolvers"]:
            words += ["--dns.resolvers", resolver]
        return words if config["check_propagation"] else [*words, "--dns.disable-cp"]
    if listened_on(config["http_port"]):
        return [*words, "--http", "--http.webroot", config["webroot"]]
    return [*words, "--http", "--http.port", f":{config['http_port']}"]


def environment(config):
    """Return the environment that lego and the DNS provider read."""
    own = json.loads(ENVIRONMENT.read_text()) if ENVIRONMENT.exists() else {}
    if config["hook"]:
        own["EXEC_PATH"] = config["hook"]
    if config["authority"]:
        own["LEGO_CA_CERTIFICATES"] = config["authority"]
    return {**os.environ, "HOME": str(LEGO), **own}


def listened_on(port):
    """Return whether a server listens there: nginx, which hands out the files of the challenges' folder."""
    with socket.socket() as tried:
        tried.settimeout(2)
        return tried.connect_ex(("127.0.0.1", port)) == 0


def check(config, chain, key):
    """Return a pair that belongs together, for the declared names, valid now."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key)
    except ssl.SSLError as error:
        raise Problem(f"what came is no certificate with its key: {error}") from error
    begin, end = lifetime(chain)
    if not begin <= time.time() < end:
        raise Problem("what came is not valid now: is the clock of this host right?")
    got = names(chain)
    missing = sorted(set(config["names"]) - set(got))
    if missing:
        raise Problem(f"what came is not for {', '.join(missing)}")


def install(config, chain, key):
    """Put the new pair live in one step, have nginx serve it, and remove the old one."""
    serial = asked("-serial", chain).partition("=")[2].lstrip("0").lower()
    fresh = SERIALS / serial
    SERIALS.mkdir(mode=0o755, exist_ok=True)
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o755)
    for name, content, mode in (
        ("fullchain.pem", chain.read_bytes(), 0o644),
        ("privkey.pem", key.read_bytes(), 0o600),
        ("source", config["server"].encode(), 0o644),
    ):
        write(fresh / name, content, mode)
    in_step = STAMP.exists() and STAMP.read_text().strip() == stamp(config)
    link = CURRENT.with_name(f"{CURRENT.name}.new")
    link.unlink(missing_ok=True)
    link.symlink_to(f"{SERIALS.name}/{serial}")
    if CURRENT.exists() and not CURRENT.is_symlink():
        shutil.rmtree(CURRENT)
    link.replace(CURRENT)
    serve(config)
    if in_step:
        # What nginx runs with is what was declared: the next `up` has nothing to do.
        write(STAMP, f"{stamp(config)}\n".encode(), 0o600)
    for other in SERIALS.iterdir():
        if other.name != serial:
            shutil.rmtree(other)
    print(f"a new certificate for {', '.join(config['names'])}, serial {serial}")


def serve(config):
    """Have nginx, when it runs, serve what is now in place."""
    if subprocess.run(["systemctl", "is-active", "--quiet", "nginx"]).returncode != 0:
        return
    subprocess.run(["systemctl", "reload", "nginx"], check=True, timeout=30)
    leaf = ssl.PEM_cert_to_DER_cert(first(CURRENT / "fullchain.pem"))
    deadline = time.monotonic() + 15
    while True:
        with suppress(OSError):
            served = ssl.get_server_certificate(("127.0.0.1", config["https_port"]), timeout=5)
            if ssl.PEM_cert_to_DER_cert(served) == leaf:
                return
        if time.monotonic() > deadline:
            raise Problem("nginx does not serve the new one: see `nginx -t` and /var/log/nginx/error.log")
        time.sleep(0.2)


def stamp(config):
    """Return the stamp of nginx that was last started or reloaded with its files as they are now."""
    files = [Path(path) for path in config["watched"]]
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file}" for file in files if file.is_file()]
    return hashlib.sha256("\n".join(("", *lines)).encode()).hexdigest()


def tell():
    """Write the certificate's lifetime and whether the last attempt failed for the node exporter."""
    if not METRICS.parent.is_dir():
        return
    chain = CURRENT / "fullchain.pem"
    lines = []
    if chain.exists():
        begin, end = lifetime(chain)
        for what, value in (("not_before", begin), ("not_after", end)):
            lines += [f"# TYPE clawd_tls_{what}_seconds gauge", f"clawd_tls_{what}_seconds {value:.0f}"]
    failed = int((LEGO / "failed").exists())
    lines += ["# TYPE clawd_tls_renewal_failed gauge", f"clawd_tls_renewal_failed {failed}", ""]
    write(METRICS, "\n".join(lines).encode(), 0o644)


def lifetime(chain):
    """Return begin and end of a certificate, in seconds since 1970."""
    lines = dict(line.split("=", 1) for line in asked("-dates", chain).splitlines())
    return tuple(float(ssl.cert_time_to_seconds(lines[key])) for key in ("notBefore", "notAfter"))


def names(chain):
    """Return the DNS names that a certificate is for."""
    text = asked("-ext", chain, "subjectAltName")
    words = text.replace(",", " ").replace("IP Address:", "DNS:").split()
    return [word.removeprefix("DNS:") for word in words if word.startswith("DNS:")]


def asked(option, chain, *values):
    """Return what openssl prints of the first certificate of a file."""
    command = ["openssl", "x509", "-noout", option, *values, "-in", str(chain)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


def first(chain):
    """Return the first certificate of a file."""
    end = "-----END CERTIFICATE-----"
    return chain.read_text().split(end)[0] + end


def write(path, content, mode):
    """Replace a file in one step."""
    descriptor, temporary = tempfile.mkstemp(prefix=".clawd-", dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    Path(temporary).replace(path)


@contextmanager
def locked():
    """Hold the lock: one run at a time."""
    STAMP.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (STAMP.parent / "tls.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

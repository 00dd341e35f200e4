"""Golden files whose programs only hosts have: each is taken there, and one that is spoilt is not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploys.base.deploy import SSHD_CHECK as SSHD
from deploys.docker.deploy import CHECK
from deploys.hardening.deploy import JAIL_CHECK
from deploys.ops.paths.files import TEMPLATES
from deploys.tls.certificate import new_authority, new_certificate
from deploys.tls.settings import TlsSettings
from tests.hosts import Box, Host, boxes, in_every_run, on_hosts

pytestmark = on_hosts(seconds=600)
ROOT = Path(__file__).parent
SUDO = "/usr/sbin/visudo -cqf {}"
# sysctl leaves out what the kernel does not know: it is asked for every key.
SYSCTL = """
sed -n 's/^\\([a-z][^ =]*\\) *=.*/\\1/p' {} | while read -r key; do sysctl -n $key >/dev/null || exit 1; done
"""
# A second journald, of a namespace, reports what it does not understand of the settings of that.
JOURNALD = """
settings=/etc/systemd/journald@golden.conf
cp {} $settings
said=$(SYSTEMD_LOG_TARGET=console timeout 2 /lib/systemd/systemd-journald golden 2>&1 | grep -F "$settings:")
rm -rf $settings /run/systemd/journal.golden /run/log/journal/*.golden /var/log/journal/*.golden
[ -z "$said" ] || { echo "$said"; exit 1; }
"""
LOGROTATE = """
command -v logrotate >/dev/null || apt-get install -qq -y --no-install-recommends logrotate >/dev/null 2>&1
output=$(logrotate --debug {} 2>&1) && ! echo "$output" | grep -E '^error:|unknown option'
"""
MODPROBE = """
command -v modprobe >/dev/null || apt-get install -qq -y --no-install-recommends kmod >/dev/null 2>&1
said=$(modprobe --config {} --showconfig 2>&1 >/dev/null) && [ -z "$said" ] || { echo "$said"; exit 1; }
"""
COMMANDS = {
    "base/golden/etc-ssh-sshd_config.d-10-clawd.conf": (SSHD, "Nonsense yes"),
    "base/golden/etc-sudoers.d-clawd": (SUDO, "nonsense"),
    "base/golden/etc-systemd-journald.conf.d-10-clawd.conf": (JOURNALD, "Nonsense=yes"),
    "docker/golden/daemon.json": (CHECK, "nonsense"),
    "hardening/golden/05-clawd-hardening.conf": (SSHD, "Nonsense yes"),
    "hardening/golden/60-clawd.conf": (SYSCTL, "nonsense.key = 1"),
    "hardening/golden/zz-clawd.local": (JAIL_CHECK, "%(no"),
    "hardening/golden/clawd-unused.conf": (MODPROBE, "nonsense"),
    "templates/hardening/sudoers": (SUDO, "nonsense"),
    "nginx/golden/logrotate": (LOGROTATE, "/var/log/x.log {\n\tmaxsize much\n}"),
    "runtime/golden/journald.conf": (JOURNALD, "Nonsense=yes"),
}
"""What takes a file, `{}`, and a further line that it does not take."""
REGISTRY = "registry.test:5443"
# A registry with nothing in it.
SERVE = """
import http.server, ssl
class Empty(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = self.path == "/v2/"
        missing = b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'
        body = b"{}" if found else missing
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body))); self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
    do_HEAD = do_GET
server = http.server.HTTPServer(("", 5443), Empty)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/root/registry.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
PULL = f"docker pull {REGISTRY}/empty:1 2>&1 || true"
UNKNOWN = "certificate signed by unknown authority"

box = boxes("clgo", 86)


@pytest.fixture(scope="module", params=in_every_run("trixie"))
def host(request: pytest.FixtureRequest, box: Box) -> Host:
    """A host with the programs: docker's and fail2ban's come with their components."""
    found = Host(box, box.named(request.param))
    found.apply(base={}, docker={"guarded": False}, hardening={})
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_host_program_accepts_the_golden_file_and_refuses_a_misspelt_one(host: Host, name: str) -> None:
    text = ((TEMPLATES.parent if name.startswith("templates/") else ROOT) / name).read_text()
    command, nonsense = COMMANDS[name]
    assert taken(host, command, text) == ""
    spoilt = f"{text}{nonsense}\n"
    assert taken(host, command, spoilt) != ""


def taken(host: Host, command: str, text: str) -> str:
    """What the command fails with; nothing when it takes the file."""
    host.on(f"umask 077; cat > /root/golden <<'END'\n{text}END")
    asked = command.replace("{}", "/root/golden")
    return host.on(f"( {asked} ) >/root/said 2>&1 || {{ cat /root/said; echo fails; }}")


def test_docker_engine_knows_every_key_of_its_configuration(host: Host) -> None:
    """With the keys of a GPU; the engine of Debian 12 cannot be asked."""
    assert ("--validate" in host.on("dockerd --help")) is (host.release == "trixie")


def test_docker_engine_trusts_a_registry_by_its_authority(host: Host) -> None:
    now = datetime.now(UTC)
    authority = new_authority("registry", now)
    made = new_certificate(TlsSettings(names=("registry.test",)), authority, now)
    pem = (made.certificate_pem + made.key_pem).decode()
    host.on(f"umask 077; cat > /root/registry.pem <<'END'\n{pem}END")
    host.on(f"cat > /root/serve.py <<'END'\n{SERVE}\nEND")
    host.on("systemd-run -q --unit registry python3 /root/serve.py")
    host.on(f"echo '{host.address} registry.test' >> /etc/hosts; sleep 1")
    assert UNKNOWN in host.on(PULL)
    file = host.folder / "authority.pem"
    file.write_bytes(authority.certificate_pem)
    private = {"guarded": False, "registries": [REGISTRY], "registry_authority": str(file)}
    started = host.on("systemctl show -p MainPID docker")
    assert f"Write /etc/docker/certs.d/{REGISTRY}/ca.crt" in host.apply_twice(docker=private)
    assert "manifest unknown" in host.on(PULL)
    assert host.on("systemctl show -p MainPID docker") == started
    assert host.apply(docker={"guarded": False})
    assert UNKNOWN in host.on(PULL)

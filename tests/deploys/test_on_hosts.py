"""base, firewall, tls and pushes on real hosts, carried there by the plain `pyinfra` command.

What the checks of the components say is asked as `clawd-provision verify` asks it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from inventory.errors import SandboxError
from inventory.load import load
from provision import sandbox
from provision.assign import Selection, assign
from provision.sandbox import Layout
from provision.verify import verify

pytestmark = [
    pytest.mark.host,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="making hosts needs root"),
]

ROOT = Path(__file__).resolve().parents[2]
RELEASES = ("bookworm", "trixie")
COMPONENTS = ("base", "firewall", "tls")


@dataclass
class Host:
    """A real host, and the folder of a made-up operator who uses nothing but pyinfra."""

    name: str
    layout: Layout
    folder: Path

    @property
    def address(self) -> str:
        return str(self.layout.address(self.name))

    def on(self, command: str) -> str:
        return sandbox.execute(self.name, command, layout=self.layout).strip()

    def apply(self, component: str, **settings: Any) -> Applied:
        process = self.start(f"deploys.{component}.deploy.apply", **{component: settings})
        output, _ = process.communicate(timeout=240)
        return Applied.read(process.returncode, output)

    def start(self, operations: str, **data: Any) -> subprocess.Popen[str]:
        """pyinfra carrying `operations` there, as the sandbox's operator with sudo."""
        values: Mapping[str, Any] = {
            "ssh_hostname": self.address,
            "ssh_user": "operator",
            "ssh_key": str(self.layout.key),
            "ssh_known_hosts_file": str(self.layout.known_hosts),
            "ssh_strict_host_key_checking": "yes",
            "_sudo": True,
            "supplies": {"state_folder": str(self.folder / ".clawd" / "clawd")},
            **data,
        }
        inventory = self.folder / f"{self.name}.py"
        inventory.write_text(f"hosts = [({self.name!r}, {values!r})]\n")
        words = [sys.executable, "-m", "pyinfra", "--yes", str(inventory), operations]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            words,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=self.folder,
        )

    def failing_checks(self) -> set[str]:
        """What `verify` finds wrong with the three components."""
        file = self.folder / f"{self.name}.yml"
        declared = {"address": self.address, "user": "operator", "ssh_key": str(self.layout.key)}
        model = {"engine": "openai-compatible", "endpoint": "http://127.0.0.1:1/v1"}
        file.write_text(
            json.dumps(
                {
                    "known_hosts": str(self.layout.known_hosts),
                    "hosts": {self.name: declared},
                    "models": {"default": model},
                    "channels": {"console": {"jwt_secret": "!env HOME"}},
                }
            ).replace('"!env HOME"', "!env CLAWD_TEST_SECRET")
        )
        loaded = load(file)
        found = verify(loaded, assign(loaded.inventory, Selection(components=COMPONENTS)))
        assert found.checks
        return {check.name for check in found.failed}


@dataclass(frozen=True)
class Applied:
    """What pyinfra's closing table says."""

    succeeded: bool
    changed: frozenset[str]
    output: str

    @classmethod
    def read(cls, status: int, output: str) -> Applied:
        rows = re.findall(r"^    \S[^|\n]* \| (.*?) +1 +(1|-) +(?:1|-) +(?:1|-) *$", output, re.MULTILINE)
        return cls(status == 0, frozenset(name for name, success in rows if success == "1"), output)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    folder = tmp_path_factory.mktemp("deploys") / ".sandbox"
    box = Layout(folder, bridge="clawdd", subnet=IPv4Network("10.213.81.0/24"), table="clawd_deploys_test")
    try:
        sandbox.up(len(RELEASES), RELEASES, layout=box)
        yield box
    finally:
        sandbox.down(layout=box, purge=True)


@pytest.fixture(scope="module", params=["bot1", "bot2"], ids=RELEASES)
def host(request: pytest.FixtureRequest, box: Layout) -> Host:
    """A host to which the three components have been applied, each twice."""
    os.environ["CLAWD_TEST_SECRET"] = "x" * 32
    host = Host(request.param, box, box.folder.parent)
    settings = declared(host)
    for component in COMPONENTS:
        first = host.apply(component, **settings[component])
        assert first.succeeded, first.output
        assert first.changed
        second = host.apply(component, **settings[component])
        assert second.succeeded, second.output
        assert not second.changed, f"{component} changes again: {second.changed}"
    return host


def declared(host: Host) -> dict[str, dict[str, Any]]:
    openings = [{"port": 80, "purpose": "http"}, {"port": 443, "purpose": "https"}]
    return {"base": {}, "firewall": {"openings": openings}, "tls": {"names": [host.address]}}


def test_checks_hold(host: Host) -> None:
    assert host.failing_checks() == set()


SSHD, RULES = "/etc/ssh/sshd_config.d/10-clawd.conf", "/etc/nftables.conf"


@pytest.mark.parametrize(
    ("damage", "named", "repaired"),
    [
        (
            (
                f"echo PasswordAuthentication yes > {SSHD}",
                "systemctl reload ssh",
                "nft add rule inet clawd input tcp dport 9999 accept",
                "chmod 644 /etc/clawd/tls/privkey.pem",
            ),
            {
                "sshd as declared",
                "sshd runs with its configuration",
                "rules in force as applied",
                "certificate holds",
                "private key is private",
            },
            {f"Write {SSHD}", "Service ssh", "Rules in force", "Certificate for {address}"},
        ),
        (
            (
                "chmod 755 /etc/clawd/secrets",
                "systemctl stop systemd-journald.socket systemd-journald-dev-log.socket systemd-journald",
                f"echo 'table inet clawd {{ }}' > {RULES}",
                "systemctl disable nftables",
                "rm /etc/clawd/tls/privkey.pem",
            ),
            {
                "folder[/etc/clawd/secrets]",
                "journal limited",
                "rules in force as applied",
                "loaded at boot",
                "certificate holds",
                "private key is private",
            },
            {
                "Folder /etc/clawd/secrets",
                "Service systemd-journald",
                f"Write {RULES}",
                "Rules in force",
                "Certificate for {address}",
            },
        ),
    ],
)
def test_damage_is_named_and_exactly_that_is_repaired(
    host: Host, damage: tuple[str, ...], named: set[str], repaired: set[str]
) -> None:
    host.on(" && ".join(damage))
    assert host.failing_checks() == named
    changed: set[str] = set()
    for component in COMPONENTS:
        run = host.apply(component, **declared(host)[component])
        assert run.succeeded, run.output
        changed |= run.changed
    assert changed == {name.format(address=host.address) for name in repaired}
    assert host.failing_checks() == set()


def test_only_declared_ports_can_be_reached(host: Host) -> None:
    serve = "python3 -m http.server -d /run"
    host.on(f"for port in 80 9999; do systemd-run -q --unit listen$port {serve} $port; done")
    try:
        wait_for(lambda: host.on("ss -Hltn").count(":80 ") + host.on("ss -Hltn").count(":9999 ") == 2)
        socket.create_connection((host.address, 80), timeout=5).close()
        with pytest.raises(TimeoutError):
            socket.create_connection((host.address, 9999), timeout=2)
    finally:
        host.on("systemctl stop listen80 listen9999")


def test_other_tables_stay(host: Host) -> None:
    host.on("nft add table inet docker && nft add chain inet docker keep && nft delete table inet clawd")
    assert host.apply("firewall", **declared(host)["firewall"]).changed == {"Rules in force"}
    tables = host.on("nft list tables")
    host.on("nft delete table inet docker")
    assert tables.split("\n") == ["table inet docker", "table inet clawd"]


def test_rules_come_back_after_a_reboot(host: Host) -> None:
    boot = host.on("cat /proc/sys/kernel/random/boot_id")
    host.on("systemctl reboot --no-block")

    def is_back() -> bool:
        try:
            return host.on("cat /proc/sys/kernel/random/boot_id") != boot
        except (SandboxError, subprocess.TimeoutExpired):
            return False

    wait_for(is_back, seconds=60)
    host.on("systemctl is-system-running --wait || true")
    assert host.failing_checks() == set()
    for component in COMPONENTS:
        assert host.apply(component, **declared(host)[component]).changed == frozenset()


def test_sshd_configuration_that_sshd_refuses_never_goes_live(host: Host) -> None:
    template = host.folder / "mine" / "base" / "sshd.conf"
    template.parent.mkdir(parents=True, exist_ok=True)
    template.write_text("Port 22\nNonsense yes\n")
    before = host.on(f"cat {SSHD}; ls -A /etc/ssh/sshd_config.d")
    supplies = {"state_folder": str(host.folder), "template_overrides": str(template.parent.parent)}
    process = host.start("deploys.base.deploy.apply", base={}, supplies=supplies)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Bad configuration option: Nonsense" in output
    assert host.on(f"cat {SSHD}; ls -A /etc/ssh/sshd_config.d") == before


def test_operator_comes_and_goes(host: Host) -> None:
    key = host.folder / f"anna-{host.name}"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    public = key.with_suffix(".pub").read_text().strip()
    assert host.apply("base", operators=[{"name": "anna", "keys": [public]}]).succeeded
    login = sandbox.ssh_command(host.name, user="anna", layout=host.layout)
    login[login.index(str(host.layout.key))] = str(key)
    assert subprocess.run([*login, "sudo -n id -un"], capture_output=True, text=True).stdout == "root\n"
    by_password = [*login, "-o", "PubkeyAuthentication=no", "true"]
    denied = subprocess.run(by_password, capture_output=True, text=True)
    assert "Permission denied (publickey)" in denied.stderr
    gone = host.apply("base")
    assert gone.changed == {"Write /etc/sudoers.d/clawd", "Retire anna"}
    assert subprocess.run([*login, "true"], capture_output=True).returncode == 255
    assert not host.apply("base").changed


def test_own_key_must_stay_among_the_declared(host: Host) -> None:
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA nobody"
    process = host.start(
        "deploys.base.deploy.apply", base={"operators": [{"name": "operator", "keys": [other]}]}
    )
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "operator is the login in use" in output
    assert host.on("id -un") == "root"


def test_certificate_is_what_the_authority_on_the_laptop_signed(host: Host) -> None:
    chain = host.folder / f"{host.name}.chain"
    chain.write_text(host.on("cat /etc/clawd/tls/fullchain.pem") + "\n")
    authority = host.folder / ".clawd" / "clawd" / "ca" / "ca.pem"
    words = [
        "openssl",
        "verify",
        "-x509_strict",
        "-verify_ip",
        host.address,
        "-CAfile",
        str(authority),
        str(chain),
    ]
    assert subprocess.run(words, capture_output=True).returncode == 0


def test_push_that_is_killed_continues(host: Host) -> None:
    content = os.urandom(1 << 20) * 96
    source, digest = host.folder / "large", sha256(content).hexdigest()
    source.write_bytes(content)
    dest = "/var/lib/clawd/large"
    script = host.folder / "push.py"
    script.write_text(
        "from pathlib import Path\nfrom deploys.ops import push\n"
        f"push.file(Path({str(source)!r}), {dest!r}, sha256={digest!r})\n"
    )
    part = f"{dest}.{digest[:16]}.part"
    size = f"$(stat -c %s {part} 2>/dev/null || echo 0)"
    process = host.start(str(script))
    host.on(f'while [ "{size}" -lt {16 << 20} ]; do sleep 0.01; done')
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = int(host.on(f"echo {size}"))
    assert 0 < kept < len(content), "the push was not caught on its way"
    before = received(host)
    process = host.start(str(script))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert received(host) - before < len(content) - kept * 0.9, "what was there already was sent again"
    assert host.on(f"sha256sum < {dest} | cut -c1-64; stat -c '%a %U' {dest}") == f"{digest}\n644 root"
    assert host.on(f"ls {dest}*") == dest


def received(host: Host) -> int:
    """Bytes that came to the host over its network."""
    return int(host.on("cat /sys/class/net/host0/statistics/rx_bytes"))


def wait_for(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come about in time"
        time.sleep(0.3)

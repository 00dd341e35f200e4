"""base, firewall, tls and pushes on real hosts, carried there by the plain `pyinfra` command.

What the checks of the components say is asked as `clawd-provision verify` asks it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from hashlib import sha256
from typing import Any

import pytest

from inventory.errors import SandboxError
from provision import sandbox
from tests.hosts import Box, Host, boxes, in_every_run, on_hosts, secret, until

pytestmark = on_hosts(seconds=600)

COMPONENTS = ("base", "firewall", "tls")
SSHD, RULES = "/etc/ssh/sshd_config.d/10-clawd.conf", "/etc/nftables.conf"
NOTHING: frozenset[str] = frozenset()

box = boxes("clawdd", 81)


@pytest.fixture(scope="module", params=in_every_run("trixie"))
def host(request: pytest.FixtureRequest, box: Box) -> Host:
    """A host to which the three components have been applied, twice."""
    host = Host(box, box.named(request.param))
    first = host.apply_twice(**declared(host))
    assert first >= {f"Write {SSHD}", "Rules in force", f"Certificate for {host.address}"}
    return host


def declared(host: Host) -> dict[str, dict[str, Any]]:
    openings = [{"port": 80, "purpose": "http"}, {"port": 443, "purpose": "https"}]
    return {"base": {}, "firewall": {"openings": openings}, "tls": {"names": [host.address]}}


def failing_checks(host: Host) -> set[str]:
    loaded = host.loaded(channels={"console": {"jwt_secret": secret("x" * 32)}})
    return host.failing_checks(loaded, *COMPONENTS)


def test_checks_pass_after_up(host: Host) -> None:
    assert failing_checks(host) == set()


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
                "sshd offers keys only",
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
def test_checks_report_damage_and_up_repairs_only_that(
    host: Host, damage: tuple[str, ...], named: set[str], repaired: set[str]
) -> None:
    host.on(" && ".join(damage))
    assert failing_checks(host) == named
    assert host.apply(**declared(host)) == {name.format(address=host.address) for name in repaired}
    assert failing_checks(host) == set()


def test_changed_package_sources_are_no_change(host: Host) -> None:
    """Neither before they were read, nor afterwards, nor once they are gone."""
    file = "/etc/apt/sources.list.d/theirs.list"
    this = f"-o Dir::Etc::sourcelist={file} -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0"
    for change in (
        f"echo '# theirs' > {file}",
        f"echo 'deb [trusted=yes] file:/srv/nothing ./' > {file}",
        f"mkdir -p /srv/nothing; : > /srv/nothing/Packages; apt-get -qq update {this}",
        f"rm -r {file} /srv/nothing",
    ):
        host.on(change)
        assert host.apply(**declared(host)) == NOTHING, change


def test_only_declared_ports_can_be_reached(host: Host) -> None:
    serve = "python3 -m http.server -d /run"
    host.on(f"for port in 80 9999; do systemd-run -q --unit listen$port {serve} $port; done")
    try:
        until(lambda: host.on("ss -Hltn").count(":80 ") + host.on("ss -Hltn").count(":9999 ") == 2)
        socket.create_connection((host.address, 80), timeout=5).close()
        with pytest.raises(TimeoutError):
            socket.create_connection((host.address, 9999), timeout=2)
    finally:
        host.on("systemctl stop listen80 listen9999")


def test_nftables_tables_of_other_programs_stay(host: Host) -> None:
    host.on("nft add table inet docker && nft add chain inet docker keep && nft delete table inet clawd")
    assert host.apply(firewall=declared(host)["firewall"]) == {"Rules in force"}
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

    until(is_back, seconds=60)
    host.on("systemctl is-system-running --wait || true")
    assert failing_checks(host) == set()
    assert host.apply(**declared(host)) == NOTHING


def test_configuration_refused_by_sshd_does_not_go_live(host: Host) -> None:
    template = host.folder / "mine" / "base" / "sshd.conf"
    template.parent.mkdir(parents=True, exist_ok=True)
    template.write_text("Port 22\nNonsense yes\n")
    before = host.on(f"cat {SSHD}; ls -A /etc/ssh/sshd_config.d")
    supplies = {"state_folder": str(host.folder), "template_overrides": str(template.parent.parent)}
    assert "Bad configuration option: Nonsense" in host.refused({"supplies": supplies}, base={})
    assert host.on(f"cat {SSHD}; ls -A /etc/ssh/sshd_config.d") == before


def test_operator_can_log_in_until_dropped(host: Host) -> None:
    key = host.folder / f"anna-{host.name}"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    public = key.with_suffix(".pub").read_text().strip()
    host.apply(base={"operators": [{"name": "anna", "keys": [public]}]})
    login = sandbox.ssh_command(host.name, user="anna", layout=host.layout)
    login[login.index(str(host.layout.key))] = str(key)
    assert subprocess.run([*login, "sudo -n id -un"], capture_output=True, text=True).stdout == "root\n"
    by_password = [*login, "-o", "PubkeyAuthentication=no", "true"]
    denied = subprocess.run(by_password, capture_output=True, text=True)
    assert "Permission denied (publickey)" in denied.stderr
    assert host.apply(base={}) == {"Write /etc/sudoers.d/clawd", "Retire login anna"}
    assert subprocess.run([*login, "true"], capture_output=True).returncode == 255
    assert host.apply(base={}) == NOTHING


def test_operator_keys_without_the_key_in_use_are_refused(host: Host) -> None:
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA nobody"
    message = host.refused(base={"operators": [{"name": "operator", "keys": [other]}]})
    assert "operator is the login in use" in message
    assert host.on("id -un") == "root"


def test_certificate_is_signed_by_the_authority_of_the_laptop(host: Host) -> None:
    chain = host.folder / f"{host.name}.chain"
    chain.write_text(host.on("cat /etc/clawd/tls/fullchain.pem") + "\n")
    authority = host.state_folder / "ca" / "ca.pem"
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


def test_killed_push_continues_at_its_offset(host: Host) -> None:
    content = os.urandom(1 << 20) * 96
    source, digest = host.folder / "large", sha256(content).hexdigest()
    source.write_bytes(content)
    dest = "/var/lib/clawd/large"
    operations = (
        "from pathlib import Path\nfrom deploys.ops.paths import push\n"
        f"push.file(Path({str(source)!r}), {dest!r}, sha256={digest!r})\n"
    )
    part = f"{dest}.{digest[:16]}.part"
    size = f"$(stat -c %s {part} 2>/dev/null || echo 0)"
    process = host.start(operations)
    host.on(f'while [ "{size}" -lt {16 << 20} ]; do sleep 0.01; done')
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = int(host.on(f"echo {size}"))
    assert 0 < kept < len(content), "the push was not caught on its way"
    before = received(host)
    again = host.run(operations)
    assert again.succeeded, again.output
    assert received(host) - before < len(content) - kept * 0.9, "what was there already was sent again"
    assert host.on(f"sha256sum < {dest} | cut -c1-64; stat -c '%a %U' {dest}") == f"{digest}\n644 root"
    assert host.on(f"ls {dest}*") == dest


def received(host: Host) -> int:
    """Bytes that came to the host over its network."""
    return int(host.on("cat /sys/class/net/host0/statistics/rx_bytes"))

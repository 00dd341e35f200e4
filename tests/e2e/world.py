"""A whole deployment to test against: fresh hosts, stand-ins for the platforms, and the program itself."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from provision import sandbox
from provision.sandbox import Layout

ROOT = Path(__file__).resolve().parents[2]
RELEASES = ("bookworm", "trixie")
TELEGRAM_PORT, FEISHU_PORT = 8081, 8082
SECRET_NAMES = (
    "telegram-token",
    "telegram-secret-token",
    "feishu-app-secret",
    "feishu-encrypt-key",
    "feishu-verification-token",
    "console-jwt-secret",
)

LOOK = r"""
dpkg-query -W -f='package ${Package} ${db:Status-Status}\n'
getent passwd | sed 's/^\([^:]*\).*/user \1/'
getent group | sed 's/^\([^:]*\):[^:]*:[^:]*/group \1/'
systemctl list-unit-files --no-legend --no-pager | awk '$2 == "enabled" {print "enabled", $1}'
nft list tables
find /etc -xdev -type f -exec sha256sum {} +
find /opt /usr/local /srv /var/lib/clawd* /run/clawd* -xdev -not -type d
find /etc /opt /usr/local /srv /var/lib/clawd* -xdev -type d
ls /var/lib /var/log
"""


def layout_for_tests(folder: Path) -> Layout:
    """A sandbox beside the one in use: its own bridge, addresses and firewall table."""
    return Layout(folder, bridge="clawde", subnet=IPv4Network("10.213.82.0/24"), table="clawd_e2e")


@dataclass
class World:
    """The hosts, the project folder of a made-up operator, and how the program is run there."""

    folder: Path
    layout: Layout
    records: dict[str, Any] = field(default_factory=dict)
    program: Path = ROOT
    """The checkout that is run."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the hosts."""
        return tuple(f"bot{number}" for number in range(1, len(RELEASES) + 1))

    def address(self, host: str) -> str:
        """The address of a host."""
        return str(self.layout.address(host))

    def secret(self, name: str) -> str:
        """One of the deployment's secrets."""
        return (self.layout.secrets / name).read_text().strip()

    @property
    def secrets(self) -> dict[str, str]:
        """All of the deployment's secrets."""
        return {name: self.secret(name) for name in SECRET_NAMES}

    def on(self, host: str, command: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command as root on a host, apart from the program under test."""
        as_root = f"sudo sh -c {shlex.quote(command)}"
        words = [*sandbox.ssh_command(host, layout=self.layout), as_root]
        return subprocess.run(words, capture_output=True, text=True, check=check, timeout=120)

    def look(self, host: str) -> frozenset[str]:
        """What is on a host: packages, users, groups, units, and files where a deployment leaves some."""
        return frozenset(self.on(host, LOOK).stdout.splitlines())

    def inventory(
        self,
        name: str = "e2e",
        hosts: tuple[str, ...] | None = None,
        replacing: Mapping[str, str] | None = None,
    ) -> Path:
        """Writes an inventory for some of the hosts; `replacing` gives whole top-level sections anew."""
        file = self.folder / "inventory" / f"{name}.yml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(self._inventory_text(hosts or self.hosts, replacing or {}), encoding="utf-8")
        return file

    def _inventory_text(self, hosts: tuple[str, ...], replacing: Mapping[str, str]) -> str:
        machine = self.layout.machine_address
        secrets = self.layout.secrets
        model = os.environ["CLAWD_TEST_MODEL"]
        sections = {
            "project": "project: e2e",
            "known_hosts": f"known_hosts: {self.layout.known_hosts}",
            "hosts": "hosts:\n"
            + "".join(
                f"  {host}: {{address: {self.address(host)}, user: operator, ssh_key: {self.layout.key}}}\n"
                for host in hosts
            ),
            "models": f"""models:
  default: {{engine: llama-cpp, path: {model}, context_size: 2048, temperature: 0}}""",
            "channels": f"""channels:
  telegram:
    token: !file {secrets}/telegram-token
    secret_token: !file {secrets}/telegram-secret-token
    api_base: http://{machine}:{TELEGRAM_PORT}
  feishu:
    app_id: cli_e2e
    app_secret: !file {secrets}/feishu-app-secret
    encrypt_key: !file {secrets}/feishu-encrypt-key
    verification_token: !file {secrets}/feishu-verification-token
    api_base: http://{machine}:{FEISHU_PORT}
  console:
    jwt_secret: !file {secrets}/console-jwt-secret""",
            "bot": """bot:
  system_prompt: You are a helpful assistant. Answer in one short sentence.
  max_reply_tokens: 48""",
        }
        return "\n".join({**sections, **replacing}.values()) + "\n"

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Starts the program in the operator's folder."""
        environment = {**os.environ, "XDG_STATE_HOME": str(self.folder / "state"), "HOME": str(self.folder)}
        environment.setdefault("CLAWD_CACHE", str(Path("~/.cache/clawd-provision").expanduser()))
        return subprocess.Popen(
            [sys.executable, str(self.program / "cli.py"), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=environment,
        )

    def run(self, *words: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Runs the program to its end."""
        process = self.start(*words)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{' '.join(words)} did not end in {timeout} s\n{err[-3000:]}") from None
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def json(self, *words: str, expect: int = 0) -> dict[str, Any]:
        """What the program prints with `--json`; its exit code must be `expect`."""
        done = self.run(*words, "--json")
        assert done.returncode == expect, f"{words} ended with {done.returncode}\n{done.stderr[-4000:]}"
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def interrupted(self, *words: str, at: str) -> subprocess.CompletedProcess[str]:
        """Runs the program and presses Ctrl-C when it tells of `at` on standard error."""
        process = self.start(*words)
        assert process.stdout
        assert process.stderr
        told: list[str] = []
        kept_out: list[str] = []
        reader = threading.Thread(target=lambda: kept_out.append(process.stdout.read()))  # type: ignore[union-attr]
        reader.start()
        for line in process.stderr:
            told.append(line)
            if at in line:
                process.send_signal(signal.SIGINT)
                break
        told.append(process.stderr.read())
        process.wait(timeout=300)
        reader.join()
        return subprocess.CompletedProcess(words, process.returncode, "".join(kept_out), "".join(told))

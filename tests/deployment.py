"""A whole deployment to test against: throwaway hosts, a made-up operator, and the program itself."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from provision import sandbox
from provision.sandbox import DebianRelease, Layout
from tests.host_snapshot import LOOK
from tests.platforms import FEISHU_PORT, TELEGRAM_PORT
from tests.standins.feishu.state import Credentials

ROOT = Path(__file__).resolve().parents[1]
APP_ID = "cli_e2e"


@dataclass
class Deployment:
    """The hosts, the folder (and home) of a made-up operator, and how the program is run there."""

    folder: Path
    layout: Layout
    records: dict[str, Any] = field(default_factory=dict)
    program: Path = ROOT
    """The checkout that is run."""

    RELEASES: ClassVar[dict[str, DebianRelease]]
    """The hosts as the inventory calls them, in the order of the sandbox's, and the Debian that each has."""
    PROJECT: ClassVar[str]
    """What the inventory calls the deployment."""
    ENVIRONMENT: ClassVar[dict[str, str]] = {}
    """What the operator has in the environment."""

    @contextmanager
    def fresh(self) -> Iterator[Self]:
        """Its hosts, bare to begin with, for as long as the block lasts."""
        sandbox.down(purge=True, layout=self.layout)
        try:
            sandbox.up(hosts=len(self.hosts), releases=tuple(self.RELEASES.values()), layout=self.layout)
            yield self
        finally:
            sandbox.down(purge=True, layout=self.layout)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the hosts."""
        return tuple(self.RELEASES)

    def machine(self, host: str) -> str:
        """What the sandbox calls a host."""
        return f"bot{self.hosts.index(host) + 1}"

    def address(self, host: str) -> str:
        """The address of a host."""
        return str(self.layout.address(self.machine(host)))

    @property
    def here(self) -> str:
        """The address of this machine, where the stand-ins are."""
        return str(self.layout.machine_address)

    def secret(self, name: str) -> str:
        """One of the sandbox's secrets."""
        return (self.layout.secrets / name).read_text().strip()

    @property
    def feishu_app(self) -> Credentials:
        """What Feishu knows of the app."""
        names = ("feishu-app-secret", "feishu-encrypt-key", "feishu-verification-token")
        return Credentials(APP_ID, *(self.secret(name) for name in names))

    @property
    def authority(self) -> Path:
        """The certificate of the deployment's own authority, once it is there."""
        return self.folder / "inventory" / ".clawd" / self.PROJECT / "ca" / "ca.pem"

    def login(self, host: str) -> str:
        """How a host is reached, as the first entries of its declaration."""
        return f"address: {self.address(host)}, user: operator, ssh_key: {self.layout.key}"

    @property
    def channels(self) -> str:
        """The channels of an inventory whose platforms are the stand-ins, open to everyone."""
        secrets = self.layout.secrets
        return f"""channels:
  telegram:
    token: !file {secrets}/telegram-token
    secret_token: !file {secrets}/telegram-secret-token
    api_base: http://{self.here}:{TELEGRAM_PORT}
  feishu:
    app_id: {APP_ID}
    app_secret: !file {secrets}/feishu-app-secret
    encrypt_key: !file {secrets}/feishu-encrypt-key
    verification_token: !file {secrets}/feishu-verification-token
    api_base: http://{self.here}:{FEISHU_PORT}
  console:
    jwt_secret: !file {secrets}/console-jwt-secret
access: {{telegram: open, feishu: open}}"""

    def declare(self, name: str, text: str) -> Path:
        """Writes an inventory."""
        file = self.folder / "inventory" / f"{name}.yml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def another_release(self, note: str) -> Path:
        """A checkout whose runtime differs from ours in a note alone, which makes it another release."""
        copy = self.folder / "checkouts" / note
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file() and not name.startswith("tests/"):
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, copy / name)
        (copy / "runtime" / "clawd_runtime" / "note.txt").write_text(note)
        return copy

    def on(self, host: str, command: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command as root on a host, apart from the program under test."""
        as_root = f"sudo sh -c {shlex.quote(command)}"
        words = [*sandbox.ssh_command(self.machine(host), layout=self.layout), as_root]
        return subprocess.run(words, capture_output=True, text=True, check=check, timeout=120)

    def look(self, host: str) -> frozenset[str]:
        """What is on a host, line by line; see `tests.host_snapshot`."""
        return frozenset(self.on(host, LOOK).stdout.splitlines())

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Starts the program in the operator's folder."""
        home = {"XDG_STATE_HOME": str(self.folder / "state"), "HOME": str(self.folder)}
        environment = {**os.environ, **home, **self.ENVIRONMENT}
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

    def json(self, *words: str, expect: int = 0, timeout: float = 900) -> dict[str, Any]:
        """What the program prints with `--json`; its exit code must be `expect`."""
        done = self.run(*words, "--json", timeout=timeout)
        assert done.returncode == expect, (
            f"{words} ended with {done.returncode}\n{done.stderr[-6000:]}\n{_told_of(done.stdout)}"
        )
        document: dict[str, Any] = json.loads(done.stdout)
        return document


def _told_of(output: str) -> str:
    """Of a result the checks that did not pass, where it has any; else its end."""
    try:
        checks = json.loads(output)["verification"]["checks"]
    except (ValueError, KeyError, TypeError):
        return output[-2000:]
    return json.dumps([check for check in checks if check["outcome"] != "passed"], indent=1)

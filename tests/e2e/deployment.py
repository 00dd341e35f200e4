"""Two hosts with everything a bot needs on each, a Debian 12 and a Debian 13; see `tests.deployment`."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import ClassVar

from provision.sandbox import DebianRelease, Layout
from tests.deployment import Deployment

SECRET_NAMES = (
    "telegram-token",
    "telegram-secret-token",
    "feishu-app-secret",
    "feishu-encrypt-key",
    "feishu-verification-token",
    "console-jwt-secret",
)


def layout_for_tests(folder: Path) -> Layout:
    """A sandbox next to the one in use: its own bridge, addresses and firewall table."""
    return Layout(folder, bridge="clawde", subnet=IPv4Network("10.213.82.0/24"), table="clawd_e2e")


@dataclass
class World(Deployment):
    """Each host is everything at once."""

    RELEASES: ClassVar[dict[str, DebianRelease]] = {"bot1": "bookworm", "bot2": "trixie"}
    PROJECT = "e2e"

    @property
    def secrets(self) -> dict[str, str]:
        """All of the deployment's secrets."""
        return {name: self.secret(name) for name in SECRET_NAMES}

    def inventory(
        self,
        name: str = "e2e",
        hosts: tuple[str, ...] | None = None,
        replacing: Mapping[str, str] | None = None,
    ) -> Path:
        """Writes an inventory for some of the hosts; `replacing` replaces whole top-level sections."""
        sections = {**self._sections(hosts or self.hosts), **(replacing or {})}
        return self.declare(name, "\n".join(sections.values()) + "\n")

    def _sections(self, hosts: tuple[str, ...]) -> dict[str, str]:
        model = f"path: {os.environ['CLAWD_TEST_MODEL']}, context_size: 2048, temperature: 0"
        declared = "".join(f"  {host}: {{{self.login(host)}}}\n" for host in hosts)
        return {
            "project": f"project: {self.PROJECT}",
            "known_hosts": f"known_hosts: {self.layout.known_hosts}",
            "hosts": f"hosts:\n{declared}",
            "models": f"models:\n  default: {{engine: llama-cpp, {model}}}",
            "channels": self.channels,
            "bot": """bot:
  system_prompt: You are a helpful assistant. Answer in one short sentence.
  max_reply_tokens: 48""",
        }

    def interrupted(self, *words: str, at: str) -> subprocess.CompletedProcess[str]:
        """Runs the program and presses Ctrl-C when it prints `at` on standard error."""
        process = self.start(*words)
        assert process.stdout
        assert process.stderr
        errors: list[str] = []
        kept_out: list[str] = []
        reader = threading.Thread(target=lambda: kept_out.append(process.stdout.read()))  # type: ignore[union-attr]
        reader.start()
        for line in process.stderr:
            errors.append(line)
            if at in line:
                process.send_signal(signal.SIGINT)
                break
        errors.append(process.stderr.read())
        process.wait(timeout=300)
        reader.join()
        return subprocess.CompletedProcess(words, process.returncode, "".join(kept_out), "".join(errors))

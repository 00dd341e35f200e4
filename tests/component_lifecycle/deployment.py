"""Two hosts that between them get every component, and lose it again.

An inventory needs a bot and can give a host no role at all, so that the two inventories are crosswise: what
`least` leaves on one host, `most` has on the other. The base alone is in both, on both.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, ClassVar

from provision.sandbox import DebianRelease, Layout
from tests.deployment import Deployment
from tests.deploys.disk.attached import Attached
from tests.deploys.nvidia import presented
from tests.deploys.nvidia import repository as nvidia
from tests.standins.elastic import build as elastic
from tests.standins.grafana import package as grafana

DISK_SIZE = 16 << 30


@dataclass
class Life(Deployment):
    """The hosts, and where their packages come from."""

    RELEASES: ClassVar[dict[str, DebianRelease]] = {"app": "bookworm", "log": "trixie"}
    PROJECT = "life"

    def least(self) -> None:
        """Declares as little as two hosts can have that reach each other."""
        self._declare(
            {"app": "roles: [nginx]", "log": "roles: [runtime]"},
            models='{engine: openai-compatible, endpoint: "http://127.0.0.1:1/v1"}',
            more="hardening: {enabled: false}\n",
        )

    def most(self) -> None:
        """Declares everything."""
        disk, gpu, logs = (self.records[name] for name in ("disk", "gpu", "logs"))
        secret, network = f"!file {self.layout.secrets}/console-jwt-secret", self.layout.subnet
        model = f"path: {os.environ['CLAWD_TEST_MODEL']}, context_size: 2048, temperature: 0, gpu_layers: 0"
        self._declare(
            {
                "app": f"roles: [runtime, database, monitoring], gpu: auto, disk: {{device: {disk}}}",
                "log": "roles: [nginx, logs], gpu: auto",
            },
            models=f"{{engine: llama-cpp, {model}}}",
            more=f"""docker: {{enabled: true}}
nvidia: {gpu}
firewall: {{open: [{{port: 8443, from: [{network}]}}]}}
database: {{password: {secret}}}
monitoring:
  scrape_interval: 2
  evaluation_interval: 2
  window: 20
  alerts: {{token: {secret}, feishu_webhook: !file {self.folder}/room}}
  grafana: {{admin_password: {secret}, package: {self.records["grafana"]}, open_to: [{network}]}}
logs:
  password: {secret}
  kibana_from: [{network}]
  elasticsearch_heap: 512M
  packages: {logs}
""",
        )

    def _declare(self, hosts: dict[str, str], models: str, more: str) -> None:
        declared = "".join(f"  {host}: {{{self.login(host)}, {rest}}}\n" for host, rest in hosts.items())
        self.declare(
            "life",
            f"""project: {self.PROJECT}
known_hosts: {self.layout.known_hosts}
hosts:
{declared}
models:
  default: {models}
channels:
  console: {{jwt_secret: !file {self.layout.secrets}/console-jwt-secret}}
{more}""",
        )

    def document(self, *words: str, expect: int = 0) -> Any:
        """Return the JSON document of a command, and print how long it took."""
        begun = time.monotonic()
        document = self.json(words[0], "-i", "life", *words[1:], expect=expect)
        print(f"{' '.join(words)}: {time.monotonic() - begun:.0f} s")
        return document

    def up(self, *words: str) -> dict[str, list[str]]:
        """What an `up` changed, by host."""
        document = self.document("up", "--yes", *words)
        return {host["host"]: host["changed"] for host in document["result"]["hosts"]}

    def look_at_all(self) -> dict[str, frozenset[str]]:
        """What is on each host."""
        return {host: self.look(host) for host in self.hosts}


@contextmanager
def living(folder: Path) -> Iterator[Life]:
    """Both hosts, bare: with a blank disk, a GPU, and the repositories that they do not know of yet."""
    layout = Layout(
        folder / "sandbox", bridge="cllife", subnet=IPv4Network("10.213.102.0/24"), table="clawd_life"
    )
    made = Life(folder, layout)
    with made.fresh(), ExitStack() as stack:
        enter = stack.enter_context
        disk = enter(Attached(layout, made.machine("app"), folder / "disk.img", size=DISK_SIZE))
        for host in made.hosts:
            made.on(host, presented.PRESENT + presented.IN_PLACE)
        key = nvidia.make(folder / "nvidia", platform.release())
        served = enter(nvidia.served(folder / "nvidia", made.here))
        (folder / "elastic").mkdir()
        logs = elastic.build(folder / "elastic", "9.4.9")
        mirror = enter(elastic.serving(logs.folder, made.here))
        room = folder / "room"
        room.touch(mode=0o600)
        room.write_text(f"https://{made.here}:1/room\n")
        made.records |= {
            "disk": disk.path,
            "gpu": f"{{repository: {served}/driver, key: {key}, "
            f"toolkit_repository: {served}/toolkit, toolkit_key: {key}}}",
            "logs": f"{{mirror: {mirror}, key: {logs.key}, fingerprint: {logs.fingerprint}}}",
            "grafana": str(grafana.build(folder)),
        }
        yield made

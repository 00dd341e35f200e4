"""Hosts share the images of their bots through a real registry, by the whole program.

Takes minutes, hence a campaign.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from provision.sandbox import DebianRelease
from tests.deploys.docker.registry import USER, Registry, installed
from tests.deploys.runtime.containers import InContainers
from tests.hosts import layout_next_to, on_hosts
from tests.platforms import MODEL_PORT

pytestmark = on_hosts(pytest.mark.campaign, seconds=900)

PASSWORD = "s3cret-of-the-registry"
MODEL = """
import http.server, sys
class Model(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b'{"data": []}')
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Model).serve_forever()
"""
HEALTHY = "python3 -c 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:8080/healthz\", timeout=5)'"
FORGET = "systemctl stop clawd-bot; docker rmi --force $(docker images --quiet) >/dev/null"
IMAGES = "docker images --format '{{.Repository}}' | sort -u"


@dataclass
class Sharing(InContainers):
    """Hosts with nothing but a bot, whose model is elsewhere. The third is added later."""

    RELEASES: ClassVar[dict[str, DebianRelease]] = {"bot1": "bookworm", "bot2": "trixie", "bot3": "bookworm"}
    ENVIRONMENT: ClassVar[dict[str, str]] = {"REGISTRY_PASSWORD": PASSWORD}
    registry: Registry = field(init=False)

    def sharing(self, *hosts: str, login: bool = True) -> None:
        named = "".join(f"  {host}: {{{self.login(host)}, roles: [runtime]}}\n" for host in hosts)
        docker = f"""docker:
  registry: {self.registry.name}/team
  registry_authority: {self.registry.authority}
"""
        if login:
            docker += f"  registry_login: {{user: {USER}, password: !env REGISTRY_PASSWORD}}\n"
        model = f'{{engine: openai-compatible, endpoint: "http://{self.here}:{MODEL_PORT}/v1"}}'
        models = f"models: {{default: {model}}}"
        self.declared("docker", hosts=f"hosts:\n{named}", models=models, docker=docker)

    def failing(self, *hosts: str) -> list[dict[str, Any]]:
        """Return why each host fails; its bot keeps running."""
        before = [
            self.say(host, "readlink /opt/clawd/current; docker ps --quiet --no-trunc") for host in hosts
        ]
        document = self.json("up", "-i", "e2e", "--yes", expect=4)
        assert [
            self.say(host, "readlink /opt/clawd/current; docker ps --quiet --no-trunc") for host in hosts
        ] == before
        for host in hosts:
            self.say(host, HEALTHY)
        print(json.dumps(document["result"]["hosts"], indent=1))
        return [host for host in document["result"]["hosts"] if host["failure"]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sharing]:
    folder = tmp_path_factory.mktemp("operator")
    with (
        Sharing(folder, layout_next_to(folder / "sandbox", "cldr", 173)).fresh() as made,
        installed(folder / "registry", made.here) as made.registry,
    ):
        made.registry.start(PASSWORD)
        model = subprocess.Popen([sys.executable, "-c", MODEL, made.here, str(MODEL_PORT)])
        try:
            made.sharing("bot1", "bot2")
            made.up()
            yield made
        finally:
            model.kill()


def test_first_host_of_each_debian_release_builds_and_pushes_the_image(made: Sharing) -> None:
    assert len(manifests(made.registry, "PUT")) == 2
    assert len(made.registry.blobs) == 2 * (1 + 1 + 3), "manifest, configuration and three layers"


def test_registry_login_is_in_no_file_of_the_hosts(made: Sharing) -> None:
    shown = made.run("plan", "-i", "e2e", "--json").stdout + made.run("inventory", "show", "-i", "e2e").stdout
    assert PASSWORD not in shown
    unwritten = f"{PASSWORD[:4]}''{PASSWORD[4:]}"  # or sudo writes it to the journal: it notes this command
    for host in ("bot1", "bot2"):
        kept = f"grep -rlsF -e {unwritten} /etc /opt /root /run /tmp /var/lib/clawd* /var/log || true"
        made.say(host, f"echo {unwritten} > /root/planted")
        assert made.say(host, kept) == "/root/planted"
        made.say(host, "rm /root/planted")
        assert made.say(host, kept) == ""
        assert made.say(host, "ls -d /root/.docker /run/clawd-login.* 2>/dev/null || true") == ""


def test_other_hosts_pull_the_image_and_build_nothing(made: Sharing) -> None:
    before = len(made.registry.requests)
    made.say("bot2", FORGET)
    made.sharing("bot1", "bot2", "bot3")
    changed = made.up()
    # The new host is one that fail2ban never shuts out.
    assert {name for name in changed["bot1"] if not name.startswith("hardening: ")} == set()
    asked = made.registry.requests[before:]
    assert not [each for each in asked if each[0] in ("PUT", "POST", "PATCH")]
    pulled = {
        path for method, path, status in asked if method == "GET" and "/blobs/" in path and status == 200
    }
    assert len(pulled) == 2 * (1 + 3), "configuration and three layers"
    for host in ("bot2", "bot3"):
        assert made.say(host, IMAGES) == "clawd-runtime", "without a base: it was not made here"
        made.say(host, HEALTHY)


def test_new_release_of_the_bot_transfers_only_its_own_layer(made: Sharing) -> None:
    blobs, before = made.registry.blobs, len(made.registry.requests)
    made.program = made.another_release("second")
    made.up()
    new = {digest: size for digest, size in made.registry.blobs.items() if digest not in blobs}
    print(f"{sorted(blobs.values())} bytes were there, {sorted(new.values())} came")
    assert len(new) == 2 * (1 + 1 + 1), "manifest, configuration and one layer"
    assert sum(new.values()) < 2_000_000 < sum(blobs.values()) // 20
    asked = made.registry.requests[before:]
    pulled = {path.rpartition(":")[2] for method, path, _ in asked if method == "GET" and "/blobs/" in path}
    assert pulled <= set(new)
    for host in made.hosts:
        made.say(host, HEALTHY)


def test_unreachable_registry_is_reported_and_old_bots_keep_serving(made: Sharing) -> None:
    made.registry.stop()
    made.program = made.another_release("third")
    failures = made.failing(*made.hosts)
    for each in failures:
        failure = each["failure"]
        assert failure["component"] == "runtime"
        assert failure["operation"].startswith("Image clawd-runtime:")
        assert f"the registry does not take {made.registry.name}/team" in "\n".join(failure["output"])
        assert "connection refused" in "\n".join(failure["output"])
        assert "check that the registry runs" in failure["advice"]
    assert failures


def test_refused_registry_login_is_reported_and_a_good_one_shares_the_image(made: Sharing) -> None:
    made.registry.start("another")
    refused = [each["failure"] for each in made.failing(*made.hosts)]
    assert all("docker.registry_login" in failure["advice"] for failure in refused), refused
    made.sharing(*made.hosts, login=False)
    assert all("docker.registry_login" in each["failure"]["advice"] for each in made.failing(*made.hosts))
    made.registry.stop()
    made.registry.start(PASSWORD)
    made.sharing(*made.hosts)
    pushed = len(manifests(made.registry, "PUT"))
    made.up()
    assert len(manifests(made.registry, "PUT")) > pushed
    for host in made.hosts:
        made.say(host, HEALTHY)


def manifests(registry: Registry, method: str) -> list[str]:
    return [path for how, path, _ in registry.requests if how == method and "/manifests/" in path]

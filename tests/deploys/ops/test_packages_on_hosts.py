"""On real hosts: what a component brought goes with it, and updates come from where they are wanted from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision import sandbox
from provision.sandbox import Layout

pytestmark = [
    pytest.mark.host,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="making hosts needs root"),
]

ROOT = Path(__file__).resolve().parents[3]
RELEASES = ("bookworm", "trixie")
DEPLOY = """
from pyinfra import host
from deploys.ops import packages, upgrades

for action, *arguments in {steps}:
    if action == "install":
        packages.installed(*arguments[1:], component=arguments[0])
    elif action == "upgrade":
        upgrades.current(arguments[0])
    else:
        packages.removed(arguments[0])
"""


class Host:
    """A real host, to which the plain pyinfra command carries operations on packages."""

    def __init__(self, name: str, layout: Layout, folder: Path) -> None:
        self.name, self.layout, self.folder = name, layout, folder

    def apply(self, *steps: tuple[str, ...]) -> int:
        """Carries the steps out in one run; returns how many operations changed something."""
        values = {
            "ssh_hostname": str(self.layout.address(self.name)),
            "ssh_user": "operator",
            "ssh_key": str(self.layout.key),
            "ssh_known_hosts_file": str(self.layout.known_hosts),
            "ssh_strict_host_key_checking": "yes",
            "_sudo": True,
        }
        inventory, deploy = self.folder / f"{self.name}.py", self.folder / f"{self.name}_deploy.py"
        inventory.write_text(f"hosts = [({self.name!r}, {values!r})]\n")
        deploy.write_text(DEPLOY.replace("{steps}", json.dumps(steps)))
        done = subprocess.run(
            [sys.executable, "-m", "pyinfra", "--yes", str(inventory), str(deploy)],
            capture_output=True, text=True, cwd=self.folder, timeout=200,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        total = next(line for line in (done.stdout + done.stderr).splitlines() if "Grand total" in line)
        return int(total.split()[3].replace("-", "0"))

    def has(self, *names: str) -> set[str]:
        """Which of these packages are there in any way."""
        shown = sandbox.execute(
            self.name,
            f"dpkg-query -W -f='${{Package}}\\n' {' '.join(names)} 2>/dev/null || true",
            layout=self.layout,
        )
        return set(shown.split())

    def on(self, command: str) -> str:
        return sandbox.execute(self.name, command, layout=self.layout).strip()

    def offers(self, package: str, label: str, suite: str) -> None:
        """A repository of this label on the host's own disk, with version 2 of what is installed as 1."""
        self.on(_OFFERED.format(package=package, label=label, suite=suite))

    def versions(self, *names: str) -> set[str]:
        return set(self.on(f"dpkg-query -W -f='${{Package}}=${{Version}}\\n' {' '.join(names)}").split())


_OFFERED = """
set -e
mkdir -p /srv/{package} && cd /srv/{package}
for version in 1 2; do
    mkdir -p $version/DEBIAN
    printf '%s\\n' 'Package: {package}' "Version: $version" 'Architecture: all' \
        'Maintainer: a <a@example.com>' 'Description: has an update' > $version/DEBIAN/control
    dpkg-deb --build -Zgzip $version $version.deb >/dev/null
done
dpkg -i 1.deb >/dev/null
apt-mark auto {package} >/dev/null
sum() {{ sha256sum "$1" | cut -d ' ' -f 1; }}
cp 2/DEBIAN/control Packages
printf '%s\\n' 'Filename: ./2.deb' "Size: $(stat -c %s 2.deb)" "SHA256: $(sum 2.deb)" >> Packages
printf '%s\\n' 'Origin: x' 'Label: {label}' 'Suite: {suite}' 'Version: 12' "Date: $(date -Ru)" 'SHA256:' \
    " $(sum Packages) $(stat -c %s Packages) Packages" > Release
echo 'deb [trusted=yes] file:/srv/{package} ./' > /etc/apt/sources.list.d/{package}.list
"""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    folder = tmp_path_factory.mktemp("packages") / ".sandbox"
    box = Layout(folder, bridge="clawdp", subnet=IPv4Network("10.213.97.0/24"), table="clawd_packages_test")
    try:
        sandbox.up(len(RELEASES), RELEASES, layout=box)
        yield box
    finally:
        sandbox.down(layout=box, purge=True)


# One release in every test run, the other in campaigns.
HOSTS = (
    pytest.param("bot1", id="bookworm"),
    pytest.param("bot2", id="trixie", marks=pytest.mark.campaign),
)


@pytest.mark.parametrize("name", HOSTS)
def test_what_was_brought_goes_unless_it_is_needed(name: str, box: Layout) -> None:
    host = Host(name, box, box.folder.parent)
    assert host.apply(("install", "one", "jq", "hello")) == 1
    assert host.has("jq", "libjq1", "hello") == {"jq", "libjq1", "hello"}
    host.apply(("install", "two", "jq", "python3"))
    assert host.apply(("install", "one", "jq", "hello"), ("install", "two", "jq", "python3")) == 0

    host.apply(("remove", "one"))
    assert host.has("jq", "libjq1", "hello") == {"jq", "libjq1"}, "another component wants jq"
    host.apply(("remove", "two"))
    assert host.has("jq", "libjq1", "python3") == {"python3"}, "python3 was there before"
    assert host.apply(("remove", "one"), ("remove", "two")) == 0


@pytest.mark.parametrize("name", HOSTS)
def test_what_somebody_else_came_to_need_stays(name: str, box: Layout) -> None:
    host = Host(name, box, box.folder.parent)
    host.apply(("install", "three", "libonig5", "hello"))
    sandbox.execute(name, "apt-get install -qq -y --no-install-recommends jq >/dev/null", layout=box)
    host.apply(("remove", "three"))
    assert host.has("jq", "libonig5", "hello") == {"jq", "libonig5"}


@pytest.mark.parametrize("name", HOSTS)
def test_updates_come_from_where_they_are_wanted_from(name: str, box: Layout) -> None:
    host = Host(name, box, box.folder.parent)
    assert host.apply(("upgrade", "security")) == 1
    assert host.apply(("upgrade", "security")) == 0
    host.offers("safer", "Debian-Security", "stable-security")
    host.offers("newer", "Debian", "stable-updates")
    host.offers("others", "somebody", "stable-security")
    host.on("apt-get -qq update")
    assert host.apply(("upgrade", "security")) == 1
    assert host.versions("safer", "newer", "others") == {"safer=2", "newer=1", "others=1"}
    assert host.apply(("upgrade", "security")) == 0
    assert host.apply(("upgrade", "all")) == 1
    assert host.versions("safer", "newer", "others") == {"safer=2", "newer=2", "others=1"}
    assert host.apply(("upgrade", "all"), ("upgrade", "security")) == 0
    assert host.on("apt-mark showauto safer newer") == "newer\nsafer"

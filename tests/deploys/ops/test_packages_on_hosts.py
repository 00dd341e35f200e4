"""On real hosts: what a component brought goes with it, and updates come from where they are wanted from."""

from __future__ import annotations

import pytest

from tests.hosts import Box, Host, boxes, changed, in_every_run, on_hosts, until

pytestmark = on_hosts(seconds=300)

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


box = boxes("clawdp", 97)


class WithPackages(Host):
    """A host to which operations on packages are carried."""

    def does(self, *steps: tuple[str, ...]) -> frozenset[str]:
        """What these steps changed, in one run."""
        return changed(self.run(DEPLOY.replace("{steps}", repr(steps))))

    def has(self, *names: str) -> set[str]:
        """Which of these packages are there in any way."""
        asked = f"dpkg-query -W -f='${{Package}}\\n' {' '.join(names)} 2>/dev/null || true"
        return set(self.on(asked).split())

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


_FAILS = """
set -e
dpkg-query -W -f='${Package}\\n' | sort > /root/before
mkdir -p /srv/fails/1/DEBIAN && cd /srv/fails
printf '%s\\n' 'Package: fails' 'Version: 1' 'Architecture: all' 'Depends: jq' \
    'Maintainer: a <a@example.com>' 'Description: cannot be configured' > 1/DEBIAN/control
mkdir -p 1/usr/lib/systemd/system
printf '[Service]\\nExecStart=/bin/false\\n' > 1/usr/lib/systemd/system/fails.service
printf '%s\\n' '#!/bin/sh' 'echo once >> /srv/fails/tried' 'systemctl daemon-reload' 'systemctl start fails' \
    'exit 10' > 1/DEBIAN/postinst
printf '%s\\n' '#!/bin/sh' 'systemctl daemon-reload' > 1/DEBIAN/postrm
chmod 755 1/DEBIAN/postinst 1/DEBIAN/postrm
dpkg-deb --build -Zgzip 1 1.deb >/dev/null
cp 1/DEBIAN/control Packages
printf '%s\\n' 'Filename: ./1.deb' "Size: $(stat -c %s 1.deb)" \
    "SHA256: $(sha256sum 1.deb | cut -d ' ' -f 1)" >> Packages
echo 'deb [trusted=yes] file:/srv/fails ./' > /etc/apt/sources.list.d/fails.list
apt-get -qq update
"""


@pytest.fixture(params=in_every_run("bookworm"))
def host(request: pytest.FixtureRequest, box: Box) -> WithPackages:
    return WithPackages(box, box.named(request.param))


def test_what_was_brought_goes_unless_it_is_needed(host: WithPackages) -> None:
    assert len(host.does(("install", "one", "jq", "hello"))) == 1
    assert host.has("jq", "libjq1", "hello") == {"jq", "libjq1", "hello"}
    host.does(("install", "two", "jq", "python3"))
    assert not host.does(("install", "one", "jq", "hello"), ("install", "two", "jq", "python3"))

    host.does(("remove", "one"))
    assert host.has("jq", "libjq1", "hello") == {"jq", "libjq1"}, "another component wants jq"
    host.does(("remove", "two"))
    assert host.has("jq", "libjq1", "python3") == {"python3"}, "python3 was there before"
    assert not host.does(("remove", "one"), ("remove", "two"))


def test_a_service_goes_with_its_package_and_takes_nothing_of_others_along(host: WithPackages) -> None:
    """Stopped by its own file, that of nftables would flush the rules of every program."""
    host.does(("install", "five", "nftables"))
    host.on("systemctl start nftables; nft add table inet of_another")
    assert host.on("systemctl is-active nftables") == "active"
    host.does(("remove", "five"))
    assert "nftables" not in host.on("systemctl list-units --all --plain")
    host.does(("install", "five", "nftables"))
    assert "table inet of_another" in host.on("nft list tables").splitlines()
    host.on("nft flush ruleset")
    host.does(("remove", "five"))


def test_what_a_failed_installation_brought_goes_too(host: WithPackages) -> None:
    """A package whose configuration fails, as that of a kernel module does that cannot be built."""
    host.on(_FAILS)
    install = DEPLOY.replace("{steps}", repr((("install", "four", "fails", "hello"),)))
    assert not host.run(install).succeeded
    assert host.on("cat /srv/fails/tried") == "once"
    assert host.has("fails", "jq", "hello") == {"fails", "jq", "hello"}
    until(lambda: "fails.service" in host.on("systemctl list-units --failed"))
    host.does(("remove", "four"))
    assert host.has("fails", "jq", "libjq1", "hello") == set()
    assert "fails.service" not in host.on("systemctl list-units --failed")
    # A connection that breaks off leaves no more than the list of what was there.
    host.run(install)
    host.on("cd /var/lib/clawd/state/packages && rm four && cp /root/before four.before")
    host.does(("remove", "four"))
    assert host.has("fails", "jq", "libjq1", "hello") == set()
    assert not host.does(("remove", "four"))
    host.on("rm -r /srv/fails /etc/apt/sources.list.d/fails.list")


def test_what_somebody_else_came_to_need_stays(host: WithPackages) -> None:
    host.does(("install", "three", "libonig5", "hello"))
    host.on("apt-get install -qq -y --no-install-recommends jq >/dev/null")
    host.does(("remove", "three"))
    assert host.has("jq", "libonig5", "hello") == {"jq", "libonig5"}


def test_updates_come_from_where_they_are_wanted_from(host: WithPackages) -> None:
    assert len(host.does(("upgrade", "security"))) == 1
    assert not host.does(("upgrade", "security"))
    host.offers("safer", "Debian-Security", "stable-security")
    host.offers("newer", "Debian", "stable-updates")
    host.offers("others", "somebody", "stable-security")
    host.on("apt-get -qq update")
    assert len(host.does(("upgrade", "security"))) == 1
    assert host.versions("safer", "newer", "others") == {"safer=2", "newer=1", "others=1"}
    assert not host.does(("upgrade", "security"))
    assert len(host.does(("upgrade", "all"))) == 1
    assert host.versions("safer", "newer", "others") == {"safer=2", "newer=2", "others=1"}
    assert not host.does(("upgrade", "all"), ("upgrade", "security"))
    assert host.on("apt-mark showauto safer newer") == "newer\nsafer"

"""On real hosts: what a component brought goes with it, and updates come from where they are wanted from."""

from __future__ import annotations

import time

import pytest

from tests.hosts import Box, Host, boxes, changed, in_every_run, on_hosts, until

pytestmark = on_hosts(seconds=300)

DEPLOY = """
from pyinfra import host
from deploys.ops.debian import packages, upgrades

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
        """Which of these packages are there in any way.

        dpkg also knows the names of packages that another one only recommends.
        """
        form = "${Package} ${db:Status-Status}\\n"
        listed = self.on(f"dpkg-query -W -f='{form}' {' '.join(names)} 2>/dev/null || true")
        rows = (line.split() for line in listed.splitlines())
        return {name for name, status in rows if status != "not-installed"}

    def offers(self, package: str, label: str, suite: str) -> None:
        """A repository of this label on the host's own disk, with version 2 of what is installed as 1."""
        self.on(_OFFERED.format(package=package, label=label, suite=suite))

    def packs(self, name: str, *fields: str, preinst: str = "", conffile: str = "") -> None:
        """A package in a repository on the host's own disk."""
        control = "\n".join((f"Package: {name}", "Version: 1", *fields))
        values = {"name": name, "control": control, "preinst": preinst, "conffile": conffile}
        self.on(_PACKED.format(**values))

    def kills_installation(self, component: str, package: str) -> None:
        """Installs a package, kills that while the package's preinst waits, and repairs as people do."""
        self.on("rm -f /srv/go /srv/begun")
        run = self.start(DEPLOY.replace("{steps}", repr((("install", component, package),))))
        try:
            until(lambda: "begun" in self.on("ls /srv").split(), seconds=90)
            self.on("pkill -9 -x apt-get; pkill -9 -x dpkg; pkill -9 -x cat; touch /srv/go")
            run.wait(60)
        finally:
            run.kill()
            self.on("touch /srv/go")
        self.on("dpkg --configure -a")

    def manual(self, *names: str) -> set[str]:
        """Which of these packages apt does not remove automatically."""
        return set(self.on(f"apt-mark showmanual {' '.join(names)}").split())

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


_PACKED = """
set -e
mkdir -p /srv/packed/{name}/DEBIAN && cd /srv/packed
printf '%s\\n' '{control}' 'Architecture: all' 'Maintainer: a <a@example.com>' 'Description: packed' \
    > {name}/DEBIAN/control
if [ '{preinst}' ]; then
    printf '%s\\n' '#!/bin/sh' '{preinst}' > {name}/DEBIAN/preinst
    chmod 755 {name}/DEBIAN/preinst
fi
if [ '{conffile}' ]; then
    mkdir -p "{name}$(dirname '{conffile}')"
    echo shipped > '{name}{conffile}'
    echo '{conffile}' > {name}/DEBIAN/conffiles
fi
dpkg-deb --build -Zgzip {name} {name}.deb >/dev/null
cp {name}/DEBIAN/control {name}.control
printf '%s\\n' 'Filename: ./{name}.deb' "Size: $(stat -c %s {name}.deb)" \
    "SHA256: $(sha256sum {name}.deb | cut -d ' ' -f 1)" '' >> {name}.control
cat *.control > Packages
echo 'deb [trusted=yes] file:/srv/packed ./' > /etc/apt/sources.list.d/packed.list
apt-get -qq update
"""


_FAILS = """
set -e
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


@pytest.fixture(autouse=True)
def _without_packages_of_other_tests(host: WithPackages) -> None:
    """Begin without the packages that several tests install by hand."""
    host.on(_CLEARED)


_CLEARED = """
there=$(dpkg-query -W -f='${Package} ${db:Status-Status}\\n' hello tree jq libjq1 2>/dev/null |
    sed -n 's/ \\(installed\\|config-files\\|half-.*\\|unpacked\\)$//p')
[ ! "$there" ] || apt-get purge -qq -y --auto-remove $there >/dev/null
"""


def test_removal_removes_packages_that_no_other_component_needs(host: WithPackages) -> None:
    assert len(host.does(("install", "one", "jq", "hello"))) == 1
    assert host.has("jq", "libjq1", "hello") == {"jq", "libjq1", "hello"}
    host.does(("install", "two", "jq", "python3"))
    assert not host.does(("install", "one", "jq", "hello"), ("install", "two", "jq", "python3"))

    host.does(("remove", "one"))
    assert host.has("jq", "libjq1", "hello") == {"jq", "libjq1"}, "another component wants jq"
    host.does(("remove", "two"))
    assert host.has("jq", "libjq1", "python3") == {"python3"}, "python3 was there before"
    assert not host.does(("remove", "one"), ("remove", "two"))


def test_removal_of_nftables_keeps_rules_of_other_programs(host: WithPackages) -> None:
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


def test_removal_removes_packages_of_a_failed_installation(host: WithPackages) -> None:
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
    assert not host.does(("remove", "four"))
    host.on("rm -r /srv/fails /etc/apt/sources.list.d/fails.list")


def test_removal_keeps_packages_that_later_packages_need(host: WithPackages) -> None:
    host.does(("install", "three", "libonig5", "hello"))
    host.on("apt-get install -qq -y --no-install-recommends jq >/dev/null")
    host.does(("remove", "three"))
    assert host.has("jq", "libonig5", "hello") == {"jq", "libonig5"}


def test_upgrade_installs_only_from_selected_origins(host: WithPackages) -> None:
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


def test_removal_keeps_packages_installed_after_a_killed_installation(host: WithPackages) -> None:
    """Killed while it unpacks its last package: what it brought by then is its own, what follows is not."""
    host.packs(
        "slow", "Pre-Depends: jq", preinst="touch /srv/begun; until [ -e /srv/go ]; do sleep 0.1; done"
    )
    host.kills_installation("six", "slow")
    assert host.has("jq", "libjq1") == {"jq", "libjq1"}, "they came first"
    host.on("apt-get install -qq -y --no-install-recommends hello tree >/dev/null")
    host.does(("remove", "six"))
    assert host.has("slow", "jq", "libjq1", "hello", "tree") == {"hello", "tree"}
    host.on("apt-get purge -qq -y hello tree >/dev/null")


def test_removal_removes_all_packages_of_a_killed_and_completed_installation(host: WithPackages) -> None:
    host.packs(
        "slow", "Pre-Depends: jq", preinst="touch /srv/begun; until [ -e /srv/go ]; do sleep 0.1; done"
    )
    host.kills_installation("six", "slow")
    host.on("apt-get install -qq -y --no-install-recommends tree >/dev/null")
    host.does(("install", "six", "slow"))
    assert host.manual("slow", "jq", "libjq1", "tree") == {"tree"}
    host.does(("remove", "six"))
    assert host.has("slow", "jq", "libjq1", "tree") == {"tree"}
    host.on("apt-get purge -qq -y tree >/dev/null")


def test_removal_keeps_packages_marked_as_manual(host: WithPackages) -> None:
    host.does(("install", "seven", "jq", "hello", "tree"))
    assert host.manual("jq", "libjq1", "hello", "tree") == set()
    removable = host.on("apt-get -s autoremove | sed -n 's/^Remv \\([^ ]*\\).*/\\1/p'").split()
    assert not {"jq", "libjq1", "hello", "tree"} & set(removable)
    host.on("apt-mark manual libjq1 >/dev/null; apt-get install -qq -y hello >/dev/null")
    host.does(("remove", "seven"))
    assert host.has("jq", "libjq1", "hello", "tree") == {"libjq1", "hello"}
    host.on("apt-get purge -qq -y libjq1 hello >/dev/null; apt-get autoremove -qq -y --purge >/dev/null")
    assert not host.on("ls /etc/apt/apt.conf.d | grep clawd || true")


def test_removal_keeps_packages_that_a_later_one_recommends(host: WithPackages) -> None:
    host.packs("earlier", "Recommends: tree")
    host.packs("later", "Recommends: no-such-package | hello (>= 1)")
    host.on("apt-get install -qq -y --no-install-recommends earlier >/dev/null")
    host.does(("install", "eight", "hello", "tree"))
    host.on("apt-get install -qq -y --no-install-recommends later >/dev/null")
    host.does(("remove", "eight"))
    assert host.has("hello", "tree") == {"hello"}, "earlier did without tree"
    host.on("apt-get purge -qq -y earlier later hello >/dev/null")


def test_removal_keeps_configuration_left_by_an_earlier_package(host: WithPackages) -> None:
    host.packs("kept", conffile="/etc/kept.conf")
    host.on("apt-get install -qq -y kept >/dev/null; echo mine > /etc/kept.conf; apt-get remove -qq -y kept")
    host.does(("install", "nine", "kept"))
    host.does(("remove", "nine"))
    assert host.on("cat /etc/kept.conf") == "mine"
    host.on("apt-get purge -qq -y kept >/dev/null")
    host.does(("install", "nine", "kept"))
    host.does(("remove", "nine"))
    assert host.on("ls /etc/kept.conf 2>/dev/null || true") == ""


def test_package_installed_automatically_before_stays_automatic(host: WithPackages) -> None:
    host.on("apt-get install -qq -y --no-install-recommends jq >/dev/null")
    host.does(("install", "ten", "libjq1"))
    assert host.manual("jq", "libjq1") == {"jq"}
    host.does(("remove", "ten"))
    assert host.has("jq", "libjq1") == {"jq", "libjq1"}
    host.on("apt-get purge -qq -y jq >/dev/null; apt-get autoremove -qq -y --purge >/dev/null")


def test_installation_fails_rather_than_remove_a_package_of_others(host: WithPackages) -> None:
    host.packs("rival", "Conflicts: hello")
    host.on("apt-get install -qq -y --no-install-recommends hello >/dev/null")
    tried = host.run(DEPLOY.replace("{steps}", repr((("install", "eleven", "rival"),))))
    assert not tried.succeeded
    assert "installing rival would remove hello" in tried.output
    assert host.has("rival", "hello") == {"hello"}
    host.on("apt-get purge -qq -y hello >/dev/null")
    host.does(("install", "eleven", "hello"))
    host.does(("install", "eleven", "rival"))
    assert host.has("rival", "hello") == {"rival"}, "a component brought hello"
    host.does(("remove", "eleven"))


def test_interrupted_dpkg_is_completed_when_its_lock_is_free(host: WithPackages) -> None:
    """As on the first boot, when cloud-init installs packages."""
    host.on("awk 'NR == 1, /^$/' /var/lib/dpkg/status > /var/lib/dpkg/updates/0000")
    host.on(_HELD)
    started = time.monotonic()
    host.does(("install", "twelve", "hello"))
    assert time.monotonic() - started > 6
    assert host.on("ls /var/lib/dpkg/updates") == ""
    host.does(("remove", "twelve"))


_HELD = """
cat > /srv/hold.py <<'END'
import fcntl, sys, time
held = [open(path, "w") for path in sys.argv[2:]]
for file in held:
    fcntl.lockf(file, fcntl.LOCK_EX)
time.sleep(float(sys.argv[1]))
END
setsid python3 /srv/hold.py 8 /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock >/dev/null 2>&1 &
setsid python3 /srv/hold.py 10 /var/lib/apt/lists/lock /var/cache/apt/archives/lock >/dev/null 2>&1 &
sleep 1
"""

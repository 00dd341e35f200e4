"""Users of services put links where root writes: no file of root's is overwritten, given away or removed."""

from __future__ import annotations

import pytest

from tests.hosts import Box, Host, boxes, in_every_run, on_hosts

pytestmark = on_hosts(seconds=600)

VERSION = {"bookworm": "15", "trixie": "17"}
VICTIM = "/root/victim"
METRICS = "/var/lib/clawd/node-exporter"
PASSWORD = "a-password-of-the-database"
DEBIANS = "/var/lib/prometheus/node-exporter"
# What root has in a folder of another user, of all that was written since the host was made.
ROOTS_ELSEWHERE = """
find /etc /opt /srv /usr/local /var /home -xdev -newer /root/began -type f -user root -printf '%h\\n' |
sort -u | while read -r folder; do [ "$(stat -c %U "$folder")" = root ] || echo "$folder"; done
"""
SHOWN = "python3 -c \"import urllib.request as r; print(r.urlopen('http://127.0.0.1:9100/metrics').read().decode())\""

box = boxes("clrw", 176)


class Attacked(Host):
    """A host with a database, exporters and an operator."""

    def up(self, *, operators: bool = True) -> frozenset[str]:
        key = self.layout.key.with_suffix(".pub").read_text().strip()
        anna = [{"name": "anna", "keys": [key]}] if operators else []
        names = {
            "names": [self.address],
            "clients": [self.box.machine],
            "password": PASSWORD,
        }
        return self.apply(
            base={"operators": anna},
            database=names,
            exporters={"name": self.address, "listen": "127.0.0.1", "database": True},
        )

    def attacker(self, user: str, command: str) -> bool:
        """Whether this is allowed to a user of the host."""
        return (
            self.on(f"runuser -u {user} -- sh -c {command!r} >/dev/null 2>&1 && echo yes || echo no") == "yes"
        )

    def victim(self) -> str:
        return self.on(f"stat -c '%U %a' {VICTIM}; cat {VICTIM}")


UNHARMED = "root 600\nof root"


@pytest.fixture(scope="module", params=in_every_run("bookworm"))
def host(request: pytest.FixtureRequest, box: Box) -> Attacked:
    host = Attacked(box, box.named(request.param))
    host.on(f"touch /root/began; umask 077; echo of root > {VICTIM}")
    host.up()
    assert host.up() == frozenset()
    return host


def test_metrics_do_not_follow_links_of_the_exporter_user(host: Attacked) -> None:
    assert not host.attacker("prometheus", f"mv {METRICS} {METRICS}.away || ln -s {VICTIM} {METRICS}/a.prom")
    assert host.attacker("prometheus", f"mv {DEBIANS} {DEBIANS}.away && mkdir {DEBIANS}")
    for name in ("database_backup", "certificates", "tls"):
        for suffix in ("", ".new"):
            assert host.attacker("prometheus", f"ln -s {VICTIM} {DEBIANS}/clawd_{name}.prom{suffix}")
    host.on("systemctl start clawd-database-backup clawd-certificate-metrics")
    assert host.victim() == UNHARMED
    assert host.up() == {
        f"Remove {DEBIANS}/clawd_{name}.prom" for name in ("database_backup", "certificates", "tls")
    }
    assert host.victim() == UNHARMED
    host.on(f"rm -rf {DEBIANS} && mv {DEBIANS}.away {DEBIANS}")
    shown = host.on(SHOWN)
    assert "\nclawd_database_backup_success 1" in shown
    assert '\nclawd_certificate_not_after_seconds{service="database"}' in shown
    assert "\nnode_textfile_scrape_error 0" in shown


def test_textfile_metrics_of_the_administrator_are_still_exported(host: Attacked) -> None:
    host.on(f"echo 'smart_ok 1' > {DEBIANS}/smart.prom")
    shown = host.on(SHOWN)
    assert "\nsmart_ok 1" in shown
    host.on(f"rm {DEBIANS}/smart.prom")


def test_postgresql_settings_are_written_with_rights_of_its_user(host: Attacked) -> None:
    folder = f"/etc/postgresql/{VERSION[host.release]}/main"
    assert host.attacker("postgres", f"ln -sfn {VICTIM} {folder}/pg_hba.conf")
    assert host.up() >= {f"Write {folder}/pg_hba.conf"}
    assert host.victim() == UNHARMED
    assert host.on(f"stat -c %U {folder}/pg_hba.conf {folder}/conf.d/10-clawd.conf") == "postgres\npostgres"
    assert host.attacker("postgres", f"mv {folder}/conf.d {folder}/away && ln -s /root {folder}/conf.d")
    assert not host.attempt(
        database={
            "names": [host.address],
            "clients": [host.box.machine],
            "password": PASSWORD,
        }
    ).succeeded
    assert host.on("ls -A /root | grep clawd || true") == ""
    assert host.attacker("postgres", f"rm {folder}/conf.d && mv {folder}/away {folder}/conf.d")
    host.up()


def test_restore_does_not_read_a_linked_dump_with_rights_of_root(host: Attacked) -> None:
    assert host.attacker("postgres", f"ln -sfn {VICTIM} /var/backups/clawd/clawd-link.dump")
    output = host.on("/usr/local/lib/clawd/restore-database /var/backups/clawd/clawd-link.dump 2>&1 || true")
    host.on("rm /var/backups/clawd/clawd-link.dump")
    assert "is not a dump that can be read" in output
    assert "of root" not in output


def test_retiring_an_operator_does_not_follow_a_link_of_theirs(host: Attacked) -> None:
    keys = host.on("cat /root/.ssh/authorized_keys")
    assert host.attacker("anna", "cd ~ && rm -rf .ssh && ln -s /root/.ssh .ssh")
    assert "Retire login anna" in host.apply(base={})
    assert host.on("cat /root/.ssh/authorized_keys") == keys
    host.on("rm /home/anna/.ssh")


def test_root_owns_no_file_in_folders_of_other_users(host: Attacked) -> None:
    host.up()
    assert host.on(ROOTS_ELSEWHERE) == ""
    # The same question finds one that is there.
    host.on("touch /home/anna/planted")
    assert host.on(ROOTS_ELSEWHERE) == "/home/anna"
    host.on("rm /home/anna/planted")


def test_unprivileged_user_finds_no_secret_in_files_or_processes(host: Attacked) -> None:
    """Anybody with a shell on the host finds the database's password in no file and no process."""
    places = "/etc /var/lib /var/log /var/backups /run /tmp /opt /proc/[0-9]*/cmdline /proc/[0-9]*/environ"
    search = f"runuser -u nobody -- grep -rlsa {PASSWORD[:-1]}[{PASSWORD[-1]}] {places} || true"
    host.on(f"echo {PASSWORD} > /etc/planted")
    assert host.on(search) == "/etc/planted"
    host.on("rm /etc/planted")
    assert host.on(search) == ""

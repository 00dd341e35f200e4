"""PostgreSQL on real hosts of both releases, carried there by the plain `pyinfra` command.

What the checks say is asked as `clawd-provision verify` asks it. This machine plays the bot's host.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import psycopg
import pytest

from inventory.load import load
from provision import sandbox
from provision.assign import Selection, assign
from provision.sandbox import Layout
from provision.verify import verify

pytestmark = [
    pytest.mark.host,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="making hosts needs root"),
]

ROOT = Path(__file__).resolve().parents[3]
RELEASES = {"bot1": "bookworm", "bot2": "trixie"}
VERSION = {"bot1": "15", "bot2": "17"}
PASSWORD = "the-first-of-the-passwords"
DEPLOY = "deploys.database.deploy"
NOTHING: frozenset[str] = frozenset()
SLOW = pytest.mark.campaign


@dataclass
class Box:
    """Two hosts, and the folder of a made-up operator who uses nothing but pyinfra."""

    layout: Layout
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def machine(self) -> str:
        return str(self.layout.machine_address)

    def address(self, name: str) -> str:
        return str(self.layout.address(name))

    def on(self, name: str, command: str) -> str:
        return sandbox.execute(name, command, layout=self.layout, timeout=120).strip()

    def sql(self, name: str, query: str, database: str = "clawd") -> str:
        return self.on(name, f'cd / && runuser -u postgres -- psql -XAt -d {database} -c "{query}"')

    def run(self, operations: str, *names: str, **data: Any) -> tuple[bool, frozenset[str], str]:
        """Whether pyinfra carried `operations` out on these hosts (both), what changed, and its output."""
        hosts = [(name, self.data(name) | data) for name in names or RELEASES]
        inventory = self.folder / f"{'-'.join(names) or 'both'}.py"
        inventory.write_text(f"hosts = {hosts!r}\n")
        done = subprocess.run(
            [sys.executable, "-m", "pyinfra", "--yes", str(inventory), operations],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=self.folder,
            timeout=300,
        )
        rows = re.findall(
            r"^    \S[^|\n]* \| (.*?) +[12] +(\d+|-) +(?:\d|-) +(?:\d|-) *$", done.stdout, re.MULTILINE
        )
        changed = frozenset(anywhere(name) for name, success in rows if success != "-")
        return done.returncode == 0, changed, done.stdout

    def apply(self, *names: str, **changes: Any) -> frozenset[str]:
        """Applies the settings, which stay changed; returns what that changed on the hosts."""
        self.settings |= changes
        succeeded, changed, output = self.run(f"{DEPLOY}.apply", *names)
        assert succeeded, output
        return changed

    def data(self, name: str) -> dict[str, Any]:
        return {
            "ssh_hostname": self.address(name),
            "ssh_user": "operator",
            "ssh_key": str(self.layout.key),
            "ssh_known_hosts_file": str(self.layout.known_hosts),
            "ssh_strict_host_key_checking": "yes",
            "_sudo": True,
            "supplies": {"state_folder": str(self.folder / ".clawd" / "clawd")},
            "database": {
                "names": [self.address(name)],
                "clients": [self.machine],
                "password": PASSWORD,
                **self.settings,
            },
        }

    def failing(self, name: str) -> set[str]:
        """What `verify` finds wrong, told an inventory in which this machine runs the bot."""
        file = self.folder / f"{name}.yml"
        login = {"user": "operator", "ssh_key": str(self.layout.key)}
        told = {
            "known_hosts": str(self.layout.known_hosts),
            "hosts": {
                name: {"address": self.address(name), "roles": ["database"], **login},
                "laptop": {"address": self.machine, "roles": ["runtime"], **login},
            },
            "models": {"default": {"engine": "openai-compatible", "endpoint": "http://127.0.0.1:1/v1"}},
            "database": {
                "password": "SECRET",
                "max_connections": self.settings.get("max_connections", 50),
                "backups": {"keep": self.settings.get("backups", {}).get("keep", 7)},
            },
        }
        os.environ["CLAWD_TEST_PASSWORD"] = self.settings.get("password", PASSWORD)
        file.write_text(json.dumps(told).replace('"SECRET"', "!env CLAWD_TEST_PASSWORD"))
        loaded = load(file)
        only = Selection(hosts=(name,), components=("database",))
        found = verify(loaded, assign(loaded.inventory, only))
        assert found.checks
        return {check.name for check in found.failed}

    def connect(self, name: str, **changes: Any) -> psycopg.Connection[Any]:
        """As the bot connects: the server's certificate checked by the project's authority."""
        arguments = {
            "host": self.address(name),
            "user": "clawd",
            "dbname": "clawd",
            "password": self.settings.get("password", PASSWORD),
            "sslmode": "verify-full",
            "sslrootcert": str(self.folder / ".clawd" / "clawd" / "ca" / "ca.pem"),
            "connect_timeout": 10,
            **changes,
        }
        return psycopg.connect(autocommit=True, **arguments)


def anywhere(name: str) -> str:
    """An operation's name without what differs between the two hosts."""
    return re.sub(r"/etc/postgresql/1[57]/main", "{folder}", re.sub(r"10\.213\.96\.1[12]", "{address}", name))


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """Two hosts to which the database has been applied, twice."""
    folder = tmp_path_factory.mktemp("database")
    layout = Layout(
        folder / ".sandbox", bridge="cldb", subnet=IPv4Network("10.213.96.0/24"), table="clawd_db_test"
    )
    try:
        sandbox.up(len(RELEASES), tuple(RELEASES.values()), layout=layout)
        box = Box(layout, folder)
        assert box.apply()
        assert box.apply() == NOTHING
        yield box
    finally:
        sandbox.down(layout=layout, purge=True)


@pytest.fixture(params=RELEASES, ids=RELEASES.values())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_checks_hold(box: Box, name: str) -> None:
    assert box.failing(name) == set()


def test_the_bot_may_use_its_database_and_nothing_else(box: Box, name: str) -> None:
    with box.connect(name) as bot:
        bot.execute("CREATE TABLE notes (id serial PRIMARY KEY, text text)")
        bot.execute("INSERT INTO notes (text) VALUES (%s)", ("早上好",))
        assert bot.execute("SELECT text FROM notes").fetchall() == [("早上好",)]
        assert bot.execute(
            "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        ).fetchone() == (
            True,
            "TLSv1.3",
        )
        for forbidden in (
            "CREATE ROLE other",
            "CREATE DATABASE other",
            "COPY notes TO '/tmp/notes'",
            "SELECT pg_read_file('/etc/passwd')",
            "SELECT rolpassword FROM pg_authid",
            "ALTER ROLE clawd SUPERUSER",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                bot.execute(forbidden)


@pytest.mark.parametrize(
    ("otherwise", "refusal"),
    [
        ({"password": "another-password"}, "password authentication failed"),
        ({"sslmode": "disable", "sslrootcert": ""}, "no pg_hba.conf entry .* no encryption"),
        ({"dbname": "postgres"}, "no pg_hba.conf entry"),
        ({"user": "postgres"}, "no pg_hba.conf entry"),
        ({"hostaddr": None, "sslrootcert": "other"}, "certificate verify failed"),
    ],
)
def test_everything_else_is_refused(box: Box, name: str, otherwise: dict[str, Any], refusal: str) -> None:
    if otherwise.get("sslrootcert") == "other":
        otherwise = {"sslrootcert": "/etc/ssl/certs/ca-certificates.crt"}
    with pytest.raises(psycopg.OperationalError, match=refusal):
        box.connect(name, **otherwise)


@SLOW
def test_a_host_that_runs_no_bot_is_refused(box: Box) -> None:
    box.on("bot2", f"test -x /usr/bin/psql && test {box.address('bot1')}")
    refused = box.on(
        "bot2",
        f"PGPASSWORD={PASSWORD} psql 'host={box.address('bot1')} user=clawd dbname=clawd' -c '' 2>&1 || true",
    )
    assert "no pg_hba.conf entry" in refused


@pytest.mark.parametrize(
    ("damage", "named", "repaired"),
    [
        pytest.param(
            (
                "echo 'ssl = off' >> {folder}/conf.d/20-clawd.conf",
                "echo 'host all all 0.0.0.0/0 trust' >> {folder}/pg_hba.conf",
                "systemctl reload postgresql",
                "until runuser -u postgres -- psql -XAtc 'SHOW ssl' | grep -q off; do sleep 0.1; done",
                "runuser -u postgres -- psql -Xqc 'ALTER ROLE clawd CREATEDB; GRANT pg_monitor TO clawd'",
                "runuser -u postgres -- psql -Xqc 'GRANT ALL ON DATABASE clawd TO PUBLIC'",
                "runuser -u postgres -- psql -Xqd clawd -c 'GRANT ALL ON SCHEMA public TO PUBLIC'",
                "echo exit 0 > /usr/local/lib/clawd/backup-database",
                "systemctl disable --now clawd-database-backup.timer",
                "rm /var/backups/clawd/*.dump",
                "chmod 755 /var/backups/clawd",
            ),
            {
                "settings in force",
                "only the bots are let in and only over tls",
                "serves its certificate",
                "login and database have no more rights than needed",
                "backups are made every night",
                "last backup can be read back",
                "data is private",
            },
            {
                "Write {folder}/conf.d/20-clawd.conf",
                "Write {folder}/pg_hba.conf",
                "Service postgresql",
                "Database and login clawd",
                "Write /usr/local/lib/clawd/backup-database",
                "Service clawd-database-backup.timer",
                "First backup of the database",
                "Folder /var/backups/clawd",
            },
            id="changed by hand",
        ),
        pytest.param(
            ("systemctl stop postgresql", "systemctl disable postgresql"),
            {
                "runs with what is on the disk",
                "settings in force",
                "only the bots are let in and only over tls",
                "login and database have no more rights than needed",
                "serves its certificate",
                "listens only where declared",
            },
            {"Service postgresql"},
            id="stopped",
            marks=SLOW,
        ),
        pytest.param(
            ("echo > /etc/clawd/database-tls/fullchain.pem",),
            {"runs with what is on the disk", "serves its certificate"},
            {"Certificate for {address}", "Service postgresql"},
            id="certificate",
            marks=SLOW,
        ),
    ],
)
def test_damage_is_named_and_exactly_that_is_repaired(
    box: Box, damage: tuple[str, ...], named: set[str], repaired: set[str]
) -> None:
    for name in RELEASES:
        folder = f"/etc/postgresql/{VERSION[name]}/main"
        box.on(name, "cd / && " + " && ".join(step.replace("{folder}", folder) for step in damage))
        assert box.failing(name) == named
    assert box.apply() == repaired
    assert [box.failing(name) for name in RELEASES] == [set(), set()]


@SLOW
def test_only_what_must_be_is_restarted(box: Box, name: str) -> None:
    started = "SELECT pg_postmaster_start_time()"
    before = box.sql(name, started)
    more = [box.machine, "192.0.2.77"]
    assert "Service postgresql" in box.apply(name, clients=more)
    assert box.sql(name, started) == before, "an address more needs no restart"
    with box.connect(name) as bot:
        assert "Service postgresql" in box.apply(name, max_connections=60)
        with pytest.raises(psycopg.OperationalError):
            bot.execute("SELECT 1")
    assert box.sql(name, started) != before
    assert box.sql(name, "SHOW max_connections") == "60"
    assert box.apply(name, clients=[box.machine], max_connections=50)
    assert box.apply(name) == NOTHING


@SLOW
@pytest.mark.parametrize(
    ("template", "text", "complaint"),
    [
        ("settings.conf", "ssl = on\nwork_mem = 'plenty'\n", "invalid value for parameter"),
        ("settings.conf", "ssl = on\nssl_cert_file = '/nowhere.pem'\n", "could not load server certificate"),
        ("start.conf", "shared_buffers = '400TB'\n", "FATAL"),
        ("pg_hba.conf", "hostssl clawd clawd nobody's-address scram\n", "FATAL"),
    ],
)
def test_what_postgresql_refuses_never_goes_live(
    box: Box, name: str, template: str, text: str, complaint: str
) -> None:
    mine = box.folder / "mine" / "database" / template
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text(text)
    state = "find /etc/postgresql /var/tmp -type f | sort | xargs sha256sum"
    before = box.on(name, state)
    supplies = {
        "state_folder": str(box.folder / ".clawd" / "clawd"),
        "template_overrides": str(mine.parents[1]),
    }
    try:
        succeeded, _, output = box.run(f"{DEPLOY}.apply", name, supplies=supplies)
    finally:
        mine.unlink()
    assert not succeeded
    assert complaint in output
    assert box.on(name, state) == before
    box.connect(name).close()


@SLOW
def test_a_new_password_takes_the_place_of_the_old(box: Box) -> None:
    old, new = PASSWORD, "the-second-of-the-passwords"
    assert box.apply(password=new) == {"Database and login clawd"}
    assert box.apply() == NOTHING
    for name in RELEASES:
        box.connect(name).close()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            box.connect(name, password=old)
        seen = box.on(
            name,
            f"grep -rlsE '{old}|{new}|SCRAM-SHA-256.4096:' /etc /var/log /var/lib/clawd /run /tmp /home "
            "/root /var/backups || true",
        )
        assert seen == "", "neither a password nor its verifier lies in a file"
        log = box.on(name, f"journalctl --no-pager | grep -cE '{old}|{new}|SCRAM-SHA-256.4096:' || true")
        assert log == "0"
    box.apply(password=old)


def test_a_dump_brings_the_rows_back(box: Box, name: str) -> None:
    textfiles = "/var/lib/prometheus/node-exporter"
    box.on(name, f"mkdir -p {textfiles}")
    with box.connect(name) as bot:
        bot.execute("DROP TABLE IF EXISTS kept")
        bot.execute("CREATE TABLE kept (id int PRIMARY KEY, text text)")
        bot.execute("INSERT INTO kept SELECT n, 'row ' || n FROM generate_series(1, 1000) n")
    box.on(name, "systemctl start clawd-database-backup")
    dump = box.on(name, "ls /var/backups/clawd/*.dump | tail -n 1")
    metrics = dict(line.split() for line in box.on(name, f"grep -v '^#' {textfiles}/*.prom").splitlines())
    assert metrics["clawd_database_backup_success"] == "1"
    made = int(metrics["clawd_database_backup_last_success_timestamp_seconds"])
    assert abs(int(box.on(name, "date +%s")) - made) < 60
    assert metrics["clawd_database_backup_size_bytes"] == box.on(name, f"stat -c %s {dump}")
    box.on(name, "cd / && runuser -u postgres -- dropdb --force clawd")
    told = box.on(name, f"/usr/local/lib/clawd/restore-database {dump}")
    assert told == f"clawd is what {dump} says."
    with box.connect(name) as bot:
        assert bot.execute("SELECT count(*), max(text) FROM kept").fetchone() == (1000, "row 999")
        bot.execute("DELETE FROM kept")
        # In its place while a bot is connected: the connection ends, what was there is kept.
        told = box.on(name, f"/usr/local/lib/clawd/restore-database {dump}")
    (kept,) = re.findall(r"is the database (clawd_before_\w+)\.", told)
    with box.connect(name) as bot:
        assert bot.execute("SELECT count(*) FROM kept").fetchone() == (1000,)
        bot.execute("INSERT INTO kept VALUES (1001, 'the bot owns it again')")
    assert box.sql(name, "SELECT count(*) FROM kept", kept) == "0"
    box.on(name, f"cd / && runuser -u postgres -- dropdb {kept}")
    assert box.apply(name) == NOTHING


@SLOW
def test_a_file_that_is_no_dump_changes_nothing(box: Box, name: str) -> None:
    refused = box.on(name, "/usr/local/lib/clawd/restore-database /etc/passwd 2>&1 || echo $?")
    assert refused.splitlines() == ["/etc/passwd is not a dump that can be read", "1"]
    damaged = "head -c 3000 $(ls /var/backups/clawd/*.dump | tail -n 1) > /root/damaged.dump"
    assert box.on(
        name, f"{damaged}; /usr/local/lib/clawd/restore-database /root/damaged.dump 2>&1 || echo no"
    )
    assert box.sql(name, "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database") == (
        "clawd postgres template0 template1"
    )
    box.connect(name).close()


@SLOW
def test_a_failed_backup_is_told(box: Box, name: str) -> None:
    metric = "grep -h '^clawd_database_backup_success' /var/lib/prometheus/node-exporter/*.prom"
    before = box.on(name, "ls -A /var/backups/clawd")
    box.sql(name, "ALTER DATABASE clawd ALLOW_CONNECTIONS false", "postgres")
    try:
        box.on(name, "! systemctl start clawd-database-backup")
        assert box.on(name, metric) == "clawd_database_backup_success 0"
        assert box.on(name, "ls -A /var/backups/clawd") == before, "neither a part nor a loss"
        assert "last backup can be read back" in box.failing(name)
    finally:
        box.sql(name, "ALTER DATABASE clawd ALLOW_CONNECTIONS true", "postgres")
    box.on(name, "systemctl start clawd-database-backup")
    assert box.on(name, metric) == "clawd_database_backup_success 1"
    assert box.failing(name) == set()


@SLOW
def test_the_newest_dumps_are_kept(box: Box, name: str) -> None:
    box.on(
        name, "cd /var/backups/clawd && for day in 1 2 3 4; do touch clawd-2020010${day}T000000Z.dump; done"
    )
    box.apply(name, backups={"keep": 2})
    box.on(name, "systemctl start clawd-database-backup")
    left = box.on(name, "ls /var/backups/clawd").splitlines()
    assert len(left) == 2
    assert not any(line.startswith("clawd-2020") for line in left), left
    box.apply(name, backups={"keep": 7})


LEFTOVERS = (
    "ls -d /etc/postgresql* /var/log/postgresql* /usr/local/lib/clawd/*database* "
    "/usr/local/lib/clawd/backup* "
    "/etc/systemd/system/*database* /etc/systemd/system/*/*database* /etc/clawd/database* "
    "/var/lib/prometheus/node-exporter/clawd* /var/lib/clawd/state/*database* /var/lib/clawd/state/postgres* "
    "/var/lib/clawd/state/packages/database* 2>/dev/null; "
    "dpkg-query -W -f '${Package} ${db:Status-Status}\\n' 'postgresql*' 2>/dev/null | grep -v not-installed; "
    "systemctl list-units --all --plain --type service,timer --no-legend '*postgres*' '*database*'; true"
)


def test_removed_and_taken_up_again_and_purged(box: Box) -> None:
    for name in RELEASES:
        with box.connect(name) as bot:
            bot.execute("CREATE TABLE memory AS SELECT 'still here' AS text")
    succeeded, changed, output = box.run(f"{DEPLOY}.remove")
    assert succeeded, output
    assert changed
    for name in RELEASES:
        assert box.on(name, LEFTOVERS) == ""
        assert box.on(name, f"cat /var/lib/postgresql/{VERSION[name]}/main/PG_VERSION") == VERSION[name]
        assert box.on(name, "ls /var/backups/clawd")
    assert box.run(f"{DEPLOY}.remove")[:2] == (True, NOTHING)
    assert box.apply()
    assert box.apply() == NOTHING
    for name in RELEASES:
        with box.connect(name) as bot:
            assert bot.execute("SELECT text FROM memory").fetchone() == ("still here",)
    succeeded, _, output = box.run(f"{DEPLOY}.remove", purge=True)
    assert succeeded, output
    assert box.run(f"{DEPLOY}.remove", purge=True)[:2] == (True, NOTHING)
    for name in RELEASES:
        assert box.on(name, LEFTOVERS) == ""
        assert (
            box.on(
                name, "ls -d /var/lib/postgresql /var/backups/clawd 2>/dev/null; getent passwd postgres; true"
            )
            == ""
        )

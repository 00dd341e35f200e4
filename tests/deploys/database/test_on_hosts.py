"""PostgreSQL on real hosts of both releases, carried there by the plain `pyinfra` command.

What the checks say is asked as `clawd-provision verify` asks it. This machine plays the bot's host.
"""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest

from tests.hosts import Box, Host, boxes, in_every_run, on_hosts, secret, together

pytestmark = on_hosts(seconds=600)

VERSION = {"bookworm": "15", "trixie": "17"}
PASSWORD = "the-first-of-the-passwords"
NOTHING: frozenset[str] = frozenset()
SLOW = pytest.mark.campaign


box = boxes("cldb", 96)


class Server(Host):
    """A host with the database."""

    @property
    def version(self) -> str:
        return VERSION[self.release]

    def sql(self, query: str, database: str = "clawd") -> str:
        return self.on(f'cd / && runuser -u postgres -- psql -XAt -d {database} -c "{query}"')

    def up(self, **changes: Any) -> frozenset[str]:
        return self.apply(database=self.settings(**changes))

    def settings(self, **changes: Any) -> dict[str, Any]:
        ours = {"names": [self.address], "clients": [self.box.machine], "password": PASSWORD}
        return ours | changes

    def failing(self) -> set[str]:
        """Return what `verify` finds wrong, with an inventory in which this machine runs the bot."""
        laptop = {**self.declared("runtime"), "address": self.box.machine}
        declared = {"password": secret(PASSWORD), "max_connections": 50, "backups": {"keep": 7}}
        loaded = self.loaded("database", others={"laptop": laptop}, database=declared)
        return self.failing_checks(loaded, "database")

    def connect(self, **changes: Any) -> psycopg.Connection[Any]:
        """As the bot connects: the server's certificate checked by the project's authority."""
        arguments = {
            "host": self.address,
            "user": "clawd",
            "dbname": "clawd",
            "password": PASSWORD,
            "sslmode": "verify-full",
            "sslrootcert": str(self.state_folder / "ca" / "ca.pem"),
            "connect_timeout": 10,
            **changes,
        }
        return psycopg.connect(autocommit=True, **arguments)


@pytest.fixture(scope="module")
def hosts(box: Box) -> dict[str, Server]:
    """Hosts to which the database has been applied, twice."""
    made = {release: Server(box, box.named(release)) for release in box.releases}
    together(made, lambda host: host.apply_twice(database=host.settings()))
    return made


@pytest.fixture(params=in_every_run("trixie"))
def host(request: pytest.FixtureRequest, hosts: dict[str, Server]) -> Server:
    return hosts[request.param]


def test_checks_pass_after_up(host: Server) -> None:
    assert host.failing() == set()


def test_bot_login_may_use_only_its_own_database(host: Server) -> None:
    with host.connect() as bot:
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
def test_connections_without_right_login_or_tls_are_refused(
    host: Server, otherwise: dict[str, Any], refusal: str
) -> None:
    if otherwise.get("sslrootcert") == "other":
        otherwise = {"sslrootcert": "/etc/ssl/certs/ca-certificates.crt"}
    with pytest.raises(psycopg.OperationalError, match=refusal):
        host.connect(**otherwise)


@SLOW
def test_connection_from_a_host_without_bot_is_refused(hosts: dict[str, Server]) -> None:
    asked, asking = hosts["bookworm"], hosts["trixie"]
    login = f"host={asked.address} user=clawd dbname=clawd"
    refused = asking.on(f"PGPASSWORD={PASSWORD} /usr/bin/psql '{login}' -c '' 2>&1 || true")
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
                "only bots may connect and only over tls",
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
                "only bots may connect and only over tls",
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
            {
                "runs with what is on the disk",
                "serves its certificate",
                "certificate does not end soon",
            },
            {"Certificate for {address}", "Service postgresql"},
            id="certificate",
            marks=SLOW,
        ),
    ],
)
def test_checks_report_damage_and_up_repairs_only_that(
    host: Server, damage: tuple[str, ...], named: set[str], repaired: set[str]
) -> None:
    folder = f"/etc/postgresql/{host.version}/main"
    host.on("cd / && " + " && ".join(step.replace("{folder}", folder) for step in damage))
    assert host.failing() == named
    assert host.up() == {name.format(folder=folder, address=host.address) for name in repaired}
    assert host.failing() == set()


@SLOW
def test_postgresql_restarts_only_for_settings_that_need_it(host: Server) -> None:
    started = "SELECT pg_postmaster_start_time()"
    before = host.sql(started)
    more = [host.box.machine, "192.0.2.77"]
    assert "Service postgresql" in host.up(clients=more)
    assert host.sql(started) == before, "an address more needs no restart"
    with host.connect() as bot:
        assert "Service postgresql" in host.up(clients=more, max_connections=60)
        with pytest.raises(psycopg.OperationalError):
            bot.execute("SELECT 1")
    assert host.sql(started) != before
    assert host.sql("SHOW max_connections") == "60"
    assert host.up()
    assert host.up() == NOTHING


@SLOW
@pytest.mark.parametrize(
    ("template", "text", "complaint"),
    [
        ("settings.conf", "ssl = on\nwork_mem = 'plenty'\n", "invalid value for parameter"),
        ("settings.conf", "ssl = on\nssl_cert_file = '/nowhere.pem'\n", "could not load server certificate"),
        ("start.conf", "shared_buffers = '400TB'\n", "FATAL"),
        ("pg_hba.conf", "hostssl clawd clawd not-an-address scram\n", "FATAL"),
    ],
)
def test_configuration_refused_by_postgresql_does_not_go_live(
    host: Server, template: str, text: str, complaint: str
) -> None:
    mine = host.folder / "mine" / "database" / template
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text(text)
    state = "find /etc/postgresql /var/tmp -type f | sort | xargs sha256sum"
    before = host.on(state)
    supplies = {"state_folder": str(host.state_folder), "template_overrides": str(mine.parents[1])}
    try:
        message = host.refused({"supplies": supplies}, database=host.settings())
    finally:
        mine.unlink()
    assert complaint in message
    assert host.on(state) == before
    host.connect().close()


@SLOW
def test_changed_password_replaces_the_old_one(host: Server) -> None:
    old, new = PASSWORD, "the-second-of-the-passwords"
    assert host.up(password=new) == {"Database and login clawd"}
    assert host.up(password=new) == NOTHING
    host.connect(password=new).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        host.connect(password=old)
    seen = host.on(
        f"grep -rlsE '{old}|{new}|SCRAM-SHA-256.4096:' /etc /var/log /var/lib/clawd /run /tmp /home "
        "/root /var/backups || true"
    )
    assert seen == "", "neither a password nor its verifier lies in a file"
    log = host.on(f"journalctl --no-pager | grep -cE '{old}|{new}|SCRAM-SHA-256.4096:' || true")
    assert log == "0"
    host.up()


def test_restore_of_a_dump_restores_the_rows(host: Server) -> None:
    textfiles = "/var/lib/clawd/node-exporter"
    host.on(f"mkdir -p {textfiles}")
    with host.connect() as bot:
        bot.execute("DROP TABLE IF EXISTS kept")
        bot.execute("CREATE TABLE kept (id int PRIMARY KEY, text text)")
        bot.execute("INSERT INTO kept SELECT n, 'row ' || n FROM generate_series(1, 1000) n")
    host.on("systemctl start clawd-database-backup")
    dump = host.on("ls /var/backups/clawd/*.dump | tail -n 1")
    metrics = dict(line.split() for line in host.on(f"grep -v '^#' {textfiles}/*.prom").splitlines())
    assert metrics["clawd_database_backup_success"] == "1"
    made = int(metrics["clawd_database_backup_last_success_timestamp_seconds"])
    assert abs(int(host.on("date +%s")) - made) < 60
    assert metrics["clawd_database_backup_size_bytes"] == host.on(f"stat -c %s {dump}")
    host.on("cd / && runuser -u postgres -- dropdb --force clawd")
    output = host.on(f"/usr/local/lib/clawd/restore-database {dump}")
    assert output == f"clawd is what {dump} says."
    with host.connect() as bot:
        assert bot.execute("SELECT count(*), max(text) FROM kept").fetchone() == (1000, "row 999")
        bot.execute("DELETE FROM kept")
        # In its place while a bot is connected: the connection ends, what was there is kept.
        output = host.on(f"/usr/local/lib/clawd/restore-database {dump}")
    (kept,) = re.findall(r"is the database (clawd_before_\w+)\.", output)
    with host.connect() as bot:
        assert bot.execute("SELECT count(*) FROM kept").fetchone() == (1000,)
        bot.execute("INSERT INTO kept VALUES (1001, 'the bot owns it again')")
    assert host.sql("SELECT count(*) FROM kept", kept) == "0"
    host.on(f"cd / && runuser -u postgres -- dropdb {kept}")
    assert host.up() == NOTHING


@SLOW
def test_restore_of_an_invalid_dump_is_refused_and_changes_nothing(host: Server) -> None:
    refused = host.on("/usr/local/lib/clawd/restore-database /etc/passwd 2>&1 || echo $?")
    assert refused.splitlines() == ["/etc/passwd is not a dump that can be read", "1"]
    host.on("systemctl start clawd-database-backup")
    half = "dump=$(ls /var/backups/clawd/*.dump | tail -n 1); head -c $(($(stat -c %s $dump) / 2)) $dump"
    host.on(f"{half} > /root/damaged.dump")
    refused = host.on("/usr/local/lib/clawd/restore-database /root/damaged.dump 2>&1 || echo no")
    assert refused.splitlines()[-1] == "no"
    assert host.sql("SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database") == (
        "clawd postgres template0 template1"
    )
    host.connect().close()


@SLOW
def test_failed_backup_is_exported_as_metric(host: Server) -> None:
    metric = "grep -h '^clawd_database_backup_success' /var/lib/clawd/node-exporter/*.prom"
    host.on("mkdir -p /var/lib/clawd/node-exporter && systemctl start clawd-database-backup")
    before = host.on("ls -A /var/backups/clawd")
    host.sql("ALTER DATABASE clawd ALLOW_CONNECTIONS false", "postgres")
    try:
        host.on("! systemctl start clawd-database-backup")
        assert host.on(metric) == "clawd_database_backup_success 0"
        assert host.on("ls -A /var/backups/clawd") == before, "neither a part nor a loss"
        assert "last backup can be read back" in host.failing()
    finally:
        host.sql("ALTER DATABASE clawd ALLOW_CONNECTIONS true", "postgres")
    host.on("systemctl start clawd-database-backup")
    assert host.on(metric) == "clawd_database_backup_success 1"
    assert host.failing() == set()


@SLOW
def test_backup_keeps_only_the_newest_dumps(host: Server) -> None:
    host.on("cd /var/backups/clawd && for day in 1 2 3 4; do touch clawd-2020010${day}T000000Z.dump; done")
    host.up(backups={"keep": 2})
    host.on("systemctl start clawd-database-backup")
    left = host.on("ls /var/backups/clawd").splitlines()
    assert len(left) == 2
    assert not any(line.startswith("clawd-2020") for line in left), left
    host.up()


LEFTOVERS = (
    "ls -d /etc/postgresql* /var/log/postgresql* /usr/local/lib/clawd/*database* "
    "/usr/local/lib/clawd/backup* "
    "/etc/systemd/system/*database* /etc/systemd/system/*/*database* /etc/clawd/database* "
    "/var/lib/clawd/node-exporter/clawd* /var/lib/clawd/state/*database* /var/lib/clawd/state/postgres* "
    "/var/lib/clawd/state/packages/database* 2>/dev/null; "
    "dpkg-query -W -f '${Package} ${db:Status-Status}\\n' 'postgresql*' 2>/dev/null | grep -v not-installed; "
    "systemctl list-units --all --plain --type service,timer --no-legend '*postgres*' '*database*'; true"
)


def test_removed_database_is_used_again_and_purge_deletes_it(host: Server) -> None:
    with host.connect() as bot:
        bot.execute("CREATE TABLE memory AS SELECT 'still here' AS text")
    theirs = (
        "/etc/postgresql-common/theirs.conf",
        f"/etc/postgresql/{host.version}/main/conf.d/90-theirs.conf",
    )
    host.on(f"echo 'log_checkpoints = on' | tee {' '.join(theirs)} && chown postgres: {theirs[1]}")
    assert f"postgresql-{host.version} installed" in host.on(LEFTOVERS).splitlines()
    assert host.remove("database")
    added = host.on("find /etc/postgresql /etc/postgresql-common ! -type d | sort")
    assert added == "\n".join(theirs), "of the administrator, and nothing else"
    host.on("rm -r /etc/postgresql-common; mv /etc/postgresql /root/theirs")
    assert host.on(LEFTOVERS) == ""
    host.on("mv /root/theirs /etc/postgresql")
    assert host.on(f"cat /var/lib/postgresql/{host.version}/main/PG_VERSION") == host.version
    assert host.on("ls /var/backups/clawd")
    assert host.remove("database") == NOTHING
    host.apply_twice(database=host.settings())
    with host.connect() as bot:
        assert bot.execute("SELECT text FROM memory").fetchone() == ("still here",)
    host.on(f"rm {theirs[1]}")
    host.remove("database", purge=True)
    assert host.remove("database", purge=True) == NOTHING
    assert host.on(LEFTOVERS) == ""
    kept = "ls -d /var/lib/postgresql /var/backups/clawd 2>/dev/null; getent passwd postgres; true"
    assert host.on(kept) == ""

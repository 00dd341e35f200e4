"""Checks of the database, read-only. Neither the password nor its verifier leaves the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from deploys.database import backups
from deploys.database.access import RESERVED_CONNECTIONS, AccessFact, AccessState, differences
from deploys.database.deploy import CERTIFICATE, TLS, clients_as_networks, config_files
from deploys.database.releases import version_of
from deploys.database.scram import fits
from deploys.database.server import CLUSTER, ServerFact, ServerState, action_for
from deploys.database.settings import DATA, MOST_HOURS, DatabaseSettings
from deploys.firewall.deploy import AddressesFact
from deploys.ops.checks import (
    expect,
    expect_at_boot,
    expect_certificate,
    expect_original,
    expect_owner,
    expect_timer,
    expect_unit,
    listening,
    said,
)
from deploys.ops.facts import Fact, OsReleaseFact
from deploys.topology.database import NAME
from inventory.rules.database import PORT
from inventory.values import MIB

T = TypeVar("T")
MOST_EXPOSURE = 30
"""Most exposure that `systemd-analyze security` may report, in tenths: 3.0 of 10."""


def test_runs_with_what_is_on_the_disk(host: Any) -> None:
    version = version_on(host)
    at_start, reads = config_files(version)
    state: ServerState = ask(host, ServerFact(), version=version, at_start=(at_start,), reads=reads)
    needed = action_for(state, new_at_start=False, new=False)
    expect(needed is None, f"PostgreSQL {version} does not run with its settings: it needs a {needed}")
    # postgresql.service starts the cluster's unit at boot.
    expect_unit(host, f"postgresql@{version}-{CLUSTER}.service", at_boot=False)
    expect_at_boot(host, "postgresql.service")
    expect_original(host, f"/usr/lib/postgresql/{version}/bin/postgres")


def test_settings_in_force(host: Any, settings: DatabaseSettings) -> None:
    expected = {
        "listen_addresses": settings.listen,
        "max_connections": str(settings.max_connections),
        "password_encryption": "scram-sha-256",
        "port": str(PORT),
        "shared_buffers": f"{settings.shared_buffers // MIB}MB",
        "ssl": "on",
        "ssl_cert_file": CERTIFICATE,
        "ssl_min_protocol_version": "TLSv1.2",
    }
    values = sql(host, "SELECT " + " || chr(10) || ".join(f"current_setting('{name}')" for name in expected))
    found = dict(zip(expected, values.splitlines(), strict=True))
    differing = [
        f"{name} is {value}, and should be {sized(expected)[name]}"
        for name, value in sized(found).items()
        if value != sized(expected)[name]
    ]
    expect(not differing, f"other settings are in force in PostgreSQL: {'; '.join(differing)}")


def test_only_bots_may_connect_and_only_over_tls(host: Any, settings: DatabaseSettings) -> None:
    rules = sql(
        host,
        "SELECT concat_ws(' ', type, array_to_string(database, ','), array_to_string(user_name, ','), "
        "address, netmask, auth_method, error) FROM pg_hba_file_rules ORDER BY line_number",
    ).splitlines()
    names = tuple(client for client in settings.clients)
    networks = clients_as_networks(names, ask(host, AddressesFact(), names=names))
    declared = [
        f"hostssl {NAME} {NAME} {net.network_address} {net.netmask} scram-sha-256" for net in networks
    ]
    wanted = ["local all all peer", *declared]
    others = [line for line in rules if line not in wanted] + [line for line in wanted if line not in rules]
    found = "; ".join(others) or "their order"
    expect(rules == wanted, f"pg_hba.conf differs from the declared clients: {found}")


def test_login_and_database_have_no_more_rights_than_needed(host: Any, settings: DatabaseSettings) -> None:
    state: AccessState = ask(host, AccessFact())
    expect(state.answers, "PostgreSQL does not answer", "read `journalctl -u postgresql` on the host")
    known = fits(settings.password.get_secret_value(), state.verifier_head, state.verifier_digest)
    wrong = list(differences(state, known, settings.max_connections - RESERVED_CONNECTIONS))
    expect(not wrong, "; ".join(wrong))


def test_serves_its_certificate(host: Any, settings: DatabaseSettings) -> None:
    served = host.run(
        "openssl s_client -starttls postgres -connect localhost:%s -CAfile %s -verify_return_error "
        "</dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256 -ext subjectAltName",
        str(PORT),
        f"{TLS}/ca.pem",
    )
    on_disk = host.check_output(f"openssl x509 -noout -fingerprint -sha256 -in {CERTIFICATE}")
    expect(served.stdout.splitlines()[:1] == [on_disk], "PostgreSQL serves another certificate, or none")
    missing = [name for name in settings.names if f":{name}" not in served.stdout]
    expect(not missing, f"the certificate is not for {', '.join(missing)}")


def test_certificate_does_not_end_soon(host: Any) -> None:
    expect_certificate(host, TLS)


def test_listens_only_where_declared(host: Any, settings: DatabaseSettings) -> None:
    found = listening(host, PORT)
    loopback = {"127.0.0.1", "[::1]"}
    expect(found, f"nothing listens on port {PORT}")
    expect(
        (found <= loopback) == (settings.listen == "localhost"),
        f"PostgreSQL listens on {', '.join(sorted(found))}, and should listen on {settings.listen}",
    )


def test_data_is_private(host: Any, settings: DatabaseSettings) -> None:
    folders = (f"{DATA}/{version_on(host)}/{CLUSTER}", settings.backups.path)
    for path in folders:
        expect_owner(host, path, "postgres", 0o700)


def test_backups_are_made_every_night(host: Any, settings: DatabaseSettings) -> None:
    expect_timer(host, backups.UNIT, hours=25, watch=backups.READS)
    when = host.check_output("systemctl show --property TimersCalendar --value %s", backups.UNIT)
    expect(f"*-*-* {settings.backups.time}:00" in when, f"{backups.UNIT} starts at another time: {when}")


def test_last_backup_can_be_read_back(host: Any, settings: DatabaseSettings) -> None:
    result = host.check_output("systemctl show --property Result --value clawd-database-backup.service")
    hint = "read `journalctl -u clawd-database-backup` on the host; `systemctl start` it to try again"
    expect(result == "success", f"the last backup ended with {result}", hint)
    dumps = ask(host, backups.DumpsFact(), folder=settings.backups.path)
    expect(dumps, f"there is no dump in {settings.backups.path}", hint)
    newest = f"{settings.backups.path}/{dumps[-1]}"
    age = int(host.check_output("echo $(($(date +%%s) - $(stat -c %%Y %s)))", newest)) / 3600
    expect(age < MOST_HOURS, f"the newest dump is {age:.0f} hours old", hint)
    read = host.run("runuser -u postgres -- pg_restore --list %s", newest)
    expect(read.rc == 0, f"{newest} cannot be read: {said(read)}", hint)


def test_backup_is_sandboxed(host: Any) -> None:
    judged = host.run(
        f"systemd-analyze security --no-pager --threshold={MOST_EXPOSURE} clawd-database-backup.service"
    )
    expect(judged.rc == 0, f"clawd-database-backup.service is exposed: {said(judged)}")


def ask(host: Any, fact: Fact, **arguments: Any) -> Any:
    """Return the host's answer to one of the deploy's facts."""
    answer = host.run(fact.command(**arguments)).stdout.splitlines()
    return fact.process(answer) if answer else fact.default()


def sql(host: Any, query: str) -> str:
    """Return the answer of the server to a query of its administrator."""
    answer: str = host.check_output("cd / && runuser -u postgres -- psql -X -A -t -c %s", query)
    return answer


def version_on(host: Any) -> str:
    """Return PostgreSQL's version of the host's release."""
    return version_of("this host", ask(host, OsReleaseFact()))


def sized(values: Mapping[str, str]) -> dict[str, str]:
    """Return the values with sizes in MB: PostgreSQL writes 1024MB as 1GB."""
    return {
        name: f"{int(value[:-2]) * 1024}MB" if value.endswith("GB") else value
        for name, value in values.items()
    }

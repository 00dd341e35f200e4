"""Checks of the database, read-only. Neither the password nor its verifier leaves the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from deploys.database import backups
from deploys.database.access import RESERVED_CONNECTIONS, AccessFact, AccessState, differences
from deploys.database.deploy import CERTIFICATE, TLS, clients_as_networks, config_files
from deploys.database.releases import ReleaseFact, version_of
from deploys.database.scram import fits
from deploys.database.server import CLUSTER, ServerFact, ServerState, action_for
from deploys.database.settings import DATA, MIB, MOST_HOURS, NAME, DatabaseSettings
from deploys.firewall.deploy import AddressesFact
from deploys.ops.checks import ends_soon, runs_as_started
from deploys.ops.facts import Fact
from inventory.rules.database import PORT

T = TypeVar("T")
MOST_EXPOSURE = 30
"""Of `systemd-analyze security`, in tenths: 3.0 of 10."""


def test_runs_with_what_is_on_the_disk(host: Any) -> None:
    version = version_on(host)
    at_start, reads = config_files(version)
    state: ServerState = ask(host, ServerFact(), version=version, at_start=(at_start,), reads=reads)
    needed = action_for(state, new_at_start=False, new=False)
    assert needed is None, f"PostgreSQL {version} needs a {needed}"


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
    asked = sql(host, "SELECT " + " || chr(10) || ".join(f"current_setting('{name}')" for name in expected))
    found = dict(zip(expected, asked.splitlines(), strict=True))
    assert sized(found) == sized(expected)


def test_only_the_bots_are_let_in_and_only_over_tls(host: Any, settings: DatabaseSettings) -> None:
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
    assert rules == ["local all all peer", *declared]


def test_login_and_database_have_no_more_rights_than_needed(host: Any, settings: DatabaseSettings) -> None:
    state: AccessState = ask(host, AccessFact())
    assert state.answers, "PostgreSQL does not answer"
    known = fits(settings.password.get_secret_value(), state.verifier_head, state.verifier_digest)
    wrong = list(differences(state, known, settings.max_connections - RESERVED_CONNECTIONS))
    assert not wrong, "; ".join(wrong)


def test_serves_its_certificate(host: Any, settings: DatabaseSettings) -> None:
    served = host.run(
        "openssl s_client -starttls postgres -connect localhost:%s -CAfile %s -verify_return_error "
        "</dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256 -ext subjectAltName",
        str(PORT),
        f"{TLS}/ca.pem",
    )
    on_disk = host.check_output(f"openssl x509 -noout -fingerprint -sha256 -in {CERTIFICATE}")
    assert served.stdout.splitlines()[:1] == [on_disk], "PostgreSQL serves another certificate, or none"
    missing = [name for name in settings.names if f":{name}" not in served.stdout]
    assert not missing, f"the certificate is not for {', '.join(missing)}"


def test_certificate_does_not_end_soon(host: Any) -> None:
    assert not (told := ends_soon(host, TLS)), told


def test_listens_only_where_declared(host: Any, settings: DatabaseSettings) -> None:
    listening = {
        line.split()[3].rpartition(":")[0]
        for line in host.check_output("ss -Hltn sport = :%s", str(PORT)).splitlines()
    }
    loopback = {"127.0.0.1", "[::1]"}
    assert listening, f"nothing listens on port {PORT}"
    assert (listening <= loopback) == (settings.listen == "localhost"), f"listens on {', '.join(listening)}"


def test_data_is_private(host: Any, settings: DatabaseSettings) -> None:
    folders = (f"{DATA}/{version_on(host)}/{CLUSTER}", settings.backups.path)
    wrong = [path for path in folders if (host.file(path).user, host.file(path).mode) != ("postgres", 0o700)]
    assert not wrong, f"not for postgres alone: {', '.join(wrong)}"


def test_backups_are_made_every_night(host: Any, settings: DatabaseSettings) -> None:
    assert runs_as_started(host, backups.UNIT, watch=backups.READS), (
        f"{backups.UNIT} does not run, or one of these changed: {', '.join(backups.READS)}"
    )
    assert host.service(backups.UNIT).is_enabled, f"{backups.UNIT} does not start at boot"
    when = host.check_output("systemctl show --property TimersCalendar --value %s", backups.UNIT)
    assert f"*-*-* {settings.backups.time}:00" in when


def test_last_backup_can_be_read_back(host: Any, settings: DatabaseSettings) -> None:
    result = host.check_output("systemctl show --property Result --value clawd-database-backup.service")
    assert result == "success", f"the last backup ended with {result}: journalctl -u clawd-database-backup"
    dumps = ask(host, backups.DumpsFact(), folder=settings.backups.path)
    assert dumps, f"there is no dump in {settings.backups.path}"
    newest = f"{settings.backups.path}/{dumps[-1]}"
    age = int(host.check_output("echo $(($(date +%%s) - $(stat -c %%Y %s)))", newest)) / 3600
    assert age < MOST_HOURS, f"the newest dump is {age:.0f} hours old"
    assert host.run("runuser -u postgres -- pg_restore --list %s", newest).rc == 0, f"{newest} cannot be read"


def test_backup_is_sandboxed(host: Any) -> None:
    judged = host.run(
        f"systemd-analyze security --no-pager --threshold={MOST_EXPOSURE} clawd-database-backup.service"
    )
    assert judged.rc == 0, judged.stdout.splitlines()[-1:]


def ask(host: Any, fact: Fact, **arguments: Any) -> Any:
    """What the host answers to one of the deploy's facts."""
    answer = host.run(fact.command(**arguments)).stdout.splitlines()
    return fact.process(answer) if answer else fact.default()


def sql(host: Any, query: str) -> str:
    """The answer of the server to a query of its administrator."""
    answer: str = host.check_output("cd / && runuser -u postgres -- psql -X -A -t -c %s", query)
    return answer


def version_on(host: Any) -> str:
    """PostgreSQL's version of the host's release."""
    return version_of("this host", ask(host, ReleaseFact()))


def sized(values: Mapping[str, str]) -> dict[str, str]:
    """With sizes in MB: PostgreSQL writes 1024MB as 1GB."""
    return {
        name: f"{int(value[:-2]) * 1024}MB" if value.endswith("GB") else value
        for name, value in values.items()
    }

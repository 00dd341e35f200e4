from __future__ import annotations

from pathlib import Path

import pytest

from deploys.database.backups import BACKUP, ENVIRONMENT, METRICS, RESTORE
from deploys.database.deploy import clients_as_networks, values
from deploys.database.settings import DatabaseSettings
from deploys.metrics import TEXTFILES
from deploys.ops.paths.files import rendered
from tests.deploys.golden import assert_golden

GOLDEN = Path(__file__).parent / "golden"
SETTINGS = DatabaseSettings(
    names=("10.0.0.4",), clients=("10.0.0.2", "fd00::3"), password="a-password-of-24-letters"
)
BACKUPS = {
    "name": "clawd",
    "path": "/var/backups/clawd",
    "keep": 7,
    "time": "03:30",
    "environment": ENVIRONMENT,
    "backup": BACKUP,
    "metrics": METRICS,
    "textfiles": TEXTFILES,
    "program": RESTORE,
}


@pytest.mark.parametrize("name", ["start.conf", "settings.conf"])
def test_server_settings_equal_golden_files(name: str) -> None:
    assert_golden(GOLDEN / name, rendered(f"database/{name}", values(SETTINGS)))


def test_pg_hba_equals_golden_file() -> None:
    addresses = [str(network) for network in clients_as_networks(SETTINGS.clients, {})]
    assert_golden(
        GOLDEN / "pg_hba.conf", rendered("database/pg_hba.conf", {"name": "clawd", "addresses": addresses})
    )


@pytest.mark.parametrize(
    "name",
    [
        "backup-metrics",
        "restore-database",
        "backup.env",
        "clawd-database-backup.service",
        "clawd-database-backup.timer",
    ],
)
def test_backup_files_equal_golden_files(name: str) -> None:
    assert_golden(GOLDEN / name, rendered(f"database/{name}", BACKUPS))


def test_client_names_are_resolved_to_all_addresses_without_duplicates() -> None:
    resolved = {"bot1.lan": ("10.0.0.2", "fd00::2"), "bot2.lan": ("10.0.0.2",)}
    networks = clients_as_networks(("bot1.lan", "bot2.lan", "10.0.0.9"), resolved)
    assert [str(network) for network in networks] == ["10.0.0.2/32", "fd00::2/128", "10.0.0.9/32"]

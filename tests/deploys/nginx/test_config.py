from pathlib import Path

from deploys.nginx.deploy import (
    CERTIFICATE,
    LOG_SIZE,
    LOG_UNITS,
    LOGROTATE,
    LOGS_KEPT,
    UPSTREAMS,
    serves_its_certificate,
    values,
)
from deploys.nginx.settings import settings_for
from deploys.ops.paths.files import rendered
from inventory.model import Inventory
from tests.deploys.golden import assert_golden
from tests.deploys.inventories import inventory

GOLDEN = Path(__file__).parent / "golden"


TEAM = {"web1": ["nginx"], "bot1": ["runtime"], "bot2": ["runtime"]}


def config(declared: Inventory, host: str = "bot1", *, ipv6: bool = True, file: str = "nginx.conf") -> str:
    settings = settings_for(declared, host)
    assert settings is not None
    return rendered(f"nginx/{file}", values(settings, ipv6=ipv6))


def upstreams(declared: Inventory, host: str = "bot1") -> str:
    return config(declared, host, file="upstreams.conf")


def test_configuration_of_one_host_equals_golden_files() -> None:
    assert_golden(GOLDEN / "one-host.conf", config(inventory()))
    assert_golden(GOLDEN / "one-host-upstreams.conf", upstreams(inventory()))


def test_configuration_with_other_ports_and_several_bots_equals_golden_files() -> None:
    ports = {"https_port": 8443, "http_port": 8880, "requests_per_second": 5, "max_body": "64k"}
    declared = inventory(TEAM, nginx=ports)
    assert_golden(GOLDEN / "several-bots.conf", config(declared, "web1", ipv6=False))
    assert_golden(GOLDEN / "several-bots-upstreams.conf", upstreams(declared, "web1"))


def test_configuration_for_bots_with_a_shared_database_equals_golden_files() -> None:
    limits = {"telegram": {"requests_per_second": 100, "burst": 0}, "console": {"burst": 3}}
    allow = {"telegram_ranges": True, "telegram": ["10.9.0.0/16"], "console": ["10.8.0.0/16", "fd00::/8"]}
    nginx = {"limits": limits, "allow": allow, "trusted_proxies": ["10.7.0.0/24"], "connections": 500}
    declared = inventory(TEAM, nginx=nginx, database={"password": "of-the-database"})
    assert_golden(GOLDEN / "shared-database.conf", config(declared, "web1"))
    assert_golden(GOLDEN / "shared-database-upstreams.conf", upstreams(declared, "web1"))


def test_configuration_during_maintenance_equals_golden_file() -> None:
    declared = inventory(nginx={"maintenance": True, "retry_after": 120})
    assert_golden(GOLDEN / "maintenance.conf", config(declared))


def test_logs_are_rotated_by_size() -> None:
    rotation = rendered("nginx/logrotate.conf", {"size": LOG_SIZE, "kept": LOGS_KEPT})
    assert_golden(GOLDEN / "logrotate", rotation)
    assert "\tmaxsize 50M\n" in rotation
    service, _ = LOG_UNITS
    assert_golden(GOLDEN / service, rendered(f"nginx/{service}", {"config": LOGROTATE}))


def test_configuration_without_ipv6_has_no_ipv6_listener() -> None:
    assert "[::]" in config(inventory())
    assert "[::]" not in config(inventory(), ipv6=False)


def test_upstreams_are_in_a_file_of_their_own() -> None:
    lines = [line.strip() for line in config(inventory()).splitlines()]
    assert [line for line in lines if line.startswith("include")] == [f"include {UPSTREAMS};"]
    assert "include" not in upstreams(inventory())


def test_log_format_has_no_query_and_no_client_header() -> None:
    log_format = config(inventory()).split("log_format", 1)[1].split(";", 1)[0]
    variables = {word.strip("'[]\"") for word in log_format.split() if "$" in word}
    assert variables == {
        "$remote_addr",
        "$time_iso8601",
        "$request_method",
        "$uri",
        "$status",
        "$body_bytes_sent",
        "$request_time",
        "$upstream_addr",
        "$upstream_response_time",
        "$request_id",
    }


def test_readiness_probe_uses_the_declared_port() -> None:
    assert '("127.0.0.1", 8443)' in serves_its_certificate(8443)
    assert CERTIFICATE in serves_its_certificate(8443)

from pathlib import Path

from deploys.nginx.deploy import CERTIFICATE, serves_its_certificate, values
from deploys.nginx.settings import settings_for
from deploys.ops.files import rendered
from inventory.model import Inventory
from tests.deploys.golden import assert_golden
from tests.deploys.inventories import inventory

GOLDEN = Path(__file__).parent / "golden"


def config(declared: Inventory, host: str = "bot1", *, ipv6: bool = True) -> str:
    settings = settings_for(declared, host)
    assert settings is not None
    return rendered("nginx/nginx.conf", values(settings, ipv6=ipv6))


def test_one_host() -> None:
    assert_golden(GOLDEN / "one-host.conf", config(inventory()))


def test_other_ports_and_several_bots() -> None:
    roles = {"web1": ["nginx"], "bot1": ["runtime"], "bot2": ["runtime"]}
    ports = {"https_port": 8443, "http_port": 8880, "requests_per_second": 5, "max_body": "64k"}
    declared = inventory(roles, nginx=ports)
    assert_golden(GOLDEN / "several-bots.conf", config(declared, "web1", ipv6=False))


def test_without_ipv6_nothing_listens_on_it() -> None:
    assert "[::]" in config(inventory())
    assert "[::]" not in config(inventory(), ipv6=False)


def test_the_whole_configuration_is_one_file() -> None:
    assert "include" not in config(inventory())


def test_the_log_has_no_query_and_no_header_of_a_client() -> None:
    log_format = config(inventory()).split("log_format", 1)[1].split(";", 1)[0]
    told = {word.strip("'[]\"") for word in log_format.split() if "$" in word}
    assert told == {
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


def test_the_probe_asks_the_declared_port() -> None:
    assert '("127.0.0.1", 8443)' in serves_its_certificate(8443)
    assert CERTIFICATE in serves_its_certificate(8443)

from deploys.topology.addresses import host_and_port, project_names
from tests.deploys.inventories import inventory


def test_host_and_port_puts_an_ipv6_address_in_brackets() -> None:
    assert host_and_port("bot.example.com", 80) == "bot.example.com:80"
    assert host_and_port("10.0.0.1", 80) == "10.0.0.1:80"
    assert host_and_port("2001:db8::1", 80) == "[2001:db8::1]:80"


def test_project_names_are_all_names_and_addresses_as_in_certificates() -> None:
    declared = inventory({"bot1": ["runtime", "nginx"]}, tls={"names": ["Bot.example.com", "2001:db8:0::1"]})
    assert project_names(declared) == ("10.0.0.1", "2001:db8::1", "bot.example.com", "bot1")

"""Read-only checks of the firewall."""

from __future__ import annotations

from typing import Any

from deploys.firewall.deploy import CONFIG, LIVE_DIGEST, STAMP, TABLE, UNIT
from deploys.firewall.settings import FirewallSettings
from deploys.ops.checks import UnitOnHost, expect, expect_at_boot, said


def test_closed_by_default(host: Any) -> None:
    chain = host.run(f"nft list chain {TABLE} input")
    expect(chain.rc == 0, f"the rules are not loaded: {said(chain)}", "run `up`, which loads them")
    expect("policy drop" in chain.stdout, "connections without a rule are accepted: the policy is not drop")


def test_rules_in_force_as_applied(host: Any) -> None:
    live = host.check_output(LIVE_DIGEST)
    applied = host.file(STAMP).content_string.strip()
    same = applied == f"{host.file(CONFIG).sha256sum} {live}"
    expect(same, f"rules were changed since they were applied ({CONFIG})", "run `up`, which loads them again")


def test_declared_ports_open(host: Any, settings: FirewallSettings) -> None:
    rules = host.check_output(f"nft --numeric list table {TABLE}")
    missing = [item for item in settings.openings if f"{item.protocol} dport {item.port} " not in rules]
    expect(not missing, f"not open: {', '.join(f'{item.port}/{item.protocol}' for item in missing)}")


def test_loaded_at_boot(host: Any) -> None:
    # Not whether it runs: the rules are loaded without it, which would flush those of other programs.
    expect_at_boot(host, UNIT)
    state = UnitOnHost.of(host, UNIT)
    expect(
        state.active != "failed", f"{UNIT} failed to load the rules: {state.result}", "`systemctl status` it"
    )
    checked = host.run("nft --check --file %s", CONFIG)
    expect(checked.rc == 0, f"{CONFIG} could not be loaded at boot: {said(checked)}")

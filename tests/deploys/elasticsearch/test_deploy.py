from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploys.elastic import packages as elastic
from deploys.elastic.api import AnswersFact
from deploys.elastic.packages import ForeignFact
from deploys.elasticsearch import deploy as elasticsearch
from deploys.elasticsearch.host import FormedFact, HostMemoryFact
from deploys.elasticsearch.host import HostMemory as Memory
from deploys.elasticsearch.keystore import KEYSTORE, KeystoreFact
from deploys.elasticsearch.objects import WRITER
from deploys.elasticsearch.settings import settings_for
from deploys.filebeat import deploy as filebeat
from deploys.kibana import deploy as kibana
from deploys.kibana.settings import settings_for as kibana_for
from deploys.logstash import deploy as logstash
from deploys.logstash.settings import settings_for as logstash_for
from deploys.ops.accounts import GroupFact, UserFact
from deploys.ops.debian.packages import BroughtFact, WantedFact
from deploys.ops.facts import PackagesFact, PathFact, PathState, UnitFact, UnitState
from deploys.ops.paths.push import RecordsFact
from deploys.tls.certificate import Installed
from deploys.tls.deploy import CertificateFact
from inventory.errors import HostError
from tests.deploys.elasticsearch.test_settings import ONE, THREE, declared
from tests.deploys.harness import Machine, Run

MEMORY = 4 << 30
BARE: dict[Any, Any] = {
    PathFact: PathState(),
    PackagesFact: frozenset(),
    WantedFact: frozenset(),
    UnitFact: UnitState(),
    HostMemoryFact: Memory(MEMORY, 65530, True),
    CertificateFact: Installed(),
    KeystoreFact: "",
    ForeignFact: "",
    FormedFact: False,
    AnswersFact: (),
}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network: the key of the packages is not what is looked at here."""
    monkeypatch.setattr(elastic, "key_of", lambda *_: b"-----BEGIN a key")


def plan(apply: Callable[[], object], name: str, settings: Any, tmp_path: Path, facts: Any = None) -> Run:
    data = {name: settings, "supplies": {"state_folder": str(tmp_path)}}
    return Machine(data, facts=BARE | (facts or {})).run(apply, execute=False)


def paths(run: Run) -> list[str]:
    return [change.path for change in run.changes]


def test_security_is_configured_before_installation_and_password_before_start(tmp_path: Path) -> None:
    run = plan(elasticsearch.apply, "elasticsearch", settings_for(declared(ONE), "log1"), tmp_path)
    order = paths(run)
    assert order.index(elasticsearch.CONFIG) < order.index("packages")
    assert order.index("packages") < order.index(KEYSTORE) < order.index("elasticsearch.service")
    assert order.index("elasticsearch.service") < order.index("lifecycle policy clawd-audit")
    assert "cluster" not in order


@pytest.mark.parametrize(("name", "founds"), [("log1", True), ("log2", False), ("log3", False)])
def test_only_the_first_node_bootstraps_cluster_and_users(tmp_path: Path, name: str, founds: bool) -> None:
    run = plan(elasticsearch.apply, "elasticsearch", settings_for(declared(THREE), name), tmp_path)
    assert ("cluster" in paths(run)) is founds
    assert ("user clawd_logstash" in paths(run)) is founds
    assert (WRITER in paths(run)) is founds


def test_plan_reports_a_host_that_refuses_max_map_count(tmp_path: Path) -> None:
    facts = {HostMemoryFact: Memory(MEMORY, 65530, False)}
    settings = settings_for(declared(ONE), "log1")
    run = plan(elasticsearch.apply, "elasticsearch", settings, tmp_path, facts=facts)
    (config, *_) = (change for change in run.changes if change.path == elasticsearch.CONFIG)
    assert any("This host does not allow vm.max_map_count" in line for line in config.diff)
    assert "vm.max_map_count" not in paths(run)
    raised = plan(elasticsearch.apply, "elasticsearch", settings, tmp_path)
    assert {"vm.max_map_count", "/etc/sysctl.d/60-clawd-elasticsearch.conf"} <= set(paths(raised))


def test_heap_of_more_than_half_the_memory_is_refused(tmp_path: Path) -> None:
    settings = settings_for(declared(ONE, elasticsearch_heap="3G"), "log1")
    with pytest.raises(HostError, match="3G is more than half of the host's 4096 MiB"):
        plan(elasticsearch.apply, "elasticsearch", settings, tmp_path)


def test_plan_shows_no_secret(tmp_path: Path) -> None:
    one = declared(ONE, reader_password="of-people-in-kibana")
    node, kib, log = settings_for(one, "log1"), kibana_for(one, "log1"), logstash_for(one, "log1")
    assert node is not None
    assert kib is not None
    assert log is not None
    runs = [
        plan(elasticsearch.apply, "elasticsearch", node, tmp_path),
        plan(kibana.apply, "kibana", kib, tmp_path),
        plan(logstash.apply, "logstash", log, tmp_path),
    ]
    shown = repr([(run.changes, run.names) for run in runs])
    secrets = [node.password, node.writer_password, node.reader_password, *kib.keys.values(), log.password]
    assert not [secret for secret in secrets if secret and secret.get_secret_value() in shown]


INSTALLED = UnitState(load="loaded", active="active", enabled="enabled")
REMOVALS = (filebeat, kibana, logstash, elasticsearch)


def removed(component: Any, *, purge: bool, others: frozenset[str] = frozenset()) -> list[str]:
    return paths(removal(component, purge, others))


def removal(component: Any, purge: bool, others: frozenset[str] = frozenset()) -> Run:
    facts = {
        UnitFact: INSTALLED,
        PathFact: PathState("file"),
        BroughtFact: frozenset({component.NAME}),
        RecordsFact: (),
        PackagesFact: others | {component.NAME},
        UserFact: None,
        GroupFact: None,
    }
    return Machine({"purge": purge}, facts=facts).run(component.remove, execute=False)


@pytest.mark.parametrize("component", REMOVALS)
def test_removal_keeps_data_unless_purged(component: Any) -> None:
    for purge, words in ((False, "stays"), (True, "deleted for good")):
        (said,) = [
            change.diff[0] for change in removal(component, purge).changes if change.path == component.DATA
        ]
        assert said.startswith(words)


@pytest.mark.parametrize("component", REMOVALS)
def test_removal_of_the_last_elastic_component_removes_the_repository(component: Any) -> None:
    source = "/etc/apt/sources.list.d/clawd-elastic.sources"
    assert source in removed(component, purge=False)
    assert source not in removed(
        component, purge=False, others=frozenset({"another"} | {"kibana", "filebeat"})
    )


def test_removal_of_all_elastic_components_removes_the_repository_once() -> None:
    facts = {
        UnitFact: INSTALLED,
        PathFact: PathState("file"),
        BroughtFact: frozenset({"x"}),
        RecordsFact: (),
        PackagesFact: frozenset(elastic.PROGRAMS),
        UserFact: None,
        GroupFact: None,
    }

    def all_of_them() -> None:
        for component in REMOVALS:
            component.remove()

    gone = paths(Machine(facts=facts).run(all_of_them, execute=False))
    assert gone.count("/etc/apt/sources.list.d/clawd-elastic.sources") == 1

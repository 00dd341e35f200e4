"""One cluster for all tests here: four hosts, the stand-ins, and a scripted model they all reach."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision import sandbox
from tests.cluster.world import MODEL_PORT, RELEASES, Cluster, layout_for_cluster
from tests.e2e.world import FEISHU_PORT, ROOT, TELEGRAM_PORT
from tests.standins.control import Control
from tests.standins.feishu.app import FeishuStandin
from tests.standins.feishu.state import Credentials
from tests.standins.outbound import Reach
from tests.standins.serve import serving
from tests.standins.telegram.app import TelegramStandin
from tests.standins.telegram.webhook import Rules

sys.path.insert(0, str(ROOT / "runtime" / "tests" / "bot"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test here needs hosts, and takes minutes."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.host)
            item.add_marker(pytest.mark.campaign)
            item.add_marker(pytest.mark.timeout(2400))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Four bare hosts and an operator's empty folder."""
    folder = tmp_path_factory.mktemp("cluster")
    made = Cluster(folder, layout_for_cluster(folder / "sandbox"))
    sandbox.down(purge=True, layout=made.layout)
    try:
        sandbox.up(hosts=len(RELEASES), releases=RELEASES, layout=made.layout)
        yield made
    finally:
        sandbox.down(purge=True, layout=made.layout)


@pytest.fixture(scope="session")
def telegram(cluster: Cluster) -> Iterator[Control]:
    """The Telegram stand-in, where the hosts reach it."""
    rules = Rules(Reach(), reserved_addresses=True, pace=0.1)
    stand_in = TelegramStandin([cluster.secret("telegram-token")], rules)
    host = str(cluster.layout.machine_address)
    with serving(stand_in.app, host=host, port=TELEGRAM_PORT) as url, Control(url) as control:
        yield control


@pytest.fixture(scope="session")
def feishu(cluster: Cluster) -> Iterator[Control]:
    """The Feishu stand-in, where the hosts reach it; it trusts the deployment's authority."""
    credentials = Credentials(
        "cli_e2e",
        cluster.secret("feishu-app-secret"),
        cluster.secret("feishu-encrypt-key"),
        cluster.secret("feishu-verification-token"),
    )
    authority = cluster.folder / "inventory" / ".clawd" / "cluster" / "ca" / "ca.pem"
    stand_in = FeishuStandin(credentials, Reach(ca=authority), pace=0.01)
    host = str(cluster.layout.machine_address)
    with serving(stand_in.app, host=host, port=FEISHU_PORT) as url, Control(url) as control:
        yield control


@pytest.fixture(scope="session")
def model(cluster: Cluster) -> Iterator[str]:
    """A server of the OpenAI chat protocol that answers `re: <question>`."""
    from program import model_server

    host = str(cluster.layout.machine_address)
    with serving(model_server(pause=0.01), host=host, port=MODEL_PORT) as url:
        yield url


@pytest.fixture(scope="session")
def deployed(cluster: Cluster, telegram: Control, feishu: Control, model: str) -> Cluster:
    """The cluster after one `up`."""
    cluster.inventory()
    first = cluster.run("up", "-i", "e2e", "--yes", "--json")
    assert first.returncode == 0, f"the deployment failed\n{first.stderr[-6000:]}\n{first.stdout[-2000:]}"
    feishu.post("webhook", url=f"https://{cluster.address('front')}/feishu/webhook")
    return cluster

"""One cluster for all tests here: four hosts, the stand-ins, and a scripted model they all reach."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.cluster.deployment import Cluster, layout_for_cluster
from tests.deployment import ROOT
from tests.marks import mark_below
from tests.platforms import MODEL_PORT, feishu_at, telegram_at
from tests.standins.control import Control
from tests.standins.outbound import Reach
from tests.standins.serve import serving

sys.path.insert(0, str(ROOT / "runtime" / "tests" / "bot"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test here: it needs hosts, and takes minutes."""
    mark_below(__file__, items, pytest.mark.host, pytest.mark.campaign, pytest.mark.timeout(2400))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start four bare hosts, with an empty folder of the operator."""
    folder = tmp_path_factory.mktemp("cluster")
    with Cluster(folder, layout_for_cluster(folder / "sandbox")).fresh() as made:
        yield made


@pytest.fixture(scope="session")
def telegram(cluster: Cluster) -> Iterator[Control]:
    """Serve the Telegram stand-in where the hosts reach it."""
    with telegram_at(cluster.here, cluster.secret("telegram-token")) as control:
        yield control


@pytest.fixture(scope="session")
def feishu(cluster: Cluster) -> Iterator[Control]:
    """Serve the Feishu stand-in where the hosts reach it; it trusts the deployment's authority."""
    with feishu_at(cluster.here, cluster.feishu_app, Reach(ca=cluster.authority)) as control:
        yield control


@pytest.fixture(scope="session")
def model(cluster: Cluster) -> Iterator[str]:
    """Serve the OpenAI chat protocol with the answer `re: <question>`."""
    from program import model_server  # type: ignore[import-not-found]

    with serving(model_server(pause=0.01), host=cluster.here, port=MODEL_PORT) as url:
        yield url


@pytest.fixture(scope="session")
def deployed(cluster: Cluster, telegram: Control, feishu: Control, model: str) -> Cluster:
    """Return the cluster after one `up`."""
    cluster.inventory()
    first = cluster.run("up", "-i", "e2e", "--yes", "--json")
    assert first.returncode == 0, f"the deployment failed\n{first.stderr[-6000:]}\n{first.stdout[-2000:]}"
    feishu.post("webhook", url=f"https://{cluster.address('front')}/feishu/webhook")
    return cluster

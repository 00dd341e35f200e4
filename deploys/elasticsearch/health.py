"""How well a cluster of Elasticsearch is, as a node of it tells. Shell commands, run on that node's host."""

from __future__ import annotations

from deploys.elastic import api
from deploys.elastic.api import Call, Server
from deploys.elasticsearch.objects import ADMIN

BEST_FIRST = "green yellow red"
"""green: every shard has its copies. yellow: some have only one. red: some cannot be read."""
PATIENCE_S = 50
"""Longest wait for a cluster to be green before a node leaves it; less than the client's own limit."""


def in_a_cluster(server: Server) -> str:
    """Succeeds when a node lets `elastic` in and belongs to a cluster with a master."""
    return api.holds(server, _health(), f'status == 200 and body["status"] in "{BEST_FIRST}".split()')


def before_leaving(server: Server) -> str:
    """Waits a while for the cluster to be green, and prints how well it is, with all that is better.

    Nothing where no node answers. A copy that another restart left behind is then made up for, and a cluster
    that cannot be green, as with a node lost for good, does not keep the others from changing.
    """
    wait = f"&wait_for_status=green&timeout={PATIENCE_S}s"
    best = f'"{BEST_FIRST}".partition(body["status"])'
    return api.told(server, _health(wait), f'"".join({best}[:2])')


def as_well_as_before(server: Server) -> str:
    """Succeeds when the cluster is again as well as `before_leaving` printed into `$before`, or better.

    A node that restarts takes copies of shards away for a moment: the next one may follow when they are back.
    """
    accepted = f'(os.environ.get("before") or "{BEST_FIRST}").split()'
    return api.holds(server, _health(), f'status == 200 and body["status"] in {accepted}')


def _health(wait: str = "&timeout=1s") -> Call:
    """https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-cluster-health"""
    return Call("GET", f"/_cluster/health?master_timeout=1s{wait}", ADMIN)

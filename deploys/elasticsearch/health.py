"""Health of a cluster of Elasticsearch, reported by one of its nodes: shell commands for that node's host."""

from __future__ import annotations

from deploys.elastic import api
from deploys.elastic.api import Call, ElasticServer
from deploys.elasticsearch.objects import ADMIN

BEST_FIRST = "green yellow red"
"""green: every shard has its copies. yellow: some have only one. red: some cannot be read."""
PATIENCE_S = 50
"""Longest wait for a cluster to be green before a node leaves it; less than the client's own limit."""


def in_a_cluster(server: ElasticServer) -> str:
    """Return a command that succeeds when a node accepts `elastic` and belongs to a cluster with a master."""
    return api.holds(server, _health(), f'status == 200 and body["status"] in "{BEST_FIRST}".split()')


def before_leaving(server: ElasticServer) -> str:
    """Return a command that waits a while for green, and prints the health of the cluster and all better.

    It prints nothing where no node answers. While it waits, a copy that another restart left behind catches
    up; a cluster that cannot be green, as with a node lost for good, does not keep the others from changing.
    """
    wait = f"&wait_for_status=green&timeout={PATIENCE_S}s"
    best = f'"{BEST_FIRST}".partition(body["status"])'
    return api.printed(server, _health(wait), f'"".join({best}[:2])')


def as_well_as_before(server: ElasticServer) -> str:
    """Return a command that succeeds when the health is at least what `before_leaving` wrote into `$before`.

    A node that restarts takes copies of shards away for a moment: the next one may follow when they are back.
    """
    accepted = f'(os.environ.get("before") or "{BEST_FIRST}").split()'
    return api.holds(server, _health(), f'status == 200 and body["status"] in {accepted}')


def _health(wait: str = "&timeout=1s") -> Call:
    """Return the call for https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-cluster-health."""
    return Call("GET", f"/_cluster/health?master_timeout=1s{wait}", ADMIN)

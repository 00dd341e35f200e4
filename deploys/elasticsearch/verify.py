"""Checks of Elasticsearch, read-only, with and without a login. No secret leaves the host."""

from __future__ import annotations

import json
from typing import Any

from deploys.elastic.api import AnswersFact, Call, command, holds
from deploys.elasticsearch.deploy import CA, CONFIG, JVM, LOGINS, READS, SERVER, TLS
from deploys.elasticsearch.health import in_a_cluster
from deploys.elasticsearch.host import HostMemory, HostMemoryFact
from deploys.elasticsearch.objects import ADMIN, WRITER, wanted
from deploys.elasticsearch.settings import ElasticsearchSettings, heap_for
from deploys.ops.checks import (
    expect,
    expect_at_boot,
    expect_certificate,
    expect_owner,
    expect_started_with,
    said,
)
from deploys.topology.logs import ELASTICSEARCH_PORT, TRANSPORT_PORT
from inventory.values import MIB

LOG = "read `journalctl -u elasticsearch` on the host"


def test_runs_with_what_is_on_the_disk(host: Any) -> None:
    expect_started_with(host, "elasticsearch.service", watch=READS, at_boot=False)


def test_starts_at_boot(host: Any) -> None:
    expect_at_boot(host, "elasticsearch.service")


def test_maps_files_where_the_host_lets_it(host: Any) -> None:
    allowed = "true" if _machine(host).maps_files else "false"
    lines = host.file(CONFIG).content_string.splitlines()
    same = f"node.store.allow_mmap: {allowed}" in lines
    expect(same, "vm.max_map_count is not what it was at the last run")


def test_heap_is_at_most_half_of_the_memory(host: Any, settings: ElasticsearchSettings) -> None:
    machine = _machine(host)
    heap = heap_for(machine.memory, settings.heap)
    total = machine.memory // MIB
    expect(heap <= machine.memory // 2, f"the heap of {heap // MIB} MiB is over half of {total} MiB memory")
    lines = host.file(JVM).content_string.splitlines()
    expect(f"-Xmx{heap // MIB}m" in lines, f"{JVM} does not set a heap of {heap // MIB} MiB")


def test_secrets_are_private(host: Any) -> None:
    expect_owner(host, LOGINS, "root", 0o700)
    for name in host.check_output("ls -A %s", LOGINS).split():
        expect_owner(host, f"{LOGINS}/{name}", "root", 0o600)
    expect_owner(host, f"{CA.rsplit('/', 1)[0]}/privkey.pem", "elasticsearch", 0o600)


def test_certificate_does_not_end_soon(host: Any) -> None:
    expect_certificate(host, TLS)


def test_answers_over_tls_to_elastic_in_a_cluster(host: Any) -> None:
    result = host.run(in_a_cluster(SERVER))
    expect(result.rc == 0, f"Elasticsearch does not answer as part of a cluster: {said(result)}", LOG)


def test_cluster_is_complete(host: Any, settings: ElasticsearchSettings) -> None:
    call = Call("GET", "/_cluster/health", ADMIN)
    count = len(settings.nodes)
    held = host.run(holds(SERVER, call, f'body["number_of_nodes"] == {count} and body["status"] == "green"'))
    expect(held.rc == 0, f"the cluster is not {count} nodes in state green: {said(held)}", LOG)


def test_clients_without_a_password_are_refused(host: Any) -> None:
    status = host.check_output("python3 -c %s %s %s", STRANGER, str(ELASTICSEARCH_PORT), CA)
    expect(status == "401", f"a client without a password gets {status}, and should get 401")


def test_a_single_node_listens_on_loopback_only(host: Any, settings: ElasticsearchSettings) -> None:
    if not settings.alone:
        return
    listening = host.check_output("ss -Hltn")
    ports = (str(ELASTICSEARCH_PORT), str(TRANSPORT_PORT))
    addresses = [line.split()[3].rsplit(":", 1) for line in listening.splitlines()]
    own = {"127.0.0.1", "[::ffff:127.0.0.1]", "[::1]"}
    beyond = {address for address, port in addresses if port in ports} - own
    expect(not beyond, f"a single node listens beyond loopback: {', '.join(sorted(beyond))}")


def test_policies_templates_roles_and_users(host: Any, settings: ElasticsearchSettings) -> None:
    if not settings.leads:
        return
    things = wanted(settings)
    probes = command(SERVER, tuple(item.probe for item in things), reading=True)
    answers = AnswersFact().process(host.check_output(probes).splitlines())
    wrong = [item.name for item, answer in zip(things, answers, strict=True) if not item.holds(*answer)]
    expect(not wrong, f"missing or different in Elasticsearch: {', '.join(wrong)}")


def test_logstash_may_add_lines_and_nothing_else(host: Any, settings: ElasticsearchSettings) -> None:
    if not settings.leads:
        return
    may = json.loads(host.check_output(_asking("create_doc", "auto_configure")).splitlines()[-1])[0][1]
    lacking = [name for name, has in may["index"]["logs-clawd.bot-default"].items() if not has]
    expect(may["has_all_requested"], f"Logstash may not add lines: it lacks {', '.join(lacking)}")
    read = json.loads(host.check_output(_asking("read", "delete")).splitlines()[-1])[0][1]
    can = any(read["index"]["logs-clawd.bot-default"].values())
    expect(not can, "Logstash can read or delete lines, and should only add some")


def _asking(*privileges: str) -> str:
    body = {"index": [{"names": ["logs-clawd.bot-default"], "privileges": list(privileges)}]}
    return command(SERVER, (Call("GET", "/_security/user/_has_privileges", WRITER, body),), reading=True)


def _machine(host: Any) -> HostMemory:
    fact = HostMemoryFact()
    return fact.process(host.check_output(fact.command()).splitlines())


STRANGER = """
import ssl, sys, urllib.error, urllib.request
context = ssl.create_default_context(cafile=sys.argv[2])
try:
    print(urllib.request.urlopen("https://127.0.0.1:%s/" % sys.argv[1], context=context, timeout=10).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""

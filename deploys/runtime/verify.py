"""Checks of engine and bot, read-only. No secret leaves the host."""

from __future__ import annotations

import json
from typing import Any

from deploys.nvidia.gpus import machine_of
from deploys.ops.checks import ends_soon, runs_as_started
from deploys.runtime.config import bot_config, engine_config, gpu_layers
from deploys.runtime.deploy import (
    BOT_CONFIG,
    CURRENT,
    ENGINE_CONFIG,
    INTERNAL,
    SECRETS,
    bot_reads,
    engine_reads,
    probe,
)
from deploys.runtime.settings import ENGINE_SOCKET, EngineSettings, RuntimeSettings

UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3}
MOST_EXPOSURE = 30
"""Of `systemd-analyze security`, in tenths: 3.0 of 10."""


def test_services_run_with_what_is_on_the_disk(host: Any, settings: RuntimeSettings) -> None:
    reads = {"clawd-bot": bot_reads(settings)}
    if settings.engine:
        reads["clawd-engine"] = engine_reads(model_of(host))
    for name, files in reads.items():
        pid(host, name)
        assert runs_as_started(host, f"{name}.service", watch=files), (
            f"one of these changed since {name} was started: {', '.join(files)}"
        )


def test_services_start_at_boot(host: Any, settings: RuntimeSettings) -> None:
    disabled = [name for name in names(settings) if not host.service(name).is_enabled]
    assert not disabled, f"not enabled: {', '.join(disabled)}"


def test_settings_of_the_bot(host: Any, settings: RuntimeSettings) -> None:
    assert host.file(BOT_CONFIG).content_string == bot_config(settings), f"{BOT_CONFIG} is not as declared"


def test_settings_of_the_engine(host: Any, settings: RuntimeSettings) -> None:
    file = host.file(ENGINE_CONFIG)
    if settings.engine is None:
        assert not file.exists
        return
    model = model_of(host)
    declared = engine_config(settings.engine, model, has_gpu=has_gpu(host, settings.engine))
    assert file.content_string == declared, f"{ENGINE_CONFIG} is not as declared"
    assert host.file(model).is_file, f"{model} is not there"


def test_the_bot_runs_the_current_release(host: Any, settings: RuntimeSettings) -> None:
    if settings.container:
        current = host.check_output("sed -n 's/^IMAGE=//p' %s/image.env", CURRENT)
        running = host.check_output("docker inspect --format '{{.Image}}' clawd-bot")
        assert running == current, f"{CURRENT} is image {current}, the bot runs {running}"
        return
    current = host.check_output("readlink -f %s", CURRENT)
    loaded = host.check_output(
        "grep -oE '/opt/clawd/releases/[0-9a-f]+' /proc/%s/maps | sort -u", pid(host, "clawd-bot")
    )
    assert loaded == current, f"{CURRENT} is {current}, the bot has loaded {loaded}"


def test_containers_are_those_declared(host: Any, settings: RuntimeSettings) -> None:
    running = set(host.run("docker ps --format '{{.Names}}'").stdout.split()) & {"clawd-engine", "clawd-bot"}
    assert running == (set(names(settings)) if settings.container else set())


def test_containers_are_confined(host: Any, settings: RuntimeSettings) -> None:
    for name in names(settings) if settings.container else ():
        shown = host.check_output("docker inspect --format '{{json .HostConfig}}' %s", name)
        confinement = json.loads(shown)
        assert confinement["ReadonlyRootfs"], f"{name} may write to its image"
        assert not confinement["Privileged"], f"{name} is privileged"
        assert not confinement["PortBindings"], f"{name} publishes ports past the firewall"
        status = dict(
            line.split(":\t", 1)
            for line in host.check_output("cat /proc/%s/status", pid(host, name)).splitlines()
            if ":\t" in line
        )
        assert (int(status["CapBnd"], 16), status["NoNewPrivs"], status["Seccomp"]) == (0, "1", "2"), name


def test_processes_run_as_their_users(host: Any, settings: RuntimeSettings) -> None:
    for name in names(settings):
        owner = host.check_output("ps -o user:32=,group:32= -p %s", pid(host, name)).split()
        assert owner == [name, "clawd"]


def test_memory_limits_are_in_force(host: Any, settings: RuntimeSettings) -> None:
    limits = {"clawd-bot": settings.memory_max}
    if settings.engine:
        limits["clawd-engine"] = settings.engine.memory_max
    for name, limit in limits.items():
        pid(host, name)
        assert memory_limit(host, name) == in_bytes(limit), name


def test_units_are_sandboxed(host: Any, settings: RuntimeSettings) -> None:
    for name in names(settings):
        judged = host.run(f"systemd-analyze security --no-pager --threshold={MOST_EXPOSURE} {name}.service")
        assert judged.rc == 0, judged.stdout.splitlines()[-1:]


def test_the_engine_has_no_network(host: Any, settings: RuntimeSettings) -> None:
    if settings.engine:
        own = host.check_output("readlink /proc/%s/ns/net", pid(host, "clawd-engine"))
        assert own != host.check_output("readlink /proc/1/ns/net")


def test_the_engine_serves_its_model_to_the_group_only(host: Any, settings: RuntimeSettings) -> None:
    if settings.engine is None:
        return
    socket = host.file(ENGINE_SOCKET)
    assert (socket.user, socket.group, socket.mode) == ("clawd-engine", "clawd", 0o660)
    assert host.run("runuser -u nobody -- test -e %s", ENGINE_SOCKET).rc != 0
    answer = json.loads(host.check_output("python3 -c %s /v1/models", ASK_ENGINE))
    assert [model["id"] for model in answer["data"]] == [settings.engine.model_name]


def test_the_gpu_computes_what_is_declared(host: Any, settings: RuntimeSettings) -> None:
    """By what llama.cpp itself said when it loaded the model."""
    engine = settings.engine
    layers = gpu_layers(engine, has_gpu=has_gpu(host, engine)) if engine else 0
    told = metrics(host) if engine else {}
    computed, whole = told.get("clawd_engine_gpu_layers", 0), told.get("clawd_engine_model_layers", 0)
    if not layers:
        assert not computed, f"the GPU computes {computed:.0f} layers, and none are declared"
        return
    wanted = whole if layers == "all" else min(layers, whole)
    assert computed, "the engine computes nothing on the GPU"
    assert computed == wanted, f"the GPU computes {computed:.0f} of {whole:.0f} layers, declared: {layers}"


def test_the_bot_answers(host: Any, settings: RuntimeSettings) -> None:
    asked = host.run(probe(settings.port, "/readyz"))
    assert asked.rc == 0, asked.stderr.strip().splitlines()[-1:]


def test_the_bot_listens_only_where_declared(host: Any, settings: RuntimeSettings) -> None:
    declared = {settings.port: "127.0.0.1"}
    if settings.internal:
        declared[settings.internal.port] = settings.internal.host
    for port, address in declared.items():
        listening = host.check_output("ss -Hltn sport = :%s", str(port)).splitlines()
        # ss shows a socket of both families as `*`.
        shown = "*" if address == "::" else address
        assert [line.split()[3] for line in listening] == [f"{shown}:{port}"]


def test_the_bot_refuses_clients_without_a_certificate_of_the_project(
    host: Any, settings: RuntimeSettings
) -> None:
    if settings.internal is None:
        return
    port = settings.internal.port
    for certificate, expected in ((INTERNAL, "200"), ("", "refused")):
        answer = host.check_output("python3 -c %s %s %s %s", ASK_INTERNAL, str(port), INTERNAL, certificate)
        client = "a certificate of the project" if certificate else "no certificate"
        assert answer == expected, f"port {port} answers a client with {client}: {answer}"


def test_certificate_does_not_end_soon(host: Any, settings: RuntimeSettings) -> None:
    if settings.internal:
        assert not (problem := ends_soon(host, INTERNAL)), problem


def test_secrets_are_private(host: Any, settings: RuntimeSettings) -> None:
    listed = host.check_output("cd %s && stat -c '%%n %%U %%a' .[!.]* * 2>/dev/null || true", SECRETS)
    assert listed.splitlines() == [f"{name} root 600" for name in sorted(settings.credentials)]
    assert host.file(SECRETS).mode == 0o700


def test_no_secret_is_shown(host: Any, settings: RuntimeSettings) -> None:
    units = " ".join(names(settings))
    shown = host.check_output(SECRETS_SHOWN, SECRETS, units)
    assert not shown, f"can be seen in settings, units, arguments or environment: {shown}"


def test_the_database_is_private(host: Any, settings: RuntimeSettings) -> None:
    if settings.database is not None:
        return
    folder, database = host.file("/var/lib/clawd-bot"), host.file("/var/lib/clawd-bot/bot.db")
    assert (folder.user, folder.mode) == ("clawd-bot", 0o700)
    assert (database.user, database.mode) == ("clawd-bot", 0o600)


def names(settings: RuntimeSettings) -> list[str]:
    """The services of this host."""
    return ["clawd-engine", "clawd-bot"] if settings.engine else ["clawd-bot"]


def pid(host: Any, name: str) -> str:
    """The main process of a service, which must be running; in a container, the first one there."""
    number: str = host.check_output("systemctl show --property MainPID --value %s", name)
    assert number != "0", f"{name} does not run"
    inside = host.run("docker inspect --format '{{.State.Pid}}' %s", name)
    return str(inside.stdout.strip()) if inside.rc == 0 else number


def has_gpu(host: Any, engine: EngineSettings) -> bool:
    """Whether there are GPUs for the engine to compute on."""
    return engine.gpu is not None and bool(machine_of(host, engine.gpu.root).gpus)


def metrics(host: Any) -> dict[str, float]:
    """The engine's metrics without labels, by name."""
    told = host.check_output("python3 -c %s /metrics", ASK_ENGINE)
    rows = (line.split() for line in told.splitlines() if "{" not in line and not line.startswith("#"))
    return {row[0]: float(row[1]) for row in rows if len(row) == 2}


def model_of(host: Any) -> str:
    """The path of the model that the engine is told to serve."""
    return str(json.loads(host.file(ENGINE_CONFIG).content_string)["model"])


def memory_limit(host: Any, name: str) -> int:
    """What the kernel allows a service, in bytes, from its process's cgroup of version 2 or 1."""
    groups = [
        line.split(":", 2) for line in host.check_output("cat /proc/%s/cgroup", pid(host, name)).split()
    ]
    paths = {
        **{f"/sys/fs/cgroup{path}/memory.max": None for _, kinds, path in groups if not kinds},
        **{
            f"/sys/fs/cgroup/memory{path}/memory.limit_in_bytes": None
            for _, kinds, path in groups
            if kinds == "memory"
        },
    }
    limit: str = host.check_output(f"cat {' '.join(paths)} 2>/dev/null || true")
    return int(limit.split()[0])


def in_bytes(size: str) -> int:
    """`400M` as systemd understands it."""
    return int(size[:-1]) * UNITS[size[-1]]


ASK_ENGINE = f"""
import http.client, socket, sys
connection = http.client.HTTPConnection("engine", timeout=10)
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect("{ENGINE_SOCKET}")
connection.request("GET", sys.argv[1])
print(connection.getresponse().read().decode())
"""

ASK_INTERNAL = """
import http.client, ssl, sys
port, folder, certificate = sys.argv[1:]
context = ssl.create_default_context(cafile=folder + "/ca.pem")
context.check_hostname = False
if certificate:
    context.load_cert_chain(certificate + "/fullchain.pem", certificate + "/privkey.pem")
connection = http.client.HTTPSConnection("127.0.0.1", int(port), timeout=10, context=context)
try:
    connection.request("GET", "/healthz")
    print(connection.getresponse().status)
except (ssl.SSLError, ConnectionError):
    print("refused")
"""

SECRETS_SHOWN = """
cd %s && units=%s
public() {
    systemctl show $units
    systemctl cat $units
    docker inspect $units 2>/dev/null
    cat /etc/clawd/*.json
    for unit in $units; do
        process=$(systemctl show --property MainPID --value $unit)
        tr '\\0' '\\n' < /proc/$process/cmdline
        tr '\\0' '\\n' < /proc/$process/environ
    done
}
seen=$(public)
for secret in *; do
    [ -s "$secret" ] || continue
    case $seen in *"$(cat "$secret")"*) echo "$secret" ;; esac
done
"""

"""Read-only checks of engine and bot. No secret leaves the host."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploys.nvidia.gpus import machine_of
from deploys.ops.checks import (
    expect,
    expect_at_boot,
    expect_certificate,
    expect_content,
    expect_listening,
    expect_original,
    expect_owner,
    expect_started_with,
    said,
)
from deploys.ops.paths.push import SUMS
from deploys.ops.programs import program
from deploys.runtime import further_engines
from deploys.runtime.bot_question import expect_answer
from deploys.runtime.config import (
    ACCESS,
    ASK_ROUTES,
    POLICY,
    ROUTES,
    access_table,
    bot_config,
    engine_config,
    gpu_layers,
    route_table,
)
from deploys.runtime.deploy import (
    BOT_CONFIG,
    CURRENT,
    ENGINE_CONFIG,
    SECRETS,
    bot_reads,
    engine_reads,
    probe,
)
from deploys.runtime.settings import (
    ENGINE_SOCKET,
    ENGINE_STATES,
    INTERNAL,
    EngineSettings,
    RuntimeSettings,
    further_socket,
)
from deploys.topology.engines import further_unit
from inventory.policy_files.assembly import assembled

UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3}
MOST_EXPOSURE = 30
"""Limit for `systemd-analyze security`, in tenths: 3.0 of 10."""


def test_services_run_with_what_is_on_the_disk(host: Any, settings: RuntimeSettings) -> None:
    reads = {"clawd-bot": bot_reads(settings)}
    if settings.engine:
        reads["clawd-engine"] = engine_reads(model_of(host))
    for name in settings.further:
        model = model_of(host, further_engines.config_of(name))
        reads[further_unit(name)] = further_engines.reads(name, model)
    for name, files in reads.items():
        pid(host, name)
        expect_started_with(host, f"{name}.service", watch=files, at_boot=False)


def test_services_start_at_boot(host: Any, settings: RuntimeSettings) -> None:
    for name in names(settings):
        expect_at_boot(host, f"{name}.service")


def test_settings_of_the_bot(host: Any, settings: RuntimeSettings) -> None:
    expect_content(host, BOT_CONFIG, bot_config(settings))


def test_the_bot_uses_the_declared_policy(host: Any, settings: RuntimeSettings) -> None:
    if settings.policy is not None:
        expect_content(host, POLICY, assembled(settings.policy).text())
        expect_metric(host, settings, "clawd_policy_valid", f"the bot cannot use {POLICY}")


def test_the_bot_uses_the_declared_access(host: Any, settings: RuntimeSettings) -> None:
    expect_content(host, ACCESS, access_table(settings))
    expect_metric(host, settings, "clawd_access_file_readable", f"the bot cannot use {ACCESS}")


def expect_metric(host: Any, settings: RuntimeSettings, name: str, problem: str) -> None:
    """Raise `CheckFailed` with this `problem` unless the bot reports this metric as 1."""
    printed = host.check_output("/usr/bin/python3 -c %s %s", READ_METRICS, str(settings.port))
    expect(f"{name} 1.0" in printed.splitlines(), problem, "read why: journalctl --namespace clawd-bot")


READ_METRICS = (
    "import sys, urllib.request as u; "
    "print(u.urlopen(f'http://127.0.0.1:{sys.argv[1]}/metrics', timeout=10).read().decode())"
)


def test_the_bot_uses_the_declared_routes(host: Any, settings: RuntimeSettings) -> None:
    expect_content(host, ROUTES, route_table(settings))
    used = json.loads(host.check_output("python3 -c %s %s", ASK_ROUTES, str(settings.port)))
    hint = "read `journalctl --namespace='*' -u clawd-bot` on the host"
    expect(not used["problem"], f"the bot cannot use {ROUTES}: {used['problem']}", hint)
    version = settings.routes.version
    same = used["version"] == version and sorted(used["models"]) == sorted(settings.models)
    expect(same, f"the bot uses routes {used['version']}, declared are routes {version}", hint)


def test_no_model_lost_its_share(host: Any, settings: RuntimeSettings) -> None:
    used = json.loads(host.check_output("python3 -c %s %s", ASK_ROUTES, str(settings.port)))
    lost = {name: model["stopped"] for name, model in used["models"].items() if model["stopped"]}
    found = "; ".join(f"{name}: {reason}" for name, reason in lost.items())
    hint = "correct the model and raise `routes.version`, or set its share to 0"
    expect(not lost, f"the bot has taken shares away, {found}", hint)


def test_settings_of_the_engine(host: Any, settings: RuntimeSettings) -> None:
    file = host.file(ENGINE_CONFIG)
    if settings.engine is None:
        expect(not file.exists, f"{ENGINE_CONFIG} is there, and no engine is declared")
        return
    model = model_of(host)
    declared = engine_config(settings.engine, model, has_gpu=has_gpu(host, settings.engine))
    expect_content(host, ENGINE_CONFIG, declared)
    expect(host.file(model).is_file, f"{model} is missing", "run `up`, which brings the model")


def test_the_bot_runs_the_current_release(host: Any, settings: RuntimeSettings) -> None:
    if settings.container:
        current = host.check_output("sed -n 's/^IMAGE=//p' %s/image.env", CURRENT)
        running = host.check_output("docker inspect --format '{{.Image}}' clawd-bot")
        expect(running == current, f"{CURRENT} is image {current}, the bot runs {running}")
        return
    current = host.check_output("readlink -f %s", CURRENT)
    loaded = host.check_output(
        "grep -oE '/opt/clawd/releases/[0-9a-f]+' /proc/%s/maps | sort -u", pid(host, "clawd-bot")
    )
    expect(loaded == current, f"{CURRENT} is {current}, the bot has loaded {loaded or 'none'}")


def test_the_release_is_as_it_was_installed(host: Any, settings: RuntimeSettings) -> None:
    """Check files by the digests that were computed when the release was unpacked."""
    expect_original(host, "/usr/bin/python3")
    if settings.container:
        return  # an image is named by the digest of its content
    checked = host.run("cd %s && sha256sum --quiet --check %s", CURRENT, SUMS)
    changed = [line.partition(":")[0] for line in checked.stdout.splitlines() if ": FAILED" in line]
    named = ", ".join(changed[:5]) or said(checked)
    hint = "find out who changed it; remove its folder on the host and run `up`, which brings it again"
    expect(checked.rc == 0, f"files of the release {CURRENT} were changed: {named}", hint)


def test_containers_are_those_declared(host: Any, settings: RuntimeSettings) -> None:
    running = set(host.run("docker ps --format '{{.Names}}'").stdout.split()) & {"clawd-engine", "clawd-bot"}
    wanted = set(names(settings)) if settings.container else set()
    found = ", ".join(sorted(running)) or "none"
    expect(running == wanted, f"our containers that run: {found}; declared: {', '.join(wanted) or 'none'}")


def test_containers_are_confined(host: Any, settings: RuntimeSettings) -> None:
    for name in names(settings) if settings.container else ():
        shown = host.check_output("docker inspect --format '{{json .HostConfig}}' %s", name)
        confinement = json.loads(shown)
        expect(confinement["ReadonlyRootfs"], f"the container {name} may write to its image")
        expect(not confinement["Privileged"], f"the container {name} is privileged")
        expect(not confinement["PortBindings"], f"the container {name} publishes ports past the firewall")
        status = dict(
            line.split(":\t", 1)
            for line in host.check_output("cat /proc/%s/status", pid(host, name)).splitlines()
            if ":\t" in line
        )
        found = (int(status["CapBnd"], 16), status["NoNewPrivs"], status["Seccomp"])
        expect(found == (0, "1", "2"), f"the container {name} has capabilities, or lacks seccomp")


def test_processes_run_as_their_users(host: Any, settings: RuntimeSettings) -> None:
    for name in names(settings):
        owner = host.check_output("ps -o user:32=,group:32= -p %s", pid(host, name)).split()
        user = name.partition("@")[0]
        expect(owner == [user, "clawd"], f"{name} runs as {':'.join(owner)}, and should as {user}:clawd")


def test_memory_limits_are_in_force(host: Any, settings: RuntimeSettings) -> None:
    limits = {"clawd-bot": settings.memory_max}
    if settings.engine:
        limits["clawd-engine"] = settings.engine.memory_max
    limits |= {further_unit(name): engine.memory_max for name, engine in settings.further.items()}
    for name, limit in limits.items():
        pid(host, name)
        found = memory_limit(host, name)
        same = found == in_bytes(limit)
        expect(same, f"the memory limit of {name} is {found >> 20} MiB, and should be {limit}")


def test_units_are_sandboxed(host: Any, settings: RuntimeSettings) -> None:
    for name in names(settings):
        judged = host.run(f"systemd-analyze security --no-pager --threshold={MOST_EXPOSURE} {name}.service")
        expect(judged.rc == 0, f"{name}.service is exposed: {said(judged)}")


def test_the_engine_has_no_network(host: Any, settings: RuntimeSettings) -> None:
    if settings.engine:
        own = host.check_output("readlink /proc/%s/ns/net", pid(host, "clawd-engine"))
        expect(own != host.check_output("readlink /proc/1/ns/net"), "the engine has a network of the host's")


def test_the_engine_serves_its_model_to_the_group_only(host: Any, settings: RuntimeSettings) -> None:
    if settings.engine is None:
        return
    expect_owner(host, ENGINE_SOCKET, "clawd-engine", 0o660, group="clawd")
    hidden = host.run("runuser -u nobody -- test -e %s", ENGINE_SOCKET).rc != 0
    expect(hidden, f"others than the group clawd reach {ENGINE_SOCKET}")
    answer = json.loads(host.check_output("python3 -c %s /v1/models", ASK_ENGINE))
    served = [model["id"] for model in answer["data"]]
    wanted = settings.engine.model_name
    expect(served == [wanted], f"the engine serves {', '.join(served)}, and should serve {wanted}")


def test_further_engines_are_those_declared(host: Any, settings: RuntimeSettings) -> None:
    fact = further_engines.EngineNamesFact()
    found = fact.process(host.check_output(fact.command()).splitlines())
    wanted = tuple(sorted(settings.further))
    expect(found == wanted, f"engines of further models: {', '.join(found)}; declared: {', '.join(wanted)}")
    for name, engine in settings.further.items():
        socket = further_socket(name)
        expect_owner(host, socket, "clawd-engine", 0o660, group="clawd")
        answer = json.loads(host.check_output("python3 -c %s /v1/models %s", ASK_ENGINE, socket))
        served = [model["id"] for model in answer["data"]]
        unit, own = further_unit(name), engine.model_name
        expect(served == [own], f"{unit} serves {', '.join(served)}, and should serve {own}")


def test_the_gpu_computes_what_is_declared(host: Any, settings: RuntimeSettings) -> None:
    """Compare with the layers that llama.cpp reported when it loaded the model."""
    engine = settings.engine
    layers = gpu_layers(engine, has_gpu=has_gpu(host, engine)) if engine else 0
    found = metrics(host) if engine else {}
    computed, whole = found.get("clawd_engine_gpu_layers", 0), found.get("clawd_engine_model_layers", 0)
    if not layers:
        expect(not computed, f"the GPU computes {computed:.0f} layers, and none are declared")
        return
    wanted = whole if layers == "all" else min(layers, whole)
    expect(computed, "the engine computes nothing on the GPU", "read `journalctl -u clawd-engine` there")
    same = computed == wanted
    expect(same, f"the GPU computes {computed:.0f} of {whole:.0f} layers, declared: {layers}")


def test_the_bot_answers(host: Any, settings: RuntimeSettings) -> None:
    asked = host.run(probe(settings.port, "/readyz"))
    log = "read `journalctl --namespace='*' -u clawd-bot -u clawd-engine` on the host"
    expect(asked.rc == 0, f"the bot is not ready at port {settings.port}: {said(asked)}", log)


def test_the_bot_answers_a_question(host: Any, settings: RuntimeSettings) -> None:
    secret = settings.credentials.get("console-jwt-secret")
    if not settings.console or secret is None:
        pytest.skip("not tried: there is no channel that a question could be signed for")
    expect_answer(host, f"the bot at port {settings.port}", settings.port, secret)


def test_webhooks_of_the_declared_platforms_are_served(host: Any, settings: RuntimeSettings) -> None:
    paths = []
    if settings.telegram and settings.telegram.mode == "webhook":
        paths.append("/telegram/webhook")
    if settings.feishu:
        paths.append("/feishu/webhook")
    for path in paths:
        status = host.check_output("python3 -c %s %s %s", POST_UNSIGNED, str(settings.port), path)
        # 404 would mean that the bot does not know the platform, 200 that it accepts unsigned requests.
        expect(status == "401", f"the bot answers an unsigned POST to {path} with {status}, not with 401")


def test_the_bot_listens_only_where_declared(host: Any, settings: RuntimeSettings) -> None:
    declared = {settings.port: "127.0.0.1"}
    if settings.internal:
        declared[settings.internal.port] = settings.internal.host
    for port, address in declared.items():
        # ss shows a socket of both families as `*`.
        expect_listening(host, port, {"*" if address == "::" else address}, "the bot")


def test_the_bot_refuses_clients_without_a_certificate_of_the_project(
    host: Any, settings: RuntimeSettings
) -> None:
    if settings.internal is None:
        return
    port = settings.internal.port
    for certificate, expected in ((INTERNAL, "200"), ("", "refused")):
        answer = host.check_output("python3 -c %s %s %s %s", ASK_INTERNAL, str(port), INTERNAL, certificate)
        client = "a certificate of the project" if certificate else "no certificate"
        expect(answer == expected, f"port {port} answers a client with {client}: {answer}")


def test_certificate_does_not_end_soon(host: Any, settings: RuntimeSettings) -> None:
    if settings.internal:
        expect_certificate(host, INTERNAL)


def test_secrets_are_private(host: Any, settings: RuntimeSettings) -> None:
    listed = host.check_output("cd %s && stat -c '%%n %%U %%a' .[!.]* * 2>/dev/null || true", SECRETS)
    wanted = {f"{name} root 600" for name in settings.credentials}
    differing = ", ".join(sorted({line.split()[0] for line in wanted ^ set(listed.splitlines())}))
    expect(not differing, f"missing, not declared or not private in {SECRETS}: {differing}")
    expect_owner(host, SECRETS, "root", 0o700)


def test_no_secret_is_shown(host: Any, settings: RuntimeSettings) -> None:
    units = " ".join(names(settings))
    shown = host.check_output("sh -c %s sh %s %s", SECRETS_SHOWN, SECRETS, units)
    expect(not shown, f"can be seen in settings, units, arguments or environment: {shown}")


def test_the_database_is_private(host: Any, settings: RuntimeSettings) -> None:
    if settings.database is not None:
        return
    expect_owner(host, "/var/lib/clawd-bot", "clawd-bot", 0o700)
    expect_owner(host, "/var/lib/clawd-bot/bot.db", "clawd-bot", 0o600)


def test_states_of_conversations_are_private(host: Any, settings: RuntimeSettings) -> None:
    if settings.engine and settings.engine.states:
        expect_owner(host, ENGINE_STATES, "clawd-engine", 0o700)


def names(settings: RuntimeSettings) -> list[str]:
    """Return the services of this host."""
    engines = ["clawd-engine"] if settings.engine else []
    return [*engines, *map(further_unit, settings.further), "clawd-bot"]


def pid(host: Any, name: str) -> str:
    """Return the main process of a running service; of one in a container, the first process there."""
    number: str = host.check_output("systemctl show --property MainPID --value %s", name)
    expect(
        number != "0",
        f"{name} does not run",
        f"run `up`, or read `journalctl --namespace='*' -u {name}` on the host",
    )
    inside = host.run("docker inspect --format '{{.State.Pid}}' %s", name)
    return str(inside.stdout.strip()) if inside.rc == 0 else number


def has_gpu(host: Any, engine: EngineSettings) -> bool:
    """Return whether the host has GPUs for the engine."""
    return engine.gpu is not None and bool(machine_of(host, engine.gpu.root).gpus)


def metrics(host: Any) -> dict[str, float]:
    """Return the engine's metrics without labels, by name."""
    text = host.check_output("python3 -c %s /metrics", ASK_ENGINE)
    rows = (line.split() for line in text.splitlines() if "{" not in line and not line.startswith("#"))
    return {row[0]: float(row[1]) for row in rows if len(row) == 2}


def model_of(host: Any, config: str = ENGINE_CONFIG) -> str:
    """Return the path of the engine's configured model."""
    return str(json.loads(host.file(config).content_string)["model"])


def memory_limit(host: Any, name: str) -> int:
    """Return the memory limit of a service in bytes, from its process's cgroup of version 2 or 1."""
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
    return int(limit.split(maxsplit=1)[0])


def in_bytes(size: str) -> int:
    """Return the bytes of a size such as `400M`, as systemd reads it."""
    return int(size[:-1]) * UNITS[size[-1]]


POST_UNSIGNED = """
import sys, urllib.error, urllib.request as u
try:
    answer = u.urlopen("http://127.0.0.1:" + sys.argv[1] + sys.argv[2], b"{}", timeout=10).status
except urllib.error.HTTPError as refusal:
    answer = refusal.code
except OSError as error:
    answer = error
print(answer)
"""

ASK_ENGINE = f"""
import http.client, socket, sys
connection = http.client.HTTPConnection("engine", timeout=10)
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[2] if len(sys.argv) > 2 else "{ENGINE_SOCKET}")
connection.request("GET", sys.argv[1])
print(connection.getresponse().read().decode())
"""

ASK_INTERNAL = program("deploys/runtime/scripts/ask_internal.py")

SECRETS_SHOWN = program("deploys/runtime/scripts/secrets_shown.sh")

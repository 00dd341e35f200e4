"""The page of metrics, from the registries of bot and engine and from the programs on hosts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry

from clawd_runtime.bot.service.metrics import Metrics
from clawd_runtime.engine.metrics import EngineMetrics
from deploys.ops.paths.files import TEMPLATES
from docs.generator.markdown import code, generated, table

HEAD = ("metric", "type", "labels", "meaning")
HOW = """
Bot and engine: what their Prometheus registries hold. Hosts: the `HELP` and `TYPE` lines in the
programs under `templates/` that write text files for the node exporter, or what
`docs/generator/metrics.py` has for programs without `HELP`. Prometheus adds the labels `host`,
`instance` and `job`. Metrics of the exporters themselves are described by their own projects.
"""
WITHOUT_HELP = {
    "clawd_gpu_up": "Whether nvidia-smi answers.",
    "clawd_gpu_temperature_celsius": "Temperature of a GPU.",
    "clawd_gpu_utilization_ratio": "Part of the time in which a GPU computed.",
    "clawd_gpu_memory_used_bytes": "Memory of a GPU in use.",
    "clawd_gpu_memory_total_bytes": "Memory of a GPU.",
    "clawd_gpu_power_watts": "Power that a GPU draws.",
    "clawd_gpu_ecc_errors_uncorrected": "Memory errors since the driver was loaded that ECC did not correct.",
    "clawd_tls_not_before_seconds": "When nginx's certificate begins, in seconds since 1970.",
    "clawd_tls_not_after_seconds": "When nginx's certificate ends, in seconds since 1970.",
    "clawd_tls_renewal_failed": "Whether the last attempt to renew nginx's certificate failed.",
}
"""Of programs that write no `HELP`; a test compares the names with what the programs write."""
DECLARED = re.compile(r"# (HELP|TYPE) ([a-z_]+) ([^\"\\\n]+)")


def page() -> str:
    """Return the page."""
    bot = table(HEAD, registered(Metrics().registry))
    engine = table(HEAD, registered(EngineMetrics()._registry))
    host = table(("metric", "type", "written by", "meaning"), written())
    return "\n".join(
        (
            generated("Metrics", HOW),
            f"## Bot: `GET /metrics`\n\n{bot}",
            f"## Engine: `GET /engine/metrics` of the bot\n\n{engine}",
            f"## Hosts: text files of the node exporter\n\n{host}",
        )
    )


def registered(registry: CollectorRegistry) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, type, labels and meaning of every metric of a registry, by name."""
    families = {}
    for collector in set(registry._collector_to_names):
        labels = getattr(collector, "_labelnames", ())
        for family in collector.collect():
            # What a metric looks like depends on the machine that asks, where it is about the process.
            if not family.name.startswith("process_"):
                families[_name(family.name, family.type)] = (family.type, labels, family.documentation)
    for name, (kind, labels, meaning) in sorted(families.items()):
        yield code(name), kind, ", ".join(map(code, labels)), meaning
    yield (
        code("process_*"),
        "gauge",
        "",
        "Memory, open files and times of the process, as far as /proc shows them.",
    )


def _name(family: str, kind: str) -> str:
    return family + {"counter": "_total", "info": "_info"}.get(kind, "")


def written() -> Iterator[tuple[str, str, str, str]]:
    """Yield name, type, program and meaning of every metric that a program on hosts writes."""
    for program in sorted(path for path in TEMPLATES.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        text = program.read_text(encoding="utf-8")
        declared: dict[str, dict[str, str]] = {}
        for kind, name, said in DECLARED.findall(text):
            declared.setdefault(name, {})[kind] = said
        if "# TYPE " in text and not any("HELP" in found for found in declared.values()):
            prefix = program_prefix(declared)
            declared = {
                name: {"HELP": said} for name, said in WITHOUT_HELP.items() if name.startswith(prefix)
            }
        where = Path("templates") / program.relative_to(TEMPLATES)
        for name, found in sorted(declared.items()):
            yield code(name), found.get("TYPE", "gauge"), code(str(where)), found.get("HELP", "")


def program_prefix(declared: dict[str, dict[str, str]]) -> str:
    """Return what all metrics of a program begin with, such as `clawd_gpu_`."""
    return "_".join(next(iter(declared)).split("_")[:2]) + "_"

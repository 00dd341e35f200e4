"""Which metrics there are: those of ours, as our programs export them, and those of others that we know."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from clawd_runtime.bot.service.metrics import Metrics
from clawd_runtime.bot.store.store import Depths
from clawd_runtime.engine.metrics import EngineMetrics
from deploys.ops.paths.files import TEMPLATES, rendered
from deploys.tls.certificate import new_certificate
from deploys.tls.settings import TlsSettings

OF_OTHERS = frozenset(
    {
        # Prometheus itself, of every target.
        "up",
        # node_exporter: its collectors meminfo and filesystem.
        "node_memory_MemAvailable_bytes",
        "node_memory_MemTotal_bytes",
        "node_filesystem_avail_bytes",
        "node_filesystem_size_bytes",
        # blackbox_exporter, prober http.
        "probe_success",
        "probe_ssl_earliest_cert_expiry",
        # nginx-prometheus-exporter, postgres_exporter, Alertmanager.
        "nginx_up",
        "pg_up",
        "alertmanager_notifications_failed_total",
        # Of the process, as every client library of Prometheus exports them (here: the bot's).
        "process_resident_memory_bytes",
    }
)
SMI = "0, NVIDIA L4, 61, 87, 10240, 23034, 70.50, 0"
NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}


def read_by(expr: str) -> set[str]:
    """The metrics that a PromQL expression reads: its names that are no functions, labels or words."""
    bare = re.sub(r"""\"[^\"]*\"|'[^']*'""", "", expr)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    grouping = r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)"
    bare = re.sub(grouping, "", bare)
    bare = re.sub(r"\b[0-9][0-9a-z.]*", "", bare)
    return {
        match[0]
        for match in NAME.finditer(bare)
        if match[0].lower() not in WORDS and not bare[match.end() :].lstrip().startswith("(")
    }


def of_ours(folder: Path) -> set[str]:
    """The samples of bot and engine, and of all that is written into the node exporter's text files."""
    bot, engine = Metrics(), EngineMetrics()
    bot.expect(["telegram"])
    exposition = bot.render(Depths(0, {})).decode() + engine.text().decode()
    names = {
        sample
        for family in text_string_to_metric_families(exposition)
        for sample in (family.name, family.name + "_total")
    }
    names |= {f"{name}_{part}" for name in set(names) for part in ("bucket", "sum", "count")}
    return names | of_text_files(folder)


def of_text_files(folder: Path) -> set[str]:
    """What our programs write for the node exporter, run here with all that they could find."""
    written = folder / "text-files"
    written.mkdir()
    _gpus(folder, written)
    _certificates(folder, written)
    _backup(folder, written)
    files = sorted(written.glob("*.prom"))
    assert len(files) == len(TEXT_FILES), files
    return {
        sample.name
        for file in files
        for family in text_string_to_metric_families(file.read_text())
        for sample in family.samples
    }


TEXT_FILES = ("clawd_gpu", "clawd_certificates", "clawd_tls", "clawd_database_backup")


def _gpus(folder: Path, written: Path) -> None:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\necho '{SMI}'\n")
    (folder / "nvidia-smi").chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    program = TEMPLATES / "exporters" / "gpu-metrics"
    words = [sys.executable, "-I", str(program), str(written / "clawd_gpu.prom")]
    subprocess.run(words, env=environment, check=True, timeout=60)


def _certificates(folder: Path, written: Path) -> None:
    current = folder / "tls"
    current.mkdir()
    made = new_certificate(TlsSettings(names=("bot.example.com",)), None, datetime.now(UTC))
    (current / "fullchain.pem").write_bytes(made.certificate_pem)
    program = TEMPLATES / "exporters" / "certificate-metrics"
    words = [
        sys.executable,
        "-I",
        str(program),
        str(written / "clawd_certificates.prom"),
        f"database={current}",
    ]
    subprocess.run(words, check=True, timeout=60)
    spec = importlib.util.spec_from_file_location("certificate", TEMPLATES / "tls" / "certificate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    places = {"CURRENT": current, "LEGO": folder / "lego", "METRICS": written / "clawd_tls.prom"}
    for name, place in places.items():
        setattr(module, name, place)
    module.tell()


def _backup(folder: Path, written: Path) -> None:
    (folder / "clawd-20261122T033000Z.dump").write_bytes(b"dump")
    program = folder / "backup-metrics"
    program.write_text(rendered("database/backup-metrics", {"textfiles": written}))
    environment = {"FOLDER": str(folder), "DATABASE": "clawd", "SERVICE_RESULT": "success"}
    subprocess.run(["sh", program], env={**os.environ, **environment}, check=True, timeout=60)

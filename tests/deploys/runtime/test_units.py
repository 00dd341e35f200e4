"""The two units: whole files, and what must hold in them after any change."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploys.ops.paths.files import rendered
from deploys.runtime.journal import NAMESPACE
from deploys.runtime.settings import JOURNAL_MAX
from deploys.runtime.verify import MOST_EXPOSURE
from tests.deploys.golden import assert_golden

GOLDEN = Path(__file__).parent / "golden"
# Since systemd 250.
EXPOSURE = (
    "--offline"
    in subprocess.run(["systemd-analyze", "--help"], capture_output=True, text=True, check=False).stdout
)
CREDENTIALS = {
    **{name: f"/etc/clawd/secrets/{name}" for name in ("console-jwt-secret", "telegram-token")},
    "internal-key": "/etc/clawd/bot-internal/privkey.pem",
}


def engine_unit(cuda: str = "") -> str:
    values = {"model_name": "smollm2-135m-q8_0", "memory_max": "1G", "release": "95a1b73a985f4f14"}
    where = {"config": "/etc/clawd/engine.json", "folder": "clawd-engine"}
    return rendered("runtime/clawd-engine.service", {**values, **where, "cuda": cuda})


def bot_unit(*, with_engine: bool = True) -> str:
    values = {
        "with_engine": with_engine,
        "credentials": CREDENTIALS,
        "memory_max": "400M",
        "release": "7a5fbbacd4121e50",
        "journal": NAMESPACE,
    }
    return rendered("runtime/clawd-bot.service", values)


def test_bot_journal_has_its_own_size_limit() -> None:
    """The bot has a journal of its own, with a limit; the engine, which only it asks, needs none."""
    text = rendered("runtime/journald.conf", {"limit": JOURNAL_MAX})
    assert_golden(GOLDEN / "journald.conf", text)
    assert "SystemMaxUse=200M" in text.splitlines()
    assert "LogNamespace=clawd-bot" in bot_unit().splitlines()
    assert "LogNamespace" not in engine_unit()


def test_engine_unit_equals_golden_file() -> None:
    assert_golden(GOLDEN / "clawd-engine.service", engine_unit())


def test_engine_unit_with_gpu_equals_golden_file_and_systemd_accepts_it(tmp_path: Path) -> None:
    text = engine_unit("/usr/local/cuda-12.9/targets/x86_64-linux/lib")
    assert_golden(GOLDEN / "clawd-engine-gpu.service", text)
    assert verified(tmp_path / "clawd-engine.service", text) == (0, "")
    misspelt = text.replace("DeviceAllow=char-nvidia* rw", "DeviceAllow=char-nvidia* xyz")
    assert told_of(tmp_path / "clawd-engine.service", misspelt, "DeviceAllow=char-nvidia* xyz")


def test_engine_unit_with_gpu_adds_only_device_access() -> None:
    on_processors = engine_unit().splitlines()
    on_gpu = engine_unit("/usr/local/cuda-12.9/targets/x86_64-linux/lib").splitlines()
    added = [line for line in on_gpu if line not in on_processors and line and not line.startswith("#")]
    assert added == [
        "After=clawd-gpu.service",
        "Wants=clawd-gpu.service",
        "Environment=LD_LIBRARY_PATH=/usr/local/cuda-12.9/targets/x86_64-linux/lib",
        "PrivateDevices=no",
        "DeviceAllow=char-nvidia* rw",
        "ProcSubset=all",
        "SystemCallFilter=@resources",
    ]
    assert set(on_processors) <= set(on_gpu)
    # The last one counts of those with one value.
    assert on_gpu.index("PrivateDevices=no") > on_gpu.index("PrivateDevices=yes")
    assert not [line for line in on_processors if "nvidia" in line or "DeviceAllow" in line]


@pytest.mark.skipif(not EXPOSURE, reason="this systemd-analyze cannot judge a file")
def test_engine_unit_with_gpu_has_low_systemd_exposure(tmp_path: Path) -> None:
    file = tmp_path / "clawd-engine.service"
    file.write_text(engine_unit("/usr/local/cuda-12.9/targets/x86_64-linux/lib"))
    command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={MOST_EXPOSURE}", str(file)]
    judged = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert judged.returncode == 0, judged.stdout.splitlines()[-1:]


def test_gpu_device_nodes_are_created_before_the_engine_starts(tmp_path: Path) -> None:
    text = rendered("nvidia/clawd-gpu.service", {})
    assert "Before=clawd-engine.service docker.service" in text
    program = tmp_path / "nvidia-modprobe"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    there = text.replace("/usr/bin/nvidia-modprobe", str(program))
    assert verified(tmp_path / "clawd-gpu.service", there) == (0, "")


def test_bot_unit_equals_golden_file() -> None:
    assert_golden(GOLDEN / "clawd-bot.service", bot_unit())


def test_slice_of_several_engines_equals_golden_file_and_systemd_accepts_it(tmp_path: Path) -> None:
    text = rendered("runtime/clawd-engines.slice", {"memory_max": "75%"})
    assert_golden(GOLDEN / "clawd-engines.slice", text)
    assert verified(tmp_path / "clawd-engines.slice", text) == (0, "")
    assert "Slice=clawd-engines.slice" in engine_unit().splitlines()


def test_bot_and_engine_units_do_not_stop_each_other() -> None:
    for unit in (engine_unit(), bot_unit()):
        assert not [word for word in ("Requires=", "BindsTo=", "PartOf=") if word in unit]


def test_bot_unit_without_local_engine_does_not_want_it() -> None:
    assert "clawd-engine" not in bot_unit(with_engine=False)
    assert "Wants=network-online.target\n" in bot_unit(with_engine=False)


@pytest.mark.parametrize("name", ["clawd-engine.service", "clawd-bot.service"])
def test_systemd_accepts_the_units_and_refuses_a_misspelt_one(name: str, tmp_path: Path) -> None:
    text = engine_unit() if "engine" in name else bot_unit()
    assert verified(tmp_path / name, text) == (0, "")
    misspelt = text.replace("ProtectSystem=strict", "ProtectSystem=very")
    assert told_of(tmp_path / name, misspelt, "ProtectSystem=very")
    unknown = text.replace("ProtectSystem=strict", "ProtektSystem=strict")
    assert told_of(tmp_path / name, unknown, "ProtektSystem=strict")
    assert not told_of(tmp_path / name, text, "ProtectSystem=strict")


def told_of(file: Path, text: str, line: str) -> bool:
    """Whether systemd finds fault with this very line; its words and its status differ by version."""
    _, said = verified(file, text)
    return f"{file.name}:{text.splitlines().index(line) + 1}: " in said


def verified(file: Path, text: str) -> tuple[int, str]:
    file.write_text(text, encoding="utf-8")
    command = ["systemd-analyze", "verify", "--recursive-errors=no", str(file)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return run.returncode, "\n".join(line for line in run.stderr.splitlines() if file.name in line)

"""What the engine takes for a model: by hand, and as the real engine does."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from inventory.local_files.contents import files
from inventory.model import Inventory
from inventory.model_files.footprint import MIB, PROCESS, footprint, of_model, split, tier_of
from inventory.model_files.gguf import read_header
from inventory.sections.hosts import Host
from inventory.sections.models import KeptStates, LocalModel, Models
from tests import ggufs

ROOT = Path(__file__).resolve().parents[3]
MODEL = os.environ.get("CLAWD_TEST_MODEL")

# Context size and conversations, and MiB of resident memory of the engine's model after 768 tokens in every
# conversation, as measured on Debian 12 with llama.cpp of llama-cpp-python 0.3.36.
MEASURED = [(1024, 1, 239), (2048, 4, 398), (8192, 4, 939), (8192, 8, 1661)]


def test_footprint_adds_up_weights_kv_cache_and_buffers(tmp_path: Path) -> None:
    header = read_header(ggufs.write(tmp_path / "m.gguf", ggufs.LIGHT))
    taken = footprint(header, context_size=4000, parallel=4)
    assert taken.kv_cache == 28 * 4 * (128 + 128) * 2 * 4096 * 4
    assert taken.weights == 7_615_616_512 // 256 * 144
    assert taken.total == taken.weights + taken.kv_cache + taken.buffers + PROCESS
    assert "28 layers × 4 heads × (128 + 128) × 2 bytes × 4096 tokens × 4 conversations" in taken.how


@pytest.mark.parametrize(
    ("model", "tier"),
    [(ggufs.LIGHT, "light"), (ggufs.BALANCED, "balanced"), (ggufs.PROFESSIONAL, "professional")],
)
def test_model_size_decides_its_tier(tmp_path: Path, model: ggufs.Model, tier: str) -> None:
    declared = LocalModel(path=ggufs.write(tmp_path / "m.gguf", model))
    taken = of_model(declared)
    assert taken is not None
    assert taken.tier == tier_of(model.parameters) == tier


@pytest.mark.parametrize(
    ("states", "memory"),
    [(KeptStates(), 3 << 28), (KeptStates(memory="300M"), 300 * MIB), ("none", 0)],
)
def test_saved_states_count_with_their_budget(
    tmp_path: Path, states: KeptStates | Literal["none"], memory: int
) -> None:
    path = ggufs.write(tmp_path / "m.gguf", ggufs.LIGHT)
    taken = of_model(LocalModel(path=path, states=states, memory_max="7680M"))
    without = of_model(LocalModel(path=path, states="none"))
    assert taken is not None
    assert without is not None
    assert taken.total - without.total == memory
    assert ("saved states" in taken.how) == bool(memory)


def test_missing_or_damaged_model_has_no_footprint(tmp_path: Path) -> None:
    assert of_model(LocalModel(path=tmp_path / "none.gguf")) is None
    (tmp_path / "m.gguf").write_bytes(b"GGUF and more")
    assert of_model(LocalModel(path=tmp_path / "m.gguf")) is None


def declared(model: LocalModel, **host: str) -> Inventory:
    hosts = {"bot1": Host(address="192.0.2.1", **host)}
    return Inventory(hosts=hosts, models=Models(default=model))


def test_memory_max_below_the_footprint_is_a_mistake(tmp_path: Path) -> None:
    path = ggufs.write(tmp_path / "m.gguf", ggufs.LIGHT)
    (finding,) = files(declared(LocalModel(path=path, memory_max="5G")))
    assert finding.at[0] == ("models", "default", "memory_max")
    assert (
        "5G is less than the engine needs: 5648 MiB = weights 4086 MiB + KV cache 896 MiB" in finding.problem
    )
    assert finding.advice == "write 6212M, or lower `parallel`, `context_size` or `states.memory`"
    assert not list(files(declared(LocalModel(path=path, memory_max="6G"))))
    on_gpu = {"gpu_memory": "24G", "gpu": "required"}
    assert not list(files(declared(LocalModel(path=path, memory_max="5G"), **on_gpu)))
    # The card is there, and the engine computes on the processor.
    assert list(files(declared(LocalModel(path=path, memory_max="5G"), gpu_memory="24G")))
    assert list(files(declared(LocalModel(path=path, memory_max="5G", gpu_layers=4), **on_gpu)))


def test_gpu_layers_split_memory_between_gpu_and_host(tmp_path: Path) -> None:
    taken = footprint(
        read_header(ggufs.write(tmp_path / "m.gguf", ggufs.LIGHT)), context_size=4096, parallel=4
    )
    assert taken.layers == 28 + 1
    whole = split(taken, None)
    assert (whole.gpu_layers, whole.gpu, whole.host) == (29, taken.total - taken.process, 0)
    assert split(taken, 99) == whole
    some = split(taken, 10)
    assert some.gpu - taken.buffers == pytest.approx((taken.weights + taken.kv_cache) * 10 / 29, abs=1)
    assert some.gpu + some.host == taken.weights + taken.kv_cache + 2 * taken.buffers


def test_context_size_beyond_the_model_is_a_mistake(tmp_path: Path) -> None:
    path = ggufs.write(tmp_path / "m.gguf", ggufs.BALANCED)
    (finding,) = files(declared(LocalModel(path=path, context_size=8192, memory_max="90G")))
    assert finding.at[0] == ("models", "default", "context_size")
    assert finding.advice == "write 4096 or less"


@pytest.mark.skipif(not MODEL, reason="CLAWD_TEST_MODEL names no model")
@pytest.mark.parametrize(("context", "parallel", "measured"), MEASURED)
def test_footprint_is_within_5_percent_of_recorded_measurements(
    context: int, parallel: int, measured: int
) -> None:
    taken = footprint(read_header(Path(MODEL or "")), context_size=context, parallel=parallel)
    assert taken.total / MIB == pytest.approx(measured, rel=0.05)


@pytest.mark.skipif(
    not MODEL or not importlib.util.find_spec("llama_cpp"), reason="no engine or no model here"
)
@pytest.mark.parametrize(("context", "parallel"), [(1024, 1), (4096, 4)])
def test_footprint_predicts_memory_of_the_real_engine(context: int, parallel: int) -> None:
    words = [sys.executable, "-c", ENGINE, MODEL or "", str(context), str(parallel)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runtime")}
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=120, env=environment)
    foretold = footprint(read_header(Path(MODEL or "")), context_size=context, parallel=parallel)
    assert foretold.total == pytest.approx(int(done.stdout.split()[-1]) * 1024, rel=0.25)


ENGINE = """
import sys
from pathlib import Path
from clawd_runtime.engine.llama.backends import load_backends
from clawd_runtime.engine.batching.computer import Feed
from clawd_runtime.engine.llama.model import LlamaModel
load_backends()
context, parallel = int(sys.argv[2]), int(sys.argv[3])
model = LlamaModel(Path(sys.argv[1]), context_size=context, parallel=parallel, threads=2)
tokens = model.tokenize("one two three four " * 300)[:256]
for seq in range(parallel):
    model.step([Feed(seq=seq, tokens=tokens, position=0, draw=True)])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""

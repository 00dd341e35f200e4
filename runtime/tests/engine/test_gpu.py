"""A model for a GPU is computed there or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import llama_cpp
import pytest

from clawd_runtime.engine.batching.computer import Offload, Opened
from clawd_runtime.engine.llama import backends, log, model
from clawd_runtime.engine.llama.model import LlamaModel, open_model
from clawd_runtime.engine.service import Engine
from clawd_runtime.errors import ModelError

pytestmark = pytest.mark.model

INFO = 2
SAID = b"load_tensors: offloaded 33/81 layers to GPU\n"


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Path:
    """Return the back-end folder of a fake llama_cpp package with the real library."""
    package = tmp_path / "site-packages" / "llama_cpp"
    package.mkdir(parents=True)
    (package.parent / "bin").mkdir()
    (package / "lib").symlink_to(Path(llama_cpp.__file__).parent / "lib")
    backends.load_backends()
    monkeypatch.setattr(llama_cpp, "__file__", str(package / "__init__.py"))
    return package.parent / "bin"


def test_build_without_cuda_is_refused(settings):
    """It is refused before the model is loaded, so that 40 GB are not first read into memory."""
    wanting = settings.model_copy(update={"model": "/nowhere.gguf", "n_gpu_layers": "all"})
    with pytest.raises(ModelError, match=r"built for processors only.*up.*gpu: required"):
        open_model(wanting)


def test_unloadable_cuda_is_reported_with_reason(installed):
    (installed / "libggml-cuda.so").write_bytes(b"no library")
    with pytest.raises(ModelError, match=r"CUDA cannot be loaded: .*libggml-cuda\.so.*libcuda\.so\.1"):
        backends.require_gpu()


def test_cuda_without_device_is_reported(installed):
    shutil.copy(Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so.0", installed / "libggml-cuda.so")
    with pytest.raises(ModelError, match=r"finds no usable device.*nvidia-smi.*/dev/nvidia-uvm"):
        backends.require_gpu()


def test_cpu_devices_are_not_gpus():
    backends.load_backends()
    library = backends._ggml(Path(llama_cpp.__file__).parent)
    assert backends._gpus(library) == ()
    assert library.ggml_backend_dev_count() >= 1


def test_model_without_offloaded_layers_is_refused(model_path):
    backends.load_backends()
    with pytest.raises(ModelError, match="without offloading any layer"):
        LlamaModel(model_path, context_size=256, parallel=1, threads=1, n_gpu_layers="all")


@pytest.mark.parametrize(("declared", "given"), [("all", -1), (40, 40), (0, 0)])
def test_n_gpu_layers_parameter(declared, given):
    assert model._model_parameters(declared).n_gpu_layers == given


def test_offloaded_layers_are_read_from_log():
    with log.capture_log() as said:
        log._receive(INFO, SAID, None)
        log._receive(INFO, b"load_tensors: offloading output layer to GPU\n", None)
    assert said.offloaded == (33, 81)
    assert said.text() == ""


def test_metrics_and_log_have_offloaded_layers(settings, fake_model, caplog):
    offload = Offload(33, 81, ("NVIDIA L40S", "NVIDIA L40S"))
    engine = Engine(
        settings,
        on_fault=lambda fault: None,
        open_model=lambda _: Opened(fake_model(), "zen4", 2, offload),
    )
    with caplog.at_level("INFO", logger="clawd.engine"):
        engine.load()
    try:
        lines = engine.metrics.text().decode().splitlines()
        assert {"clawd_engine_gpu_layers 33.0", "clawd_engine_model_layers 81.0"} <= set(lines)
        assert "offloaded 33 of 81 layers to NVIDIA L40S, NVIDIA L40S" in caplog.text
    finally:
        engine.close()


def test_no_layer_is_offloaded_without_gpu(settings, fake_model):
    engine = Engine(
        settings, on_fault=lambda fault: None, open_model=lambda _: Opened(fake_model(), "zen4", 2)
    )
    engine.load()
    try:
        assert "clawd_engine_gpu_layers 0.0" in engine.metrics.text().decode()
    finally:
        engine.close()

"""The lists of architectures are those of the llama.cpp that the engine has."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inventory.model_files.architectures import CHATTING, LLAMA_CPP_PYTHON, OTHERS, not_chatting
from tests.inventory.model_files.test_gguf import entry, text

LOCK = Path(__file__).resolve().parents[3] / "runtime" / "requirements.lock"
UNKNOWN_TO_LLAMA_CPP = {"whisper", "flux", "sd1", "sd3", "sdxl", "wan", "qwen_image", "lumina2"}

Facts = Callable[[str], dict[str, bool] | None]


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facts]:
    """What the real llama.cpp says of an architecture; None when it does not know it."""
    llama_cpp: Any = pytest.importorskip("llama_cpp")
    file = tmp_path_factory.mktemp("models") / "m.gguf"
    said: list[bytes] = []
    listen = llama_cpp.llama_log_callback(lambda level, line, data: said.append(line))

    def found(architecture: str) -> dict[str, bool] | None:
        entries = [
            entry("general.architecture", 8, architecture),
            entry("tokenizer.ggml.model", 8, "no_vocab"),
            entry(f"{architecture}.vocab_size", 4, 8),
        ]
        header = b"GGUF" + struct.pack("<IQQ", 3, 1, len(entries)) + b"".join(entries)
        header += text("w") + struct.pack("<IQIQ", 1, 256, 0, 0)
        file.write_bytes(header + bytes(-len(header) % 32) + bytes(1024))
        said.clear()
        llama_cpp.llama_log_set(listen, ctypes.c_void_p(0))
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = True
        model = llama_cpp.llama_model_load_from_file(str(file).encode(), parameters)
        if not model:
            assert b"model architecture" in b"".join(said), said
            return None
        try:
            return {
                "encodes": bool(llama_cpp.llama_model_has_encoder(model)),
                "decodes": bool(llama_cpp.llama_model_has_decoder(model)),
                "diffuses": bool(llama_cpp.llama_model_is_diffusion(model)),
            }
        finally:
            llama_cpp.llama_model_free(model)

    yield found
    # The library keeps the address of the callback.
    llama_cpp.llama_log_set(llama_cpp._logger.llama_log_callback, ctypes.c_void_p(0))


def test_architecture_lists_are_of_the_locked_llama_cpp_version() -> None:
    assert f"llama-cpp-python=={LLAMA_CPP_PYTHON} " in LOCK.read_text(encoding="utf-8")


def test_llama_cpp_decodes_with_every_accepted_architecture(facts: Facts) -> None:
    assert len(CHATTING) > 120
    alike = {"encodes": False, "decodes": True, "diffuses": False}
    assert [name for name in sorted(CHATTING) if facts(name) != alike] == []


def test_refused_architectures_encode_or_diffuse_or_are_unknown_to_llama_cpp(facts: Facts) -> None:
    assert not CHATTING & OTHERS.keys()
    assert {name for name in OTHERS if facts(name) is None} == UNKNOWN_TO_LLAMA_CPP
    for name in ("t5", "t5encoder", "eagle3", "dflash"):
        assert (facts(name) or {})["encodes"], name
    for name in ("dream", "llada", "llada-moe", "rnd1"):
        assert (facts(name) or {})["diffuses"], name


@pytest.mark.parametrize("name", ["whisper", "flux", "t5", "eagle3", "hologram9", "LLAMA", "", "qwen2.5"])
def test_architectures_that_cannot_chat_are_refused(name: str) -> None:
    verdict = not_chatting(name)
    assert verdict is not None
    assert name in verdict[0]


@pytest.mark.parametrize(
    "name", ["llama", "qwen2", "qwen3", "qwen3moe", "gemma3", "phi3", "gpt-oss", "mamba"]
)
def test_architectures_of_chat_models_are_accepted(name: str) -> None:
    assert not_chatting(name) is None

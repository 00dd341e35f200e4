"""Model files on the laptop: each that cannot serve is reported with its place and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from inventory.errors import InventoryError
from inventory.load import load
from tests import ggufs
from tests.inventory.conftest import VALID
from tests.inventory.model_files.test_gguf import CHAT, entry, gguf

PLACE = VALID.split("path: model.gguf")[0]
LINE, COLUMN = PLACE.count("\n") + 1, len(PLACE) - PLACE.rfind("\n") + len("path: ") - 0
LONG = "You are the assistant of the ACME team, and you answer every question briefly and politely. "


def mistakes(laptop: Path, text: str = VALID) -> list[str]:
    (laptop / "prod.yml").write_text(text)
    try:
        load(Path("prod.yml"))
    except InventoryError as error:
        return [str(mistake) for mistake in error.mistakes]
    return []


@pytest.mark.parametrize(
    ("data", "problem", "advice"),
    [
        (gguf(CHAT, data=60), "is truncated: 8 of", "download it again"),
        (gguf(CHAT)[:40], "is damaged: its header ends too early", "download it again"),
        (b"", "is empty", "download it again"),
        (b"<!DOCTYPE html><html>", "is a web page, not a model", "download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1", "is a pointer of Git LFS", "`git lfs pull`"),
        (gguf(CHAT, version=1), "is GGUF version 1", "convert it again"),
        (gguf(CHAT[:1]), "has no chat template (llama)", "instruction-tuned variant"),
        (gguf([*CHAT, entry("split.count", 4, 2)]), "is one of 2 parts", "llama-gguf-split --merge"),
        (gguf([entry("general.architecture", 8, "clip")]), "(mmproj)", "the model itself"),
        (
            gguf([*CHAT, entry("general.type", 8, "adapter")]),
            "has the type adapter",
            "the model itself",
        ),
        (
            gguf([entry("general.architecture", 8, "bert"), CHAT[1]]),
            "its architecture makes embeddings (bert)",
            "use a chat model",
        ),
        (
            gguf([CHAT[0], entry("tokenizer.chat_template", 8, "{% if %}")]),
            "the chat template of",
            "newer file",
        ),
        (
            gguf([CHAT[0], entry("tokenizer.chat_template", 8, "Hello")]),
            "cannot be used: it loses the text of system, user, assistant messages",
            "use another conversion",
        ),
        (
            gguf([entry("general.architecture", 8, "whisper"), CHAT[1]]),
            "cannot chat: its architecture writes down speech (whisper)",
            "use a chat model",
        ),
        (
            gguf([entry("general.architecture", 8, "hologram9"), CHAT[1]]),
            "has the architecture `hologram9`",
            "use a model of a supported architecture",
        ),
    ],
)
def test_model_file_that_cannot_serve_is_refused_with_its_place(
    laptop: Path, data: bytes, problem: str, advice: str
) -> None:
    (laptop / "model.gguf").write_bytes(data)
    (mistake,) = mistakes(laptop)
    assert mistake.startswith(f"prod.yml:{LINE}:{COLUMN}: ")
    assert problem in mistake
    assert advice in mistake
    assert str(laptop / "model.gguf") in mistake
    assert "not on this machine" not in mistake


def test_folder_with_the_name_of_a_model_is_refused(laptop: Path) -> None:
    (laptop / "model.gguf").unlink()
    (laptop / "model.gguf").mkdir()
    (mistake,) = mistakes(laptop)
    assert mistake.endswith("model.gguf is not a regular file\nhint: give the path of a file")


@pytest.mark.parametrize("name", ["%n.gguf", "my model.gguf", "{{x}}.gguf", "模型.gguf"])
def test_model_file_name_with_special_characters_of_units_is_refused(laptop: Path, name: str) -> None:
    ggufs.write(laptop / name, ggufs.TINY)
    (mistake,) = mistakes(laptop, VALID.replace("path: model.gguf", f"path: '{name}'"))
    assert "contains other characters than letters, digits" in mistake
    assert mistake.endswith("\nhint: rename the file")


@pytest.mark.parametrize(
    ("bot", "model", "fits"),
    [
        (LONG * 3, "context_size: 2048", True),
        (LONG * 160, "context_size: 2048", False),
        (LONG * 160, "context_size: 16384", True),
        ("你是团队的助手。" * 1000, "context_size: 8192", False),
        ("x", "context_size: 1152", False),
        ("x", "context_size: 1154", True),
    ],
)
def test_system_prompt_question_and_reply_must_fit_the_context(
    laptop: Path, bot: str, model: str, fits: bool
) -> None:
    text = (
        VALID.replace("    memory_max", f"    {model}\n    memory_max") + f"bot: {{system_prompt: {bot!r}}}\n"
    )
    found = mistakes(laptop, text)
    assert (found == []) is fits
    if not fits:
        (mistake,) = found
        assert "a chat template of 128 and a reply of 512 do not fit a context of" in mistake
        assert "raise `models.default.context_size` to at least" in mistake


def test_advised_context_size_is_accepted(laptop: Path) -> None:
    text = VALID.replace("    memory_max", "    context_size: SIZE\n    memory_max")
    text += f"bot: {{system_prompt: {LONG * 160!r}}}\n"
    (mistake,) = mistakes(laptop, text.replace("SIZE", "2048"))
    advised = int(mistake.partition("to at least ")[2].partition(",")[0])
    assert mistake.startswith(f"prod.yml:{text.count(chr(10))}:")
    assert mistakes(laptop, text.replace("SIZE", str(advised))) == []
    assert load(Path("prod.yml")).warnings == ()
    assert mistakes(laptop, text.replace("SIZE", str(advised - 1))) == []
    (warning,) = load(Path("prod.yml")).warnings
    assert f"might not fit a context of {advised - 1}" in warning.problem
    assert f"to at least {advised}," in warning.advice


def test_chinese_prompt_that_likely_fits_is_a_warning_for_local_and_fetched_models(laptop: Path) -> None:
    prompt = "请用中文回答团队的问题，简短而礼貌。" * 60
    bot = f"bot: {{max_reply_tokens: 400, system_prompt: {prompt!r}}}\n"
    url = f"    url: https://x.example/model.gguf\n    sha256: {'ab' * 32}\n"
    warnings = []
    for more in ("", url):
        text = VALID.replace("    memory_max", f"    context_size: 4096\n{more}    memory_max") + bot
        assert mistakes(laptop, text) == []
        (warning,) = load(Path("prod.yml")).warnings
        warnings.append(warning.problem)
    assert len(prompt) == 1080
    assert warnings == [warnings[0]] * 2
    assert "a system prompt of up to 3241 tokens" in warnings[0]
    assert "might not fit a context of 4096" in warnings[0]


def test_larger_context_size_within_the_model_is_advised_when_the_prompt_likely_fits(laptop: Path) -> None:
    ggufs.write(laptop / "model.gguf", ggufs.Model(2560, 1, 1, 1, 64, 64, 256, 4096))
    text = VALID.replace("    memory_max", "    context_size: 2000\n    memory_max")
    (mistake,) = mistakes(laptop, text + f"bot: {{system_prompt: {'你好' * 1200!r}}}\n")
    assert "raise `models.default.context_size` to at least 3552" in mistake


def test_shorter_prompt_is_advised_when_the_model_has_no_larger_context(laptop: Path) -> None:
    ggufs.write(laptop / "model.gguf", ggufs.Model(2560, 1, 1, 1, 64, 64, 256, 4096))
    text = VALID.replace("    memory_max", "    context_size: 4096\n    memory_max")
    (mistake,) = mistakes(laptop, text + f"bot: {{system_prompt: {LONG * 160!r}}}\n")
    assert mistake.endswith("\nhint: shorten `bot.system_prompt`")


def test_system_prompt_must_fit_the_context_of_a_remote_fallback(laptop: Path) -> None:
    remote = "{engine: openai-compatible, endpoint: 'https://x/v1', context_size: 4096}"
    fallback = f"    memory_max: 1G\n  fallback: {remote}\n"
    text = VALID.replace("    memory_max: 1G\n", f"    context_size: 32768\n{fallback}")
    (mistake,) = mistakes(laptop, text + f"bot: {{system_prompt: {LONG * 160!r}}}\n")
    assert "raise `models.fallback.context_size`" in mistake

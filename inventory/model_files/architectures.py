"""The model architectures (`general.architecture` of GGUF) with which the engine's llama.cpp can chat."""

from __future__ import annotations

import re
from difflib import get_close_matches

from inventory.values import ValueProblem

LLAMA_CPP_PYTHON = "0.3.36"
"""The version of llama-cpp-python from whose llama.cpp (`src/llama-arch.cpp`) these lists are."""

CHATTING = frozenset(
    """
    afmoe apertus arcee arctic arwkv7 baichuan bailingmoe bailingmoe2 bailingmoe3 bitnet bloom chameleon
    chatglm codeshell cogvlm cohere2 cohere2moe command-r dbrx deci deepseek deepseek2 deepseek2-ocr
    deepseek32 deepseek4 dots1 dots3note ernie4_5 ernie4_5-moe exaone exaone-moe exaone4 falcon
    falcon-h1 gemma gemma2 gemma3 gemma3n gemma4 glm-dsa glm4 glm4moe glm5-next gpt-oss gpt2 gptneox
    granite granite_swa granitehybrid granitemoe graniteswitch grok grovemoe hrm_text hunyuan-dense
    hunyuan-moe hunyuan_vl hy_v3 hy_v4 internlm2 jais jais2 jamba kimi-k3 kimi-linear laguna lfm2
    lfm2moe llama llama4 maincoder mamba mamba2 maple mellum mimo2 minicpm minicpm3 minimax-01
    minimax-m2 minimax-m3 mistral3 mistral4 mpt muse-glimmer nanbeige nemotron nemotron_h nemotron_h_moe
    olmo olmo2 olmoe openelm orion paddleocr pangu-embedded phi2 phi3 phimoe plamo plamo2 plamo3 plm
    qwen qwen2 qwen2moe qwen2vl qwen3 qwen35 qwen35moe qwen3moe qwen3next qwen3vl qwen3vlmoe qwen4exp
    refact rwkv6 rwkv6qwen2 seed_oss smallthinker smollm3 spark2_5 stablelm starcoder starcoder2 step35
    talkie xverse
    """.split()  # noqa: SIM905 - a list of this length is easier to read and compare so
)
"""Architectures that it loads and that generate text token by token."""

OTHERS = {
    **dict.fromkeys(
        (
            "bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3",
            "eurobert", "gemma-embedding", "llama-embed", "t5encoder",
        ),
        "makes embeddings",
    ),
    **dict.fromkeys(("qwen3tts", "pockettts", "wavtokenizer-dec"), "makes speech"),
    **dict.fromkeys(("eagle3", "dflash", "gemma4-assistant"), "only drafts for a larger model"),
    **dict.fromkeys(("dream", "llada", "llada-moe", "rnd1"), "fills in a whole text at once (diffusion)"),
    "t5": "transforms a text by encoder and decoder",
    "whisper": "writes down speech",
    **dict.fromkeys(("flux", "sd1", "sd3", "sdxl", "wan", "qwen_image", "lumina2"), "makes pictures"),
}  # fmt: skip
"""Known architectures that cannot chat, and what they do instead."""


def not_chatting(architecture: str) -> ValueProblem:
    """Return why a model of this architecture cannot chat, and a hint; `None` when it can."""
    if (other := OTHERS.get(architecture)) is not None:
        return f"cannot chat: its architecture {other} ({architecture})", "use a chat model"
    if architecture in CHATTING:
        return None
    near = get_close_matches(architecture, CHATTING, 1, 0.8)
    name = re.sub(r"[^ -~]", "?", architecture[:40])
    return (
        f"has the architecture `{name}`, which llama-cpp-python {LLAMA_CPP_PYTHON} does not support",
        f"use a model of a supported architecture, such as {near[0] if near else 'qwen3'}",
    )

"""`models`, and whether they fit."""

from __future__ import annotations

from tests.inventory.mistakes.case import Cases, reported

CASES: Cases = {
    "not a .gguf": (
        "model.gguf",
        "‸model.bin",
        "`model.bin` does not end in .gguf",
        "write the path of a GGUF file; convert other formats first",
    ),
    "url without sha256": (
        "    memory_max",
        "    url: ‸https://models.example.com/m.gguf\n    memory_max",
        "a model with `url` needs a digest to verify the download",
        "add `sha256:` as printed by `sha256sum`",
    ),
    "bad sha256": (
        "    memory_max",
        "    sha256: ‸abc\n    memory_max",
        "`models.default.sha256` is `abc`, which is malformed",
        "write the 64 hexadecimal digits (lower case) that `sha256sum` prints",
    ),
    "too little memory": (
        "memory_max: 1G",
        "memory_max: ‸64M",
        "64M is too little memory for the engine",
        "write at least 256M",
    ),
    "two local models in containers": (
        "    memory_max: 1G\n",
        (
            "    memory_max: 1G\n  fallback:\n    engine: ‸llama-cpp\n    path: model.gguf\n"
            "runtime: {run_with: docker}\n"
        ),
        (
            "`models.default` and `models.fallback` are both llama-cpp models, but in containers a host runs "
            "one engine"
        ),
        (
            "write `runtime.run_with: systemd`, make one of them `engine: openai-compatible`, or remove "
            "`models.fallback`"
        ),
    ),
    "name that is none": (
        "    memory_max: 1G\n",
        "    memory_max: 1G\n  ‸New_Model: {engine: openai-compatible, endpoint: https://llm.example.com/v1}\n",
        "`New_Model` is not a name of a model",
        "use 1 to 32 of a-z 0-9 -, not - at the ends",
    ),
    "further model without an address": (
        "    memory_max: 1G\n",
        "    memory_max: 1G\n  ‸new: {engine: openai-compatible}\n",
        "`models.new` lacks `endpoint`",
        "add `endpoint:` (Base URL, ending before /chat/completions; a query is kept)",
    ),
    "share of no model": (
        "    memory_max: 1G\n",
        "    memory_max: 1G\nroutes: {shares: {new: ‸5}}\n",
        "`new` is not in `models`",
        "name a model of `models` that is neither `default` nor `fallback`",
    ),
    "share of the default": (
        "    memory_max: 1G\n",
        "    memory_max: 1G\nroutes: {shares: {default: ‸5}}\n",
        "`default` has no share of its own",
        "name a model of `models` that is neither `default` nor `fallback`",
    ),
    "endpoint too long": (
        "    memory_max: 1G\n",
        (
            "    memory_max: 1G\n  fallback:\n    engine: openai-compatible\n"
            "    endpoint: ‸https://llm.example.com/v1/chat/completions\n"
        ),
        "this address ends in /chat/completions, which is added automatically",
        "remove /chat/completions",
    ),
    "login in endpoint": (
        "    memory_max: 1G\n",
        "    memory_max: 1G\n  fallback:\n    engine: openai-compatible\n    endpoint: ‸https://a:b@llm.example.com\n",
        "this address contains a login",
        "remove the part before `@`; secrets have fields of their own",
    ),
    "reply longer than context": (
        "    memory_max",
        "    context_size: ‸1151\n    memory_max",
        (
            "a system prompt of about 0 tokens, a question of 512, a chat template of 128 and a reply of "
            "512 do not fit a context of 1151"
        ),
        "raise `models.default.context_size` to at least 1152, or lower `bot.max_reply_tokens`",
    ),
    "reply longer than the fallback's context": (
        "    memory_max: 1G\n",
        (
            "    memory_max: 1G\n  fallback:\n    engine: openai-compatible\n"
            "    endpoint: https://llm.example.com\n    context_size: ‸256\n"
        ),
        (
            "a system prompt of about 10 tokens, a question of 512, a chat template of 128 and a reply of "
            "512 do not fit a context of 256"
        ),
        "raise `models.fallback.context_size` to at least 1163, or lower `bot.max_reply_tokens`",
    ),
    "more threads than the engine takes": (
        "    memory_max",
        "    threads: ‸1025\n    memory_max",
        "`models.default.threads` is `1025`, which is too large",
        "write a whole number from 1 to 1024",
    ),
    "more context than the engine takes": (
        "    memory_max",
        "    context_size: ‸1048577\n    memory_max",
        "`models.default.context_size` is `1048577`, which is too large",
        "write a whole number from 256 to 1048576",
    ),
    "model without a name": (
        "    memory_max: 1G\n",
        (
            "    memory_max: 1G\n  fallback:\n    engine: openai-compatible\n"
            '    endpoint: https://llm.example.com\n    model: ‸""\n'
        ),
        "this text is empty",
        "write a text, or leave the key out",
    ),
    "bot without memory": (
        "base:\n",
        "bot:\n  memory_max: ‸8M\nbase:\n",
        "8M is too little memory for the bot",
        "write at least 96M",
    ),
}

test_mistake = reported(CASES)

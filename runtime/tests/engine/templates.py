"""Chat templates that behave like those of well-known models, written for these tests.

Each supports, refuses or drops what its model's template does.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Model:
    """A template, the special tokens of its model, and the tokens added to its vocabulary."""

    source: str
    special: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    bos: str = "<s>"
    eos: str = "</s>"


# Inserts a default system message if there is none.
SMOLLM = Model(
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}"
    "{{ '<|im_start|>system\nYou are SmolLM, a helpful assistant<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
)

# ChatML whose marks are not tokens of the vocabulary.
CHATML_AS_TEXT = Model(SMOLLM.source, ("<s>", "</s>"))

# Opens the reasoning in the prompt, and drops it from earlier answers.
QWEN_THINKING = Model(
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% set text = m.content.split('</think>')[-1].lstrip('\n') %}"
    "{{ '<|im_start|>assistant\n' ~ text ~ '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '\n</think>\n\n' }}{% endif %}{% endif %}",
    ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    ("<think>", "</think>", "<tool_call>", "</tool_call>"),
)

# Supports user and assistant, and drops everything else.
PHI_3 = Model(
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ '<|user|>\n' + m['content'] + '<|end|>\n<|assistant|>\n' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] + '<|end|>\n' }}{% endif %}{% endfor %}",
    ("<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>", "<s>", "</s>"),
)

# Refuses a system message, and roles that do not alternate.
GEMMA = Model(
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('there is no system role') }}{% endif %}{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must take turns') }}"
    "{% endif %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    ("<bos>", "<eos>"),
    ("<start_of_turn>", "<end_of_turn>", "\n\n", "<h1>"),
    "<bos>",
    "<eos>",
)

# Marks turns with words that are not tokens; refuses a system message.
MISTRAL_1 = Model(
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must take turns') }}{% endif %}{% if m.role == 'user' %}"
    "{{ '[INST] ' + m.content + ' [/INST]' }}{% elif m.role == 'assistant' %}{{ m.content + eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}",
    ("<s>", "</s>"),
)

# Puts the system text into the last user message.
MISTRAL_3 = Model(
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set turns = messages[1:] %}{% else %}{% set turns = messages %}{% endif %}"
    "{{ bos_token }}{% for m in turns %}{% if m.role == 'user' %}"
    "{% if loop.last and system is defined %}{{ '[INST] ' + system + '\n\n' + m.content + '[/INST]' }}"
    "{% else %}{{ '[INST] ' + m.content + '[/INST]' }}{% endif %}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}",
    ("<s>", "</s>", "[INST]", "[/INST]"),
)

LLAMA_2 = Model(
    "{% if messages[0].role == 'system' %}"
    "{% set turns = messages[1:] %}{% set system = messages[0].content %}{% else %}"
    "{% set turns = messages %}{% set system = false %}{% endif %}{% for m in turns %}"
    "{% if loop.index0 == 0 and system %}"
    "{% set content = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + m.content %}"
    "{% else %}{% set content = m.content %}{% endif %}"
    "{% if m.role == 'user' %}{{ bos_token + '[INST] ' + content | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + content | trim + ' ' + eos_token }}{% endif %}{% endfor %}",
    ("<s>", "</s>"),
)

LLAMA_3 = Model(
    "{% for m in messages %}{% set text = '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + "
    "m.content | trim + '<|eot_id|>' %}{% if loop.first %}{% set text = bos_token + text %}{% endif %}"
    "{{ text }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    (),
    "<|begin_of_text|>",
    "<|eot_id|>",
)

# Its role marks are not tokens, and contain the name of the role.
ZEPHYR = Model(
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
    ("<s>", "</s>"),
)

VICUNA = Model(
    "{% if messages[0].role == 'system' %}{{ messages[0].content + ' ' }}{% set turns = messages[1:] %}"
    "{% else %}{% set turns = messages %}{% endif %}{% for m in turns %}{% if m.role == 'user' %}"
    "{{ 'USER: ' + m.content + ' ' }}{% else %}{{ 'ASSISTANT: ' + m.content + '</s>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}",
    ("<s>", "</s>"),
)

ALPACA = Model(
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content + '\n\n' }}{% elif m.role == 'user' %}"
    "{{ '### Instruction:\n' + m.content + '\n\n' }}{% else %}{{ '### Response:\n' + m.content + '\n\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}",
    ("<s>", "</s>"),
)

# Iterates over the parts of a content, and finds none in a text.
PARTS = Model(
    "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\n' }}{% for part in m.content %}"
    "{% if part.type == 'image' %}{{ '<image>' }}{% elif part.type == 'text' %}{{ part.text }}{% endif %}"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ("<|im_start|>", "<|im_end|>"),
)

# Iterates over parts, and drops the system message.
PARTS_WITHOUT_SYSTEM = Model(
    PARTS.source.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}"),
    PARTS.special,
)

HARMONY = Model(
    "{{ '<|start|>system<|message|>Reasoning: ' ~ (reasoning_effort or 'medium') ~ '<|end|>' }}"
    "{% for m in messages %}{% if m.role == 'system' %}"
    "{{ '<|start|>developer<|message|># Instructions\n\n' ~ m.content ~ '<|end|>' }}"
    "{% elif m.role == 'assistant' %}"
    "{% if '<|channel|>' in m.content %}{{ raise_exception('a channel') }}{% endif %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' ~ m.content ~ '<|end|>' }}"
    "{% else %}{{ '<|start|>user<|message|>' ~ m.content ~ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}",
    ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>"),
)

MODELS = {name.lower(): model for name, model in list(globals().items()) if isinstance(model, Model)}

"""Check of the chat template in a model's file: it must compile, and lose no words of a conversation.

Templates are Jinja, written for Transformers' `apply_chat_template`:
https://huggingface.co/docs/transformers/chat_templating. They are rendered with known words by the engine's
own code, as when it loads the model, in a separate process: a template is untrusted code, so its time and
memory are limited.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from jinja2 import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_LETTERS = 1 << 20
RUNTIME = Path(__file__).resolve().parents[1] / "runtime"
"""Where the engine's code lies, in a clone and in an installation alike."""
TRIAL_LIMIT = 60
"""Seconds; of processor time, rendering has two for a conversation."""
_INHERITED = ("LD_LIBRARY_PATH", "PATH", "SYSTEMROOT")
_TRIAL = """
import resource, sys
for limit, most in ((resource.RLIMIT_AS, 1 << 30), (resource.RLIMIT_CPU, int(sys.argv[2]))):
    try:
        resource.setrlimit(limit, (most, most))
    except (OSError, ValueError):
        pass
sys.path.insert(0, sys.argv[1])
from clawd_runtime.engine.template import ChatTemplate
from clawd_runtime.errors import ModelError
try:
    ChatTemplate(sys.stdin.buffer.read().decode(), bos="<s>", eos="</s>")
except ModelError as error:
    sys.stdout.buffer.write(str(error.args[0]).encode(errors="replace"))
"""


class _GenerationTag(Extension):
    """A parser that accepts `{% generation %}…{% endgeneration %}`, which only marks training data."""

    tags = {"generation"}  # noqa: RUF012 - declared so by the base class

    def parse(self, parser: Parser) -> Node | list[Node]:
        parser.stream.skip(1)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def problem_of(template: str) -> str:
    """Return why a chat template cannot be compiled; empty when it can."""
    if not template.strip():
        return "it is empty"
    if len(template) > MOST_LETTERS:
        return f"it has more than {MOST_LETTERS} characters"
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    try:
        environment.from_string(template)
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        return f"{error.message}{f' in line {line}' if line else ''}"
    except (RecursionError, MemoryError, SyntaxError, ValueError) as error:
        return f"it is too deeply nested ({type(error).__name__})"
    return ""


@lru_cache(maxsize=4)
def loss_of(template: str) -> str:
    """Why a chat template that can be compiled cannot be used for a conversation; empty when it can."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-B", "-c", _TRIAL, str(RUNTIME), str(TRIAL_LIMIT)],
            input=template.encode(),
            capture_output=True,
            timeout=2 * TRIAL_LIMIT,
            env={name: os.environ[name] for name in _INHERITED if name in os.environ},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it takes more than {2 * TRIAL_LIMIT} seconds"
    if done.returncode != 0:
        return "it cannot be tried: it needs more memory or time than a template may"
    problem = " ".join(done.stdout.decode(errors="replace").split())
    return problem.removeprefix("the model's chat template cannot be used: ")[:200]

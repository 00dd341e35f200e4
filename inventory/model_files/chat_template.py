"""Check of the chat template in a model's file: it must compile, and lose no words of a conversation.

Templates are Jinja, written for Transformers' `apply_chat_template`:
https://huggingface.co/docs/transformers/chat_templating. They are compiled, and rendered with known words, by
the engine's own code, as when it loads the model, in a separate process: a template is untrusted code, so its
time and memory are limited.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

RUNTIME = Path(__file__).resolve().parents[2] / "runtime"
"""Where the engine's code lies, in a clone and in an installation alike."""
TRIAL_LIMIT = 60
"""Seconds; of processor time, rendering has two for a conversation."""
MEMORY_LIMIT = 1 << 30
"""Bytes of address space."""
MOST_LETTERS = 200
"""Of a reason that is shown."""
MOST_RENDERED = 100_000
"""Letters of a rendered prompt that are returned."""
_LIMITS = (RUNTIME, TRIAL_LIMIT, MEMORY_LIMIT)
_INHERITED = ("LD_LIBRARY_PATH", "PATH", "SYSTEMROOT")
_LIMITED = """
import json, resource, sys
for limit, most in ((resource.RLIMIT_AS, int(sys.argv[3])), (resource.RLIMIT_CPU, int(sys.argv[2]))):
    try:
        resource.setrlimit(limit, (most, most))
    except (OSError, ValueError):
        pass
sys.path.insert(0, sys.argv[1])
from clawd_runtime.engine.prompt.template import ChatTemplate, PromptMessage
from clawd_runtime.errors import ChatTemplateError, RequestError
found = None
given = json.loads(sys.stdin.buffer.read())
"""
_TRIAL = """
try:
    ChatTemplate(given["template"], bos="<s>", eos="</s>")
except ChatTemplateError as error:
    found = [error.reason, error.compiles]
except MemoryError:
    found = ["it needs more memory than a template may", True]
print(json.dumps(found))
"""
_RENDERING = """
try:
    template = ChatTemplate(given["template"], bos=given["bos"], eos=given["eos"])
    found = "".join(template.render([PromptMessage(*turn) for turn in given["turns"]]))[:given["most"]]
except (ChatTemplateError, RequestError) as error:
    found = [str(error), True]
except MemoryError:
    found = ["it needs more memory than a template may", True]
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class TemplateProblem:
    """Why a chat template cannot be used; `compiles` is false if it cannot even be compiled."""

    reason: str
    compiles: bool = True


@lru_cache(maxsize=4)
def problem_of(template: str) -> TemplateProblem | None:
    """Return why a chat template cannot be compiled or used for a conversation; `None` when it can."""
    if not template.strip():
        return TemplateProblem("it is empty", compiles=False)
    found = _tried(_TRIAL, {"template": template})
    return found if found is None or isinstance(found, TemplateProblem) else _problem(found)


def rendered(
    template: str, turns: Sequence[tuple[str, str]], *, bos: str = "", eos: str = ""
) -> str | TemplateProblem:
    """Return the prompt of a conversation, pairs of role and text, or why the template refuses it."""
    given = {"template": template, "turns": [*turns], "bos": bos, "eos": eos, "most": MOST_RENDERED}
    found = _tried(_RENDERING, given)
    return found if isinstance(found, (str, TemplateProblem)) else _problem(found)


def _problem(found: Any) -> TemplateProblem:
    reason, compiles = found
    return TemplateProblem(" ".join(reason.split())[:MOST_LETTERS], compiles)


def _tried(program: str, given: Mapping[str, Any]) -> Any:
    """Return what a program prints about a template, as JSON, or why it could not run."""
    # Characters that are not valid Unicode are replaced, as in a file that the engine reads.
    data = json.dumps(given, ensure_ascii=False).encode(errors="replace")
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-B", "-c", _LIMITED + program, *map(str, _LIMITS)],
            input=data,
            capture_output=True,
            timeout=2 * TRIAL_LIMIT,
            env={name: os.environ[name] for name in _INHERITED if name in os.environ},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return TemplateProblem(f"it takes more than {2 * TRIAL_LIMIT} seconds")
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return TemplateProblem("it cannot be tried: it needs more time or memory than a template may")
    if done.returncode != 0:
        return TemplateProblem(f"it cannot be tried: its process ended with {done.returncode}")
    return json.loads(done.stdout)

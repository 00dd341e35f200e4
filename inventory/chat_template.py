"""Whether the chat template in a model's file can be read; it is compiled here and never run.

Templates are Jinja, written for Transformers' `apply_chat_template`:
https://huggingface.co/docs/transformers/chat_templating. What they make of messages, the engine checks
when it loads the model.
"""

from __future__ import annotations

from jinja2 import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_LETTERS = 1 << 20


class _GenerationTag(Extension):
    """Lets `{% generation %}…{% endgeneration %}` pass: it only marks training data."""

    tags = {"generation"}  # noqa: RUF012 - declared so by the base class

    def parse(self, parser: Parser) -> Node | list[Node]:
        parser.stream.skip(1)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def problem_of(template: str) -> str:
    """Why a chat template cannot be compiled; empty when it can."""
    if not template.strip():
        return "it is empty"
    if len(template) > MOST_LETTERS:
        return f"it has more than {MOST_LETTERS} letters"
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    try:
        environment.from_string(template)
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        return f"{error.message}{f' in its line {line}' if line else ''}"
    except (RecursionError, MemoryError, SyntaxError, ValueError) as error:
        return f"it is too deeply nested ({type(error).__name__})"
    return ""

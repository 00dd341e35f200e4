"""Execution of chat templates, which are foreign code, in Jinja's immutable sandbox with limits.

Jinja's sandbox keeps a template from accessing the program, but does not limit its loops and texts
(https://jinja.palletsprojects.com/en/stable/sandbox/). Here every iteration of a loop, every call and every
concatenated text counts against a budget.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import wraps
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

LONGEST_SOURCE = 1024 * 1024  # characters; the largest known templates have some 30,000
MOST_SECONDS = 2.0  # of processor time for one prompt
MOST_TEXT = 4 * 1024 * 1024  # characters that one operation may produce, beyond what the messages need

# No chat template needs them, and each can produce a huge text in one step that cannot be interrupted.
_REFUSED_FILTERS = ("center", "format", "sum", "urlize", "wordwrap", "pprint", "xmlattr")
_REFUSED_METHODS = {
    "center", "expandtabs", "format", "format_map", "ljust", "rjust", "to_bytes", "translate", "zfill",
}  # fmt: skip
_WIDEST = 64  # spaces of an indent, characters of a date's format
_STEPS_BETWEEN_LOOKS = 64
_CHARACTERS_A_STEP = 1024


class TooMuchWork(jinja2.TemplateError):
    """A template exceeds its limit of time or text, or uses something that is not available."""


class Budget(threading.local):
    """The remaining budget of the current thread's rendering."""

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, text: int) -> None:
        """Set the budget for rendering messages of `text` characters."""
        self._text = 8 * text + MOST_TEXT
        self._ends = time.thread_time() + MOST_SECONDS
        self._steps = 0

    def step(self, characters: int = 0) -> None:
        """Count one iteration of a loop, or one operation on a text or list of that length.

        Raise `TooMuchWork` if the time is used up. The clock is read before every long operation.
        """
        self._steps += 1 + characters // _CHARACTERS_A_STEP
        if self._steps >= _STEPS_BETWEEN_LOOKS:
            self._steps = 0
            if time.thread_time() > self._ends:
                raise TooMuchWork(f"it takes more than {MOST_SECONDS:g} s")

    def text(self, characters: int) -> None:
        """Raise `TooMuchWork` if a text of `characters` is too long; called before it is concatenated."""
        if characters > self._text:
            raise TooMuchWork(f"it produces a text of more than {self._text} characters")
        self.step(characters)


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """The environment that chat templates expect, with a budget."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def __init__(self) -> None:
        self.budget = Budget()
        # Not optimised: the optimiser would compute constant expressions outside the budget.
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            finalize=self._weighed,
            extensions=[_GenerationTag, loopcontrols],
        )
        self.concat = self._concat  # type: ignore[method-assign]
        for name in _REFUSED_FILTERS:
            del self.filters[name]
        del self.globals["lipsum"]
        replace, indent = self.filters["replace"], self.filters["indent"]
        self.filters |= {
            "_counted": self._counted,
            "_joined": lambda values: self._concat(str(self._weighed(value)) for value in values),
            "join": self._join,
            "string": lambda value: str(self._weighed(value)),
            "round": self._checked(self.filters["round"], lambda _, digits=0, *__: _size(digits) ** 4),
            "tojson": lambda value, *how, **named: _tojson(self._weighed(value), *how, **named),
            "replace": self._checked(
                replace, lambda text, old="", new="", *_: _replaced(str(text), str(old), str(new))
            ),
            "indent": self._checked(indent, lambda text, width=4, *_: len(str(text)) * (1 + _size(width))),
            "batch": self._checked(self.filters["batch"], lambda _, count=0, *__: _size(count)),
            "slice": self._checked(self.filters["slice"], lambda _, count=0, *__: _size(count)),
        }
        self.filters = {name: self._timed(function) for name, function in self.filters.items()}
        self.filters["_sized"] = self._sized
        self.globals["raise_exception"] = _refuse
        self.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form[:_WIDEST])

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        return _Counting().visit(tree)  # type: ignore[no-any-return]

    def call(self, context: Context, function: Any, /, *arguments: Any, **named: Any) -> Any:
        """Call `function` for a template, counted as a step of its budget."""
        owner, method = getattr(function, "__self__", None), getattr(function, "__name__", "")
        self.budget.step(_length(owner) + sum(map(_length, arguments)))
        if isinstance(owner, str | bytes | int) and method in _REFUSED_METHODS:
            raise TooMuchWork(f"it uses {method}(), which is not available to chat templates")
        if isinstance(owner, str):
            if method == "replace" and len(arguments) >= 2:
                self.budget.text(_replaced(owner, str(arguments[0]), str(arguments[1])))
            if method == "join" and arguments:
                arguments = (list(arguments[0]),)
                self.budget.text(sum(len(str(part)) + len(owner) for part in arguments[0]))
        return super().call(context, function, *arguments, **named)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute `left operator right` for a template; raise `TooMuchWork` if the result is too large."""
        if operator == "*" and not (_is_small(left) and _is_small(right)):
            self.budget.text(_size(left) * _size(right))
        elif operator == "**" and not (
            _is_small(left) and isinstance(right, int | float) and abs(right) <= 64
        ):
            raise TooMuchWork("it computes a power that is too large")
        elif operator == "%" and isinstance(left, str):
            raise TooMuchWork("it uses % on a string, which is not available to chat templates")
        elif operator == "+" and isinstance(left, str | list | tuple):
            self.budget.text(len(left) + _size(right))
        return super().call_binop(context, operator, left, right)

    def _counted(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            self.budget.step()
            yield value

    def _sized(self, value: Any) -> Any:
        """Return `value`, an operand whose length counts as work."""
        self.budget.step(_length(value))
        return value

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a filter so that the length of its arguments counts as work."""

        @wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            self.budget.step(sum(map(_length, arguments)))
            return function(*arguments, **named)

        return timed

    def _weighed(self, value: Any) -> Any:
        """Return `value`; raise `TooMuchWork` if its text is too long: a list may repeat another one."""
        open_values, weight = [value] if isinstance(value, list | tuple | dict) else [], 0
        while open_values:
            inner = open_values.pop()
            weight += len(inner) if isinstance(inner, str) else 1
            self.budget.step()
            self.budget.text(weight)
            if isinstance(inner, dict):
                open_values += [*inner, *inner.values()]
            elif isinstance(inner, list | tuple):
                open_values += inner
        return value

    def _join(self, values: Iterable[Any], between: str = "", attribute: str | int | None = None) -> str:
        if attribute is not None:
            values = map(make_attrgetter(self, attribute), values)
        texts: list[str] = []
        for value in self._counted(values):
            texts += [str(between), str(self._weighed(value))] if texts else [str(self._weighed(value))]
        return self._concat(texts)

    def _concat(self, parts: Iterable[str]) -> str:
        texts, length = [], 0
        for part in parts:
            self.budget.step()
            texts.append(part)
            length += len(part)
            self.budget.text(length)
        return "".join(texts)

    def _checked(self, function: Callable[..., Any], length: Callable[..., int]) -> Callable[..., Any]:
        """Wrap a filter so that `length`, the maximum size of its result, is checked first."""

        def checked(*arguments: Any, **named: Any) -> Any:
            values = [value for value in arguments if not isinstance(value, nodes.EvalContext)]
            self.budget.text(length(*values, *named.values()))
            return function(*arguments, **named)

        for passed in ("jinja_pass_arg",):
            if hasattr(function, passed):
                setattr(checked, passed, getattr(function, passed))
        return checked


class _Counting(NodeTransformer):
    """A transformer that makes the loops and concatenations of a template count against the budget."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = _filter(node.iter, "_counted")
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        self.generic_visit(node)
        node.expr = _filter(node.expr, "_sized")
        for operand in node.ops:
            operand.expr = _filter(operand.expr, "_sized")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Getitem:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _filter(node.node, "_sized")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        return _filter(nodes.List(node.nodes, lineno=node.lineno), "_joined")


def _filter(expression: nodes.Node, name: str) -> nodes.Filter:
    assert isinstance(expression, nodes.Expr)
    return nodes.Filter(expression, name, [], [], None, None, lineno=expression.lineno)


class _GenerationTag(Extension):
    """The tag `{% generation %}…{% endgeneration %}`, which only marks training data and is ignored."""

    tags = {"generation"}  # noqa: RUF012 - declared so by the base class

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        parser.stream.skip(1)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _is_small(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < 2**63


def _size(value: Any) -> int:
    """Return how much `value` can lengthen a text: its length, or the number itself."""
    if isinstance(value, int | float):
        return int(min(abs(value), 2**63))
    return len(value) if hasattr(value, "__len__") else 0


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple | dict) else 0


def _replaced(text: str, old: str, new: str) -> int:
    return len(text) + (text.count(old) * len(new) if len(new) > len(old) else 0)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **_: Any) -> str:
    width = None if indent is None else min(int(indent), _WIDEST)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=width)

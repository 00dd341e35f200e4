"""Chat templates are compiled on the laptop, and tried in a process of their own."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from inventory.model_files import chat_template
from inventory.model_files.chat_template import TemplateProblem, problem_of


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages }}",
        "{% for m in messages %}{% if m.role == 'x' %}{% continue %}{% endif %}{{ m.content }}{% endfor %}",
        "{% generation %}{{ x | tojson }}{% endgeneration %}{{ raise_exception('no') }}",
        "{% set ns = namespace(a=1) %}{%- for m in messages[::-1] %}{% endfor %}{{ strftime_now('%Y') }}",
        "{% for i in range(10 ** 12) %}{{ 'a' * 10 ** 12 }}{% endfor %}",
    ],
)
def test_valid_templates_compile(template: str) -> None:
    problem = problem_of(template)
    assert problem is None or problem.compiles


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("{% if %}", "Expected an expression, got 'end of statement block' in line 1"),
        (
            "ok\n{{ messages",
            "unexpected end of template, expected 'end of print statement'. in line 2",
        ),
        ("{{ x | no_such_filter }}", "No filter named 'no_such_filter'. in line 1"),
        ("{{ 'a' | center(1900000000) }}", "No filter named 'center'. in line 1"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "it is too deeply nested"),
        ("{% for m in x %}" * 30 + "{% endfor %}" * 30, "it is too deeply nested"),
    ],
)
def test_invalid_templates_are_refused_with_their_reason(template: str, reason: str) -> None:
    assert problem_of(template) == TemplateProblem(reason, compiles=False)


TOO_LONG_TEXT = "it produces a text of more than "


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ 'a' * 200000000 }}", TOO_LONG_TEXT),
        ("{{ '%2000000000d' % 1 }}", "it uses % on a string"),
        ("{{ 'a' * 10 ** 12 }}", TOO_LONG_TEXT),
        ("{{ 2 ** 10000000 }}", "it computes a power that is too large"),
    ],
)
def test_huge_constants_of_a_template_are_evaluated_only_in_the_child_process(
    template: str, reason: str
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    problem = problem_of(template)
    assert problem is not None
    assert problem.reason.startswith(reason)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "KiB"


def test_template_beyond_the_memory_limit_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = chat_template._TRIAL.replace("    ChatTemplate(", "    bytearray(2 << 30)\n    ChatTemplate(")
    assert trial != chat_template._TRIAL
    monkeypatch.setattr(chat_template, "_TRIAL", trial)
    assert problem_of("{{ messages }} memory") == TemplateProblem("it needs more memory than a template may")


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
IN_PARTS = (
    "{% for m in messages %}{{ m.role }}: {% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}"
)
WITHOUT_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{{ m.role }}: {{ m.content }}\n{% endfor %}"
)


@pytest.mark.parametrize("template", [CHATML, IN_PARTS, WITHOUT_SYSTEM])
def test_templates_that_keep_every_message_are_accepted(template: str) -> None:
    assert problem_of(template) is None


LOSES = "it loses the text of"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("Hello", f"{LOSES} system, user, assistant messages"),
        ("{{ messages }}", "it cuts or changes the text of system, user, assistant messages"),
        ("{{ messages[0].content }}", f"{LOSES} user, assistant messages"),
        (
            "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
            f"{LOSES} system, assistant messages",
        ),
        (
            "{% for m in messages[::-1] %}{{ m.content }}{% endfor %}",
            "it changes the order of messages",
        ),
        ("{{ raise_exception('not\nfor you') }}", "not for you"),
        ("{{ ''.__class__.__mro__ }}", "access to attribute '__class__' of 'str' object is unsafe."),
        ("{{ cycler.__init__.__globals__.os.system('touch ran') }}", None),
        ("{% for i in range(10 ** 9) %}{{ i }}{% endfor %}", None),
        ("{% set a = [[]] %}{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "infinite recursion"),
        ("x" * ((1 << 20) + 1), "it is longer than 1048576 characters"),
    ],
)
def test_templates_that_drop_text_or_fail_are_refused(
    template: str, reason: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    problem = problem_of(template)
    assert problem is not None
    assert problem.compiles
    assert reason in (problem.reason, None)
    assert "\n" not in problem.reason
    assert not list(tmp_path.iterdir()), "a template reached the machine"


def test_template_that_crashes_the_child_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    breaking = "import os\nos.abort()\n"
    monkeypatch.setattr(chat_template, "_TRIAL", breaking)
    assert problem_of("{{ messages }} breaking") == TemplateProblem(
        "it cannot be tried: its process ended with -6"
    )


def test_child_process_gets_no_environment_of_the_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JWT_SECRET", "canary")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    printing = "import json, os\nprint(json.dumps([str(sorted(os.environ)), True]))\n"
    monkeypatch.setattr(chat_template, "_TRIAL", printing)
    problem = problem_of("{{ messages }} printing")
    assert problem is not None
    assert "PATH" in problem.reason
    assert "JWT_SECRET" not in problem.reason
    assert "PYTHONPATH" not in problem.reason

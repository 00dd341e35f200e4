"""Chat templates are compiled on the laptop, and tried in a process of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from inventory import chat_template
from inventory.chat_template import loss_of, problem_of


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
def test_templates_that_can_be_read(template: str) -> None:
    assert problem_of(template) == ""


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("{% if %}", "line 1"),
        ("ok\n{{ messages", "line 2"),
        ("{{ x | no_such_filter }}", "no_such_filter"),
        ("{% for m in messages %}", "endfor"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", ""),
        ("x" * ((1 << 20) + 1), "more than"),
    ],
)
def test_templates_that_cannot(template: str, why: str) -> None:
    problem = problem_of(template)
    assert problem
    assert why in problem
    assert "\n" not in problem


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
def test_templates_that_lose_nothing_are_taken(template: str) -> None:
    assert loss_of(template) == ""


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("Hello", "it loses the text of system, user, assistant messages"),
        ("{{ messages }}", "it cuts or changes the text of system, user, assistant messages"),
        ("{{ messages[0].content }}", "it loses the text of user, assistant messages"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "assistant messages"),
        ("{% for m in messages[::-1] %}{{ m.content }}{% endfor %}", "order of messages"),
        ("{{ raise_exception('not\nfor you') }}", "not for you"),
        ("{{ ''.__class__.__mro__ }}", ""),
        ("{{ cycler.__init__.__globals__.os.system('touch ran') }}", ""),
        ("{% for i in range(10 ** 9) %}{{ i }}{% endfor %}", ""),
        ("{{ 'a' * 10 ** 12 }}", ""),
        ("{% set a = [[]] %}{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", ""),
    ],
)
def test_templates_that_lose_words_or_misbehave_are_refused(
    template: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    problem = loss_of(template)
    assert problem
    assert why in problem
    assert "\n" not in problem
    assert not list(tmp_path.iterdir()), "a template reached the machine"


def test_a_template_that_breaks_the_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    breaking = "import os\nos.abort()\n"
    monkeypatch.setattr(chat_template, "_TRIAL", breaking)
    assert "cannot be tried" in loss_of("{{ messages }} breaking")


def test_the_trial_knows_nothing_of_this_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JWT_SECRET", "canary")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    printing = "import os, sys\nsys.stdout.write(str(sorted(os.environ)))\n"
    monkeypatch.setattr(chat_template, "_TRIAL", printing)
    names = loss_of("{{ messages }} printing")
    assert "PATH" in names
    assert "JWT_SECRET" not in names
    assert "PYTHONPATH" not in names

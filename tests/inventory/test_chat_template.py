"""Chat templates are compiled on the laptop, and never run."""

from __future__ import annotations

import pytest

from inventory.chat_template import problem_of


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

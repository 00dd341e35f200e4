"""Templates of the user's folder: rendered in a sandbox, listed, and their mistakes reported with a place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

from deploys.ops.paths.templates import TEMPLATES, overrides, rendered
from inventory.errors import ClawdError

JOURNAL = "base/journald.conf"


def own(folder: Path, text: str, name: str = JOURNAL) -> tuple[Path, ...]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return (folder, TEMPLATES)


class Value:
    """Something of the program that a template is given."""

    def __init__(self) -> None:
        self.text = "shown"


@pytest.mark.parametrize(
    "text",
    [
        "{{ limit.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ value.__init__.__globals__['os'].system('touch ran') }}",
        "{{ cycler.__init__.__globals__.os.popen('touch ran').read() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ listed.append('x') }}",
        "{{ mapped.update(a=1) }}",
        "{% for n in range(10 ** 9) %}{{ n }}{% endfor %}",
        "{{ '{0.__class__}'.format(limit) | length or x.y }}{{ nothing }}",
        "{% include '../../../../etc/passwd' %}",
        "{% include '/etc/passwd' %}",
        "{{ nothing }}",
        "{{ 1 / 0 }}",
        "{% include 'base/journald.conf' %}",
        "{% if %}",
    ],
)
def test_unsafe_template_of_the_user_is_refused_with_file_and_line(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = own(tmp_path / "templates", f"first\n{text}\n")
    values: dict[str, Any] = {"limit": "1M", "value": Value(), "listed": ["a"], "mapped": {}}
    with pytest.raises(ClawdError) as raised:
        rendered(JOURNAL, values, folders)
    assert raised.value.message.startswith(
        f"{tmp_path}/templates/{JOURNAL}:2: the template cannot be rendered: "
    )
    assert raised.value.advice
    assert values["listed"] == ["a"]
    assert values["mapped"] == {}
    assert not (tmp_path / "ran").exists()


def test_template_of_the_user_renders_its_values(tmp_path: Path) -> None:
    folders = own(
        tmp_path, "{{ limit }} {{ value.text }} {% for k, v in mapped.items() %}{{ k }}={{ v }}{% endfor %}"
    )
    values = {"limit": "1M", "value": Value(), "mapped": {"a": 1}}
    assert rendered(JOURNAL, values, folders) == "1M shown a=1"


def test_included_template_of_the_user_is_sandboxed_too(tmp_path: Path) -> None:
    folders = own(tmp_path, "{{ ''.__class__ }}", "runtime/sandbox.conf")
    units = {"config": "/etc/clawd/engine.json", "folder": "clawd-engine"}
    values = {"model_name": "m", "memory_max": "1G", "release": "x", "cuda": "", **units}
    with pytest.raises(ClawdError, match=r"runtime/sandbox\.conf:1: the template cannot be rendered"):
        rendered("runtime/clawd-engine.service", values, folders)


def test_missing_value_in_our_template_is_an_internal_error() -> None:
    with pytest.raises(UndefinedError):
        rendered(JOURNAL, {})


def test_overrides_are_listed_and_unknown_names_reported(tmp_path: Path) -> None:
    own(tmp_path, "{% include 'parts/limits.conf' %}", "nginx/nginx.conf")
    own(tmp_path, "x", "parts/limits.conf")
    own(tmp_path, "x", "nginx/ngnix.conf")
    own(tmp_path, "{% if %}", "base/sudoers")
    own(tmp_path, "x", ".git/config")
    own(tmp_path, "x", "notes.txt")
    found = {item.name: item for item in overrides(tmp_path)}
    assert sorted(found) == [
        "base/sudoers",
        "nginx/nginx.conf",
        "nginx/ngnix.conf",
        "notes.txt",
        "parts/limits.conf",
    ]
    assert [name for name, item in found.items() if item.replaces] == ["base/sudoers", "nginx/nginx.conf"]
    assert [name for name, item in found.items() if item.idle] == ["nginx/ngnix.conf", "notes.txt"]
    assert found["nginx/ngnix.conf"].nearest == "nginx/nginx.conf"
    assert found["base/sudoers"].problem.startswith(f"{tmp_path}/base/sudoers:1: ")
    assert not found["nginx/nginx.conf"].problem


def test_template_folder_of_the_program_overrides_nothing() -> None:
    assert overrides(TEMPLATES) == overrides(None) == ()

"""The reference pages are what the code generates."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli import program
from deploys.component import Component
from deploys.registry import COMPONENTS
from docs.generator import commands, example, settings
from docs.generator.deployment import inventory
from inventory.model import Inventory
from tests.deploys.metrics import of_text_files
from tests.docs.pages import ROOT

REFERENCE = ROOT / "docs" / "reference"


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "docs.generator", "--check", "--folder", str(folder)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)


def test_committed_pages_equal_what_the_code_generates() -> None:
    done = check(REFERENCE)
    assert done.returncode == 0, done.stderr


def test_pages_that_differ_are_named_with_the_command_that_writes_them(tmp_path: Path) -> None:
    folder = tmp_path / "reference"
    shutil.copytree(REFERENCE, folder)
    changed = ("commands.md", "settings.md", "metrics.md", "hosts.md")
    for name in changed:
        text = (folder / name).read_text()
        (folder / name).write_text(f"{text}\nchanged by hand\n")
    (folder / "alerts.md").unlink()
    done = check(folder)
    assert done.returncode == 1
    named = re.findall(r"^docs/reference/(\S+): out of date", done.stderr, re.MULTILINE)
    assert sorted(named) == sorted((*changed, "alerts.md"))
    assert "run `make reference`" in done.stderr


def test_setting_keeps_the_version_since_which_it_exists() -> None:
    present = (REFERENCE / "settings.md").read_text()
    known = dict(settings.SINCE.findall(present))
    assert len(known) > 150
    port = re.compile(r"^- \*\*`bot\.port`\*\* .*\n  .*\n", re.MULTILINE)
    (entry,) = port.findall(present)
    older = present.replace(entry, entry.replace("since: 0.1.0", "since: 0.0.7"))
    assert dict(settings.SINCE.findall(settings.page(older))) == known | {"bot.port": "0.0.7"}
    assert settings.page(present.replace(entry, "")) == present


def test_reference_has_the_help_of_every_command() -> None:
    page = commands.page()
    found = list(commands.commands(program))
    assert {("up",), ("inventory", "check"), ("sandbox", "down")} <= set(found)
    for words in found:
        assert f"Usage: {' '.join(('clawd-provision', *words))}" in page


def test_every_setting_has_an_example_and_a_missing_one_is_reported() -> None:
    paths = frozenset(setting.path for setting in settings.settings(Inventory))
    assert len(paths) > 150
    assert set(example.values(paths)) >= paths
    with pytest.raises(LookupError, match=r"shows no value of bot\.colour"):
        example.values(paths | {"bot.colour"})


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda item: item.name)
def test_hosts_page_lists_the_files_of_every_component(component: Component) -> None:
    page = (REFERENCE / "hosts.md").read_text()
    section = re.split(r"^## ", page.partition(f"\n## {component.name}\n")[2], flags=re.MULTILINE)[0]
    listed = re.findall(r"^\| `(/[^`]+)` \| (.+) \|$", section, re.MULTILINE)
    assert listed
    assert all(what for _, what in listed)


def test_hosts_page_lists_the_ports_of_every_component() -> None:
    page = (REFERENCE / "hosts.md").read_text()
    listed = {
        (int(port), name) for port, name in re.findall(r"^\| (\d+)/tcp \| (\w+) \|", page, re.MULTILINE)
    }
    whole = inventory()
    used = {
        (port, component.name)
        for component in COMPONENTS
        for host in whole.hosts
        for port in component.ports_for(whole, host)
    }
    assert listed == used
    assert {(443, "nginx"), (8080, "runtime"), (9090, "prometheus")} <= used


def test_alerts_page_lists_every_alert_of_the_rules() -> None:
    source = (ROOT / "deploys" / "prometheus" / "rules.py").read_text()
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = [
        call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "AlertRule"
    ]
    names = {name.value for name in named if isinstance(name, ast.Constant)}
    assert len(names) > 15
    page = (REFERENCE / "alerts.md").read_text()
    assert names <= set(re.findall(r"^## (\w+)$", page, re.MULTILINE))


def test_metrics_page_lists_the_metrics_that_host_programs_write(tmp_path: Path) -> None:
    page = (REFERENCE / "metrics.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)` .*`templates/", page, re.MULTILINE))
    assert listed == of_text_files(tmp_path)

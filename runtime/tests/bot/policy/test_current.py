from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from clawd_runtime.bot.policy.current import CurrentPolicy
from clawd_runtime.bot.policy.file import Policy, load_policy
from clawd_runtime.errors import SettingsError


def written(file: Path, *words: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"words": [{"name": "w", "words": list(words)}]}), "utf-8")
    new.replace(file)


async def test_changed_file_comes_into_force_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    loaded: list[Policy | None] = []
    written(file, "one")
    current = CurrentPolicy(file, {}, loaded.append)
    first = current.policy
    await current.reload_if_changed()
    assert current.policy is first
    written(file, "one", "two")
    await current.reload_if_changed()
    assert len(current.policy.words) == 2
    assert current.policy.version != first.version
    assert [isinstance(each, Policy) for each in loaded] == [True, True]


@pytest.mark.parametrize("content", ["{", '{"word": []}', '{"words": [{"name": "w", "words": ["+"]}]}', None])
async def test_bad_file_leaves_the_last_policy_in_force_and_is_named(
    tmp_path: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "policy.json"
    loaded: list[Policy | None] = []
    written(file, "one")
    current = CurrentPolicy(file, {}, loaded.append)
    first = current.policy
    file.unlink() if content is None else file.write_text(content, "utf-8")
    with caplog.at_level(logging.ERROR):
        await current.reload_if_changed()
        await current.reload_if_changed()
    assert current.policy is first
    assert loaded == [first, None]
    assert caplog.text.count(str(file)) == 1
    written(file, "three")
    await current.reload_if_changed()
    assert loaded[-1] is current.policy


def test_bot_does_not_start_with_a_bad_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"policy\.json: No such file"):
        CurrentPolicy(tmp_path / "policy.json", {})


def test_all_mistakes_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    content = {
        "words": [{"name": "a", "words": ["c++", "好"]}, {"name": "a", "words": []}],
        "input": [{"name": "r", "patterns": ["(?=x)"]}, {"name": "s", "builtin": "none"}],
    }
    file.write_text(json.dumps(content))
    with pytest.raises(SettingsError) as caught:
        load_policy(file, {})
    for part in ("a: c++", "r: cannot compile", "s: no ready-made rule none", "a: the name is used twice"):
        assert part in caught.value.message


async def test_replaced_file_of_the_same_size_and_time_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    written(file, "one")
    current = CurrentPolicy(file, {})
    before = file.stat()
    written(file, "two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_ino != before.st_ino
    await current.reload_if_changed()
    assert current.policy.words.groups[0].words == ["two"]

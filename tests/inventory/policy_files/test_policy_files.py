"""The section `policy`: files with rules and words, and what the bot makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inventory.errors import ClawdError, InventoryError
from inventory.load import load
from inventory.policy_files.assembly import assembled, rules_in, words_in
from inventory.policy_files.trial import tried
from inventory.sections.policy import ContentPolicy, QuestionRule, WordList

INVENTORY = """
hosts:
  bot1: {address: bot1.example.org, roles: [runtime, nginx]}
models:
  default: {engine: openai-compatible, endpoint: https://models.example.org/v1}
tls: {mode: self-signed}
channels:
  console: {jwt_secret: !env POLICY_TEST_SECRET}
policy:
"""


def written(folder: Path, **files: str) -> None:
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content, "utf-8")


def mistakes_of(folder: Path, policy: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("POLICY_TEST_SECRET", "s" * 40)
    written(folder, prod_yml=INVENTORY + policy)
    with pytest.raises(InventoryError) as caught:
        load(folder / "prod.yml")
    return str(caught.value)


def test_words_of_a_file_are_its_lines_without_comments(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("\ufeff# list\r\n法轮功\r\n\r\n  bad word \n".encode())
    assert words_in(tmp_path / "list.txt") == ["法轮功", "bad word"]


def test_rules_of_files_are_added_to_those_of_the_inventory(tmp_path: Path) -> None:
    written(
        tmp_path,
        rules_yml="words:\n  - {name: b, file: b.txt, action: block}\nallow: [好人]\n"
        "input:\n  - {name: p, builtin: email}\n",
        b_txt="坏\n",
    )
    declared = ContentPolicy(
        words=(WordList(name="a", words=("甲乙",)),),
        input=(QuestionRule(name="q", patterns=("x",)),),
        files=(tmp_path / "rules.yml",),
    )
    found = assembled(declared)
    assert not found.problems
    content = json.loads(found.text())
    assert [(each["name"], each["words"], each["action"]) for each in content["words"]] == [
        ("a", ["甲乙"], "mask"),
        ("b", ["坏"], "block"),
    ]
    assert content["allow"] == ["好人"]
    assert [each["name"] for each in content["input"]] == ["q", "p"]
    trial = tried(found.text())
    assert (trial.problems, trial.words, trial.rules) == ((), 3, 2)


def test_every_setting_of_a_policy_is_one_that_the_bot_reads() -> None:
    declared = ContentPolicy.model_validate(
        {
            "words": [
                {
                    "name": "a",
                    "words": ["地下钱庄"],
                    "action": "replace",
                    "replacement": "…",
                    "message": {"en": "No.", "zh": "不。"},
                    "shadow": True,
                    "pinyin": True,
                    "homophones": True,
                }
            ],
            "input": [{"name": "b", "builtin": "keys", "action": "warn"}],
            "classifier": {
                "endpoint": "https://guard.example.org/v1",
                "model": "guard",
                "seconds": 2,
                "when_unavailable": "allow",
                "unsafe": ["unsafe", "controversial"],
                "shadow": True,
            },
            "shadow": True,
        },
    )
    assert tried(assembled(declared).text()).problems == ()


def test_mistakes_in_a_file_of_rules_have_their_lines(tmp_path: Path) -> None:
    written(tmp_path, rules_yml="words:\n  - name: a b\n    wrds: [x]\ninput: 5\n")
    with pytest.raises(ClawdError) as caught:
        rules_in(tmp_path / "rules.yml")
    for place in ("rules.yml:2:", "rules.yml:3:", "rules.yml:4:"):
        assert place in str(caught.value)


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        ("  words:\n    - {name: w, words: [好, c++]}\n", "w: c++: is a single letter without its symbols"),
        ("  words:\n    - {name: w}\n", "the list w has no words"),
        ("  words:\n    - {name: w, file: none.txt}\n", "none.txt: No such file"),
        ("  files: [none.yml]\n", "none.yml: No such file"),
        ("  input:\n    - {name: r, patterns: ['(?=x)']}\n", "r: cannot compile (?=x)"),
        ("  input:\n    - {name: r}\n", "r: needs either patterns or the name of a ready-made rule"),
        (
            "  input:\n    - {name: w, patterns: [a]}\n    - {name: w, patterns: [b]}\n",
            "w: the name is used twice",
        ),
    ],
)
def test_mistake_in_a_policy_refuses_the_inventory(
    tmp_path: Path, policy: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = mistakes_of(tmp_path, policy, monkeypatch)
    assert problem in found
    assert "prod.yml:" in found


def test_trial_shows_what_happens_to_a_text() -> None:
    declared = ContentPolicy(
        words=(
            WordList(name="masked", words=("法轮功",)),
            WordList(name="blocked", words=("炸弹",), action="block"),
        ),
        input=(QuestionRule(name="phone", builtin="china-phone"),),
    )
    masked, blocked = tried(assembled(declared).text(), ("法輪功 13800138000", "炸弹")).texts
    assert (masked.question, masked.answer) == ("法輪功 " + "＊" * 11, "＊＊＊ 13800138000")
    assert [(hit.rule, hit.entry, hit.text) for hit in masked.in_answer] == [("masked", "法轮功", "法輪功")]
    assert (blocked.question, blocked.answer) == ("炸弹", None)

"""`single.yml`: everything on one server of 2 cores and 4 GB, to which the sandbox limits a host."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import ClassVar

import pytest

from inventory.load import load
from provision.preflight.capacity import capacity_of
from provision.sandbox import DebianRelease, Layout
from tests.examples.given import SECRETS
from tests.examples.shipped import QUESTION, Shipped, ask_on_telegram
from tests.platforms import telegram_at
from tests.standins.control import Control

# Of every process its share of its memory, in KiB; pages of files count, also if other processes map them.
SHARES = """for process in /proc/[0-9]*; do
    unit=$(grep -oE '[^/]*\\.(service|scope)$' $process/cgroup 2>/dev/null | head -n 1)
    awk -v unit="${unit:-other}" '/^Pss:/ {print unit, $2}' $process/smaps_rollup 2>/dev/null
done; true"""
LIMIT = "cat /sys/fs/cgroup/memory/memory.max_usage_in_bytes /sys/fs/cgroup/memory/memory.failcnt; true"


class Single(Shipped):
    """Its one host."""

    NAME = "single"
    RELEASES: ClassVar[dict[str, DebianRelease]] = {"bot1": "bookworm"}

    def memory(self) -> dict[str, int]:
        """Bytes that the processes of each unit have."""
        shares: dict[str, int] = {}
        for line in self.on("bot1", SHARES).stdout.splitlines():
            unit, kib = line.split()
            shares[unit] = shares.get(unit, 0) + int(kib) * 1024
        return shares


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Single]:
    """The server after one `up`."""
    folder = tmp_path_factory.mktemp("single")
    subnet = IPv4Network("10.213.99.0/24")
    made = Single(folder, Layout(folder / "sandbox", bridge="clawdx", subnet=subnet, table="clawd_single"))
    with made.fresh(), telegram_at(made.here, SECRETS["CLAWD_TELEGRAM_TOKEN"]) as telegram:
        made.records["telegram"] = telegram
        made.write(made.adapted())
        assert made.up()["bot1"]
        yield made


def test_second_up_changes_nothing(single: Single) -> None:
    assert single.up() == {"bot1": []}


def test_people_on_telegram_and_at_the_console_are_answered(single: Single) -> None:
    telegram: Control = single.records["telegram"]
    for chat in range(1001, 1004):
        ask_on_telegram(telegram, chat)
    done = single.run("chat", "-i", "prod", "--message", QUESTION)
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout


def test_memory_in_use_is_at_most_the_predicted_memory(
    single: Single, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(single.folder))
    capacity = capacity_of(load(single.folder / "inventory" / "prod.yml").inventory, "bot1")
    taken = single.memory()
    for unit, share in sorted(taken.items(), key=lambda item: -item[1])[:8]:
        print(f"{share >> 20:6} MiB {unit}")
    print(f"{sum(taken.values()) >> 20} MiB of {capacity.memory_needed >> 20} MiB foretold")
    print(single.on("bot1", f"free -m; {LIMIT}").stdout)
    assert taken["clawd-engine.service"] > 100 << 20, "the model is not there"
    assert sum(taken.values()) < capacity.memory_needed


def test_verify_passes_and_plan_has_no_changes(single: Single) -> None:
    single.check()

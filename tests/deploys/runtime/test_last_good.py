"""The last good state of the runtime: what replaces it, what is restored, and interrupted runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploys.runtime.last_good import ARCHIVE, KEEP, PUT_BACK
from deploys.runtime.prune import Entries, EntriesFact, outdated

pytestmark = pytest.mark.slow

SYSTEMCTL = """#!/bin/sh
root={root}
unit=$(printf '%s' "$*" | grep -o 'clawd-[a-z@]*' | head -n 1)
case $1 in
    is-active) [ -f "$root/active-$unit" ] ;;
    restart)
        rm -f "$root/active-$unit"
        case $(basename "$(readlink "$root/opt/clawd/current")") in dead*) exit 1 ;; esac
        echo "$(date +%N)" > "$root/active-$unit"
        ;;
    disable) rm -f "$root/active-$unit" ;;
    show)
        shift 2
        for each in "$@"; do
            echo "InvocationID=$(cat "$root/active-${{each%.service}}" 2>/dev/null)"
        done
        ;;
esac
"""
READY = (
    'case $(basename "$(readlink {root}/opt/clawd/current)") in bad*) echo "not yet" >&2; exit 1 ;; esac\n'
)


class Machine:
    """A host whose root is a folder, and whose systemd starts anything but a release that is called dead."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("etc/clawd/secrets", "etc/systemd/system", "opt/clawd", "var/lib/clawd/state", "bin"):
            (root / folder).mkdir(parents=True)
        program = root / "bin" / "systemctl"
        program.write_text(SYSTEMCTL.format(root=root))
        program.chmod(0o755)
        # Nothing here takes a second to become ready.
        (root / "bin" / "sleep").write_text("#!/bin/sh\n")
        (root / "bin" / "sleep").chmod(0o755)

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        here = script.replace("cd /\n", f"cd {self.root}\n")
        here = here.replace("/var/lib/clawd", f"{self.root}/var/lib/clawd")
        environment = {**os.environ, "PATH": f"{self.root}/bin:{os.environ['PATH']}"}
        return subprocess.run(
            ["sh", "-c", here], capture_output=True, text=True, env=environment, check=False
        )

    def keep(self) -> bool:
        done = self.run(KEEP)
        assert done.returncode == 0, done.stderr
        return done.stdout.split() == ["kept"]

    def put(self, path: str, text: str) -> None:
        """Write as `files.put` does: to a temporary file, then moved."""
        new = self.root / f"{path}.new"
        new.write_text(text)
        new.replace(self.root / path)
        time.sleep(0.006)  # a file's change time has the resolution of the kernel's clock

    def steps(self, release: str, *, engine: bool = True) -> list[Callable[[], object]]:
        """What a run does on the host, one after another, up to the stamp of a bot that was ready."""
        found: list[Callable[[], object]] = []
        if engine:
            found += [
                lambda: self.put("etc/clawd/engine.json", f"engine of {release}"),
                lambda: self.put("etc/systemd/system/clawd-engine.service", f"engine unit of {release}"),
            ]
        found.append(lambda: self.link(release))
        if engine:
            found += self.converging("clawd-engine", release)
        found += [
            lambda: self.put("etc/clawd/secrets/telegram-token", f"secret of {release}"),
            lambda: self.put("etc/clawd/policy.json", f"policy of {release}"),
            lambda: self.put("etc/clawd/bot.json", f"bot of {release}"),
            lambda: self.put("etc/systemd/system/clawd-bot.service", f"bot unit of {release}"),
        ]
        return found + self.converging("clawd-bot", release)

    def converging(self, unit: str, release: str) -> list[Callable[[], object]]:
        stamp = f"var/lib/clawd/state/{unit}.service"
        return [
            lambda: (self.root / f"{stamp}.stamp").unlink(missing_ok=True),
            lambda: self.run(f"systemctl restart {unit}"),
            lambda: self.put(f"{stamp}.ready", READY.format(root=self.root)),
            lambda: self.put(f"{stamp}.stamp", release),
        ]

    def deploy_further(self, name: str, release: str) -> None:
        """Install an engine of a further model."""
        (self.root / "etc/clawd/engines").mkdir(exist_ok=True)
        self.put(f"etc/clawd/engines/{name}.json", f"further engine of {release}")
        self.put(f"etc/systemd/system/clawd-engine@{name}.service", f"its unit of {release}")
        for step in self.converging(f"clawd-engine@{name}", release):
            step()

    def link(self, release: str) -> None:
        (self.root / "opt/clawd" / release).mkdir(exist_ok=True)
        new = self.root / "opt/clawd/current.new"
        new.symlink_to(self.root / "opt/clawd" / release)
        new.replace(self.root / "opt/clawd/current")
        time.sleep(0.006)

    def deploy(self, release: str, *, engine: bool = True) -> None:
        for step in self.steps(release, engine=engine):
            step()

    def fail(self, release: str) -> None:
        """A run whose release does not become ready: everything but the stamp."""
        self.keep()
        for step in self.steps(release)[:-1]:
            step()

    @property
    def state(self) -> set[str]:
        """Which releases the files belong to."""
        link = (self.root / "opt/clawd/current").readlink().name
        paths = [*(self.root / "etc/clawd").glob("*.json"), *(self.root / "etc/clawd/secrets").iterdir()]
        paths += (self.root / "etc/systemd/system").iterdir()
        paths += (self.root / "etc/clawd/engines").glob("*.json")
        return {link, *(path.read_text().rpartition(" ")[2] for path in paths)}

    @property
    def active(self) -> bool:
        return (self.root / "active-clawd-bot").exists()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "host")


def test_state_that_was_never_ready_is_not_kept_for_rollback(machine: Machine) -> None:
    for step in machine.steps("bad1")[:-1]:
        step()
    assert not machine.keep()


def test_rollback_restores_last_ready_state_after_failed_run(machine: Machine) -> None:
    machine.deploy("good1")
    machine.fail("bad2")
    done = machine.run(PUT_BACK)
    assert done.returncode == 0, done.stderr
    assert machine.state == {"good1"}
    assert machine.active
    assert machine.keep()


@pytest.mark.parametrize("name", ["access", "policy", "routes"])
def test_rollback_restores_a_file_that_the_bot_reads_while_it_runs(machine: Machine, name: str) -> None:
    machine.deploy("good1")
    machine.put(f"etc/clawd/{name}.json", "table of good1")
    machine.put("var/lib/clawd/state/clawd-bot.service.stamp", "good1")
    machine.keep()
    machine.put(f"etc/clawd/{name}.json", "table of bad2")
    done = machine.run(PUT_BACK)
    assert done.returncode == 0, done.stderr
    assert machine.state == {"good1"}


def test_rollback_restores_and_restarts_engines_of_further_models(machine: Machine) -> None:
    for name in ("stays", "removed"):
        machine.deploy_further(name, "good1")
    machine.deploy("good1")
    machine.keep()
    for path in (
        "etc/clawd/engines/removed.json",
        "etc/systemd/system/clawd-engine@removed.service",
        "active-clawd-engine@removed",
    ):
        (machine.root / path).unlink()
    started = (machine.root / "active-clawd-engine@stays").read_text()
    machine.deploy_further("stays", "bad2")
    machine.deploy_further("added", "bad2")
    done = machine.run(PUT_BACK)
    assert done.returncode == 0, done.stderr
    assert machine.state == {"good1"}
    assert {path.name for path in machine.root.glob("active-clawd-engine@*")} == {
        "active-clawd-engine@stays",
        "active-clawd-engine@removed",
    }
    assert (machine.root / "active-clawd-engine@stays").read_text() != started
    assert not list(machine.root.glob("var/lib/clawd/state/clawd-engine@added*"))
    assert machine.keep()
    assert machine.run(PUT_BACK).stdout.split() == ["untouched"]


def test_further_engine_that_was_never_ready_is_not_kept_for_rollback(machine: Machine) -> None:
    machine.deploy_further("next", "good1")
    machine.deploy("good1")
    machine.keep()
    machine.put("etc/clawd/engines/next.json", "further engine of bad2")
    machine.keep()
    assert machine.run(PUT_BACK).returncode == 0
    assert machine.state == {"good1"}


def test_rollback_restores_the_old_model_of_a_further_engine(machine: Machine) -> None:
    models = machine.root / "var/lib/clawd/models"
    models.mkdir()
    machine.deploy("good1")
    machine.deploy_further("next", f"{models}/old.gguf good1")
    machine.keep()
    machine.deploy_further("next", "bad2")
    (models / "old.gguf.old").write_text("aside")
    assert machine.run(PUT_BACK).returncode == 0
    assert (models / "old.gguf").read_text() == "aside"


def test_rollback_restores_the_old_model(machine: Machine) -> None:
    models = machine.root / "var/lib/clawd/models"
    models.mkdir()
    machine.deploy("good1")
    machine.put("etc/clawd/engine.json", f'{{"model": "{models}/old.gguf"}} good1')
    machine.put("var/lib/clawd/state/clawd-engine.service.stamp", "good1")
    machine.keep()
    machine.deploy("bad2")
    (models / "old.gguf.old").write_text("aside")
    (models / "new.gguf").write_text("of bad2")
    assert machine.run(PUT_BACK).returncode == 0
    assert (models / "old.gguf").read_text() == "aside"


def test_rollback_keeps_models_when_none_was_replaced(machine: Machine) -> None:
    models = machine.root / "var/lib/clawd/models"
    models.mkdir()
    (models / "model.gguf").write_text("of both")
    machine.deploy("good1")
    machine.put("etc/clawd/engine.json", f'{{"model": "{models}/model.gguf"}} good1')
    machine.put("var/lib/clawd/state/clawd-engine.service.stamp", "good1")
    machine.keep()
    machine.fail("bad2")
    done = machine.run(PUT_BACK)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in models.iterdir()] == ["model.gguf"]


def test_old_model_is_deleted_when_the_new_state_is_kept(machine: Machine) -> None:
    models = machine.root / "var/lib/clawd/models"
    models.mkdir()
    machine.deploy("good1")
    (models / "old.gguf.old").touch()
    machine.put("etc/clawd/bot.json", "bot of bad2")
    machine.keep()
    assert (models / "old.gguf.old").exists()
    machine.deploy("good2")
    machine.keep()
    assert not (models / "old.gguf.old").exists()


STEPS = len(Machine.steps(Machine.__new__(Machine), "x"))


@pytest.mark.parametrize("done", range(STEPS + 1))
@pytest.mark.parametrize("bad", ["bad", "dead"])
def test_run_killed_at_any_step_is_never_kept_for_rollback(machine: Machine, done: int, bad: str) -> None:
    """The bad release of the run that was killed is followed by another bad one that fails."""
    machine.deploy("good1")
    machine.keep()
    last = 1 if done == STEPS else 0
    for step in machine.steps(f"{bad}2")[: done - last]:
        step()
    machine.fail(f"{bad}3")
    put_back = machine.run(PUT_BACK)
    assert put_back.returncode == 0, put_back.stderr
    assert machine.state == {"good1"}
    assert machine.active


@pytest.mark.parametrize("done", range(STEPS + 1))
def test_last_good_state_is_replaced_only_when_a_later_run_was_ready(machine: Machine, done: int) -> None:
    machine.deploy("good1")
    machine.keep()
    for step in machine.steps("good2")[:done]:
        step()
    machine.fail("bad3")
    assert machine.run(PUT_BACK).returncode == 0
    assert machine.state == ({"good2"} if done == STEPS else {"good1"})


def test_last_good_state_is_kept_while_the_bot_is_down(machine: Machine) -> None:
    machine.deploy("good1")
    machine.keep()
    for run in ("dead2", "dead3", "dead4"):
        machine.fail(run)
        assert not machine.active
    assert machine.run(PUT_BACK).returncode == 0
    assert machine.state == {"good1"}


def test_good_state_is_kept_although_its_bot_was_stopped(machine: Machine) -> None:
    machine.deploy("good1")
    (machine.root / "active-clawd-bot").unlink()
    assert machine.keep()


def test_archive_is_replaced_atomically(machine: Machine) -> None:
    machine.deploy("good1")
    machine.keep()
    archive = machine.root / ARCHIVE[1:]
    before = archive.read_bytes()
    machine.deploy("good2")
    (machine.root / "bin" / "sync").write_text("#!/bin/sh\nexit 1\n")
    (machine.root / "bin" / "sync").chmod(0o755)
    assert machine.run(KEEP).returncode != 0
    assert archive.read_bytes() == before
    assert archive.stat().st_mode & 0o777 == 0o600


def test_rollback_deletes_files_added_by_the_failed_run(machine: Machine) -> None:
    machine.deploy("good1", engine=False)
    machine.keep()
    machine.fail("bad2")
    machine.put("etc/clawd/secrets/new-token", "secret of bad2")
    assert machine.run(PUT_BACK).returncode == 0
    assert machine.state == {"good1"}
    assert not (machine.root / "etc/clawd/engine.json").exists()
    assert not (machine.root / "active-clawd-engine").exists()


def test_rollback_restores_the_certificate_of_a_dropped_internal_listener(machine: Machine) -> None:
    folder, link = machine.root / "etc/clawd/bot-internal.d", machine.root / "etc/clawd/bot-internal"
    (folder / "4711").mkdir(parents=True)
    (folder / "4711" / "privkey.pem").write_text("key")
    link.symlink_to("bot-internal.d/4711")
    machine.deploy("good1")
    machine.keep()
    machine.fail("bad2")
    link.unlink()
    shutil.rmtree(folder)
    assert machine.run(PUT_BACK).returncode == 0
    assert (link / "privkey.pem").read_text() == "key"


def test_renewed_certificate_without_a_start_is_not_kept_for_rollback(machine: Machine) -> None:
    folder, link = machine.root / "etc/clawd/bot-internal.d", machine.root / "etc/clawd/bot-internal"
    for serial in ("1", "2"):
        (folder / serial).mkdir(parents=True)
        (folder / serial / "privkey.pem").write_text(serial)
    link.symlink_to("bot-internal.d/1")
    machine.deploy("good1")
    machine.keep()
    link.unlink()
    link.symlink_to("bot-internal.d/2")
    machine.fail("bad2")
    assert machine.run(PUT_BACK).returncode == 0
    assert (link / "privkey.pem").read_text() == "1"


def test_rollback_that_does_not_become_ready_fails(machine: Machine) -> None:
    machine.deploy("good1")
    machine.keep()
    machine.fail("bad2")
    (machine.root / "bin" / "basename").write_text("#!/bin/sh\necho bad\n")
    (machine.root / "bin" / "basename").chmod(0o755)
    done = machine.run(PUT_BACK)
    assert done.returncode != 0
    assert "it starts, but is not ready: not yet" in done.stderr


def test_rollback_of_an_untouched_state_restarts_nothing(machine: Machine) -> None:
    machine.deploy("good1")
    machine.keep()
    before = (machine.root / "active-clawd-bot").read_text()
    assert machine.run(PUT_BACK).stdout.split() == ["untouched"]
    assert (machine.root / "active-clawd-bot").read_text() == before


def test_release_of_the_last_good_state_survives_interrupted_runs(machine: Machine) -> None:
    machine.deploy("good1")
    machine.keep()
    fact = EntriesFact()
    archive = fact.command(str(machine.root / "opt/clawd"), "/opt/clawd/current")
    shown = machine.run(archive.replace('readlink "$link"', f"readlink {machine.root}/opt/clawd/current"))
    assert fact.process(shown.stdout.splitlines()).good == "good1"
    names = tuple(f"{number:016x}" for number in range(6))
    assert names[-1] not in outdated(Entries(names, linked=names[1], good=names[-1]), new=names[0])

from __future__ import annotations

from pathlib import Path

from inventory.load import load
from inventory.sections.models import LocalModel
from provision.sandbox import inventory
from provision.sandbox.hosts.host import HostState, SandboxHost
from provision.sandbox.layout import Layout
from provision.sandbox.secrets import SECRETS


def host(number: int, state: HostState = HostState.RUNNING) -> SandboxHost:
    return SandboxHost(f"bot{number}", f"10.213.77.1{number}", "trixie", "nspawn", state)


def test_sandbox_inventory_declares_the_running_hosts(tmp_path: Path) -> None:
    """Its files are found, because they are, as with one host, the sandbox's own."""
    box = Layout(folder=tmp_path / "box")
    box.folder.mkdir()
    box.key.touch()
    (box.folder / "models").mkdir()
    (box.folder / "models" / "smollm2-135m-q8_0.gguf").touch()
    box.secrets.mkdir()
    for name, make in SECRETS.items():
        (box.secrets / name).write_text(make())
        (box.secrets / name).chmod(0o600)
    file = inventory.write(box, [host(1), host(2), host(3, HostState.STOPPED)])
    assert file.parent == box.folder
    several = load(file, resolve_secrets=False).inventory
    one = load(inventory.TEMPLATE, resolve_secrets=False).inventory
    assert {name: str(found.address) for name, found in several.hosts.items()} == {
        "bot1": "10.213.77.11",
        "bot2": "10.213.77.12",
    }
    assert several.hosts["bot1"].ssh_key == box.key
    assert several.known_hosts == box.known_hosts
    assert isinstance(several.models.default, LocalModel)
    assert several.models.default.path == box.folder / "models" / "smollm2-135m-q8_0.gguf"
    assert several.bot == one.bot
    assert several.project == one.project
    text = file.read_text()
    assert "!file secrets/telegram-token" in text
    assert ".sandbox" not in text.partition("\n")[2]

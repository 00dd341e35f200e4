"""Files that an inventory names."""

from __future__ import annotations

from tests.inventory.mistakes.case import Cases, reported

CASES: Cases = {
    "model missing": (
        "path: model.gguf",
        "path: ‸modell.gguf",
        "{folder}/modell.gguf does not exist",
        "correct the path, or let the host fetch it with `url:` and `sha256:`",
    ),
    "model is something else": (
        "path: model.gguf",
        "path: ‸pointer.gguf",
        "{folder}/pointer.gguf is a pointer of Git LFS, not the file; it is not a GGUF file",
        "fetch it with `git lfs pull`",
    ),
    "model larger than memory": (
        "path: model.gguf\n    memory_max: 1G",
        "path: big.gguf\n    memory_max: ‸300M",
        "300M is less than the model file itself has (400M)",
        "allow the file's size and about a third more",
    ),
    "SSH key missing": (
        "ssh_key: id",
        "ssh_key: ‸~/.ssh/id",
        "{home}/.ssh/id does not exist",
        "correct the path, or make a key with `ssh-keygen -t ed25519`",
    ),
    "SSH key open to others": (
        "ssh_key: id",
        "ssh_key: ‸open",
        "{folder}/open is open to others than its owner (mode 0640)",
        "`chmod 600 {folder}/open`",
    ),
    "authority of a registry missing": (
        "project: team",
        "project: team\ndocker:\n  registry: r.internal/bots\n  registry_authority: ‸nowhere.pem",
        "{folder}/nowhere.pem does not exist",
        "correct the path, or leave it out for a public authority",
    ),
    "known_hosts missing": (
        "known_hosts: known_hosts",
        "known_hosts: ‸nowhere",
        "{folder}/nowhere does not exist",
        "correct the path, or make it with `ssh-keyscan` and compare the keys",
    ),
}

test_mistake = reported(CASES)

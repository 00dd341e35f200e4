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
        "{folder}/pointer.gguf is not a GGUF file: it is a pointer of Git LFS, not the file",
        "fetch it with `git lfs pull`",
    ),
    "model larger than memory": (
        "path: model.gguf\n    memory_max: 1G",
        "path: big.gguf\n    memory_max: ‸300M",
        "300M is less than the size of the model file (400M)",
        "allow the size of the file plus about a third",
    ),
    "SSH key missing": (
        "ssh_key: id",
        "ssh_key: ‸~/.ssh/id",
        "{home}/.ssh/id does not exist",
        "correct the path, or create a key with `ssh-keygen -t ed25519`",
    ),
    "SSH key open to others": (
        "ssh_key: id",
        "ssh_key: ‸open",
        "{folder}/open is accessible to other users (mode 0640)",
        "run `chmod 600 {folder}/open`",
    ),
    "public key that ssh does not read": (
        "ssh_key: id",
        "ssh_key: ‸id.ssh2",
        "{folder}/id.ssh2 is a public key in a format that ssh does not support",
        "give the private key, or the public one as printed by `ssh-keygen -i`",
    ),
    "key of Docker's repository missing": (
        "base:\n",
        "docker: {source: docker, key: ‸nowhere.asc}\nbase:\n",
        "{folder}/nowhere.asc does not exist",
        "correct the path, or fetch the repository's key again",
    ),
    "page in the place of a repository's key": (
        "base:\n",
        "docker: {source: docker, key: ‸page.html}\nbase:\n",
        "{folder}/page.html is not an OpenPGP public key",
        "correct the path, or fetch the repository's key again",
    ),
    "page in the place of an authority": (
        "base:\n",
        "docker: {registry: r.internal/bots, registry_authority: ‸page.html}\nbase:\n",
        "{folder}/page.html is not a certificate in PEM",
        "correct the path, or leave it out for a public authority",
    ),
    "page in the place of the driver's key": (
        "    ssh_key: id\n    roles: [runtime, nginx]\n",
        "    ssh_key: id\n    gpu: auto\nnvidia: {key: ‸page.html}\n",
        "{folder}/page.html is not an OpenPGP public key",
        "correct the path, or fetch the repository's key again",
    ),
    "page in the place of Grafana's package": (
        "    roles: [runtime, nginx]\n",
        (
            "    roles: [runtime, nginx, monitoring]\n"
            "monitoring: {grafana: {admin_password: !file jwt, package: ‸page.html}}\n"
        ),
        "{folder}/page.html is not a Debian package",
        "correct the path, or name the .deb of Grafana",
    ),
    "folder without packages of Elastic": (
        "base:\n",
        (
            "  log1: {address: 192.0.2.12, roles: [logs]}\n"
            "logs: {password: !file jwt, packages: {folder: ‸.}}\nbase:\n"
        ),
        "{folder} has no .deb files",
        "copy Elastic's packages there",
    ),
    "text in the place of a hook": (
        "base:\n",
        (
            "tls:\n  mode: acme\n  names: [bot.example.com]\n"
            "  acme: {email: a@example.com, challenge: dns-01, dns: {hook: ‸page.html}}\nbase:\n"
        ),
        "{folder}/page.html is not a program: it begins with neither `#!` nor ELF",
        "correct the path, or name a provider",
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
        "correct the path, or create it with `ssh-keyscan` and compare the keys",
    ),
}

test_mistake = reported(CASES)

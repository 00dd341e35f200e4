"""A GPU in a new container: a real Docker engine, and a stand-in for what NVIDIA's toolkit does."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploys.docker.settings import DockerSettings
from deploys.registry import BY_NAME
from provision.assignment import Assignment
from tests.deploys.nvidia import repository
from tests.deploys.nvidia.presented import TREE, VERSION
from tests.deploys.nvidia.test_on_hosts import WithGpu, present_gpu
from tests.hosts import Box, boxes, in_every_run, on_hosts

pytestmark = on_hosts(seconds=600)

# Python of the host and little else, without a shell, as our own images are.
IMAGE = """
python3 -I - <<'END' | docker import - clawd-runtime:0123456789abcdef >/dev/null
import glob, subprocess, sys, tarfile
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", dereference=True) as tar:
    shown = subprocess.run(["ldd", "/usr/bin/python3"], capture_output=True, text=True).stdout.split()
    for path in {"/usr/bin/python3", *(word for word in shown if word[0] == "/" and word[-1] != ":")}:
        tar.add(path)
    for folder in glob.glob("/usr/lib/python3.*"):
        tar.add(folder, filter=lambda item: None if "__pycache__" in item.name else item)
END
"""
CHECK = "a new container gets the gpu"

box = boxes("clgp", 171)


@pytest.fixture(scope="module")
def repositories(box: Box) -> Iterator[tuple[str, Path]]:
    folder = box.folder / "repositories"
    key = repository.make(folder, platform.release())
    with repository.served(folder, box.machine) as address:
        yield address, key


@pytest.mark.parametrize("release", in_every_run("bookworm"))
def test_new_container_gets_the_gpu(release: str, box: Box, repositories: tuple[str, Path]) -> None:
    host = WithGpu(box, box.named(release), *repositories)
    present_gpu(host)
    host.takes_headers()
    docker = DockerSettings(gpu=True, root=TREE)
    host.apply(nvidia=host.settings(), docker=docker)
    assert not host.apply(nvidia=host.settings(), docker=docker)

    def outcomes(**changes: Any) -> dict[str, str]:
        of_nvidia = Assignment(BY_NAME["nvidia"], host.settings(**changes))
        found = host.verified(host.loaded(), of_nvidia, Assignment(BY_NAME["docker"], docker))
        return {check.name: check.outcome for check in found.checks if not check.passed}

    # There is nothing to try it with, and that is seen.
    assert outcomes() == {CHECK: "skipped"}
    assert outcomes(containers=True) == {CHECK: "failed"}
    host.on(IMAGE)
    assert outcomes(containers=True) == {}
    # The engine knows of GPUs by the toolkit's hook.
    host.on("mv /usr/bin/nvidia-container-runtime-hook /root; systemctl restart docker")
    assert outcomes(containers=True)[CHECK] == "failed"
    host.on("mv /root/nvidia-container-runtime-hook /usr/bin; systemctl restart docker")
    assert CHECK not in outcomes(containers=True)
    # The toolkit, by the driver.
    host.on(f"mv {VERSION} /root/version")
    assert outcomes(containers=True)[CHECK] == "failed"
    host.on(f"mv /root/version {VERSION}")
    assert CHECK not in outcomes(containers=True)

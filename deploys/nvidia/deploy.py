"""NVIDIA's driver from its own repository, kept on one branch, and the toolkit for GPUs in containers."""

from __future__ import annotations

from pathlib import Path

from pyinfra import host
from pyinfra.api import deploy

from deploys.nvidia.choice import choose
from deploys.nvidia.driver import PACKAGES, headers
from deploys.nvidia.gpus import GpuMachine, GpuMachineFact
from deploys.nvidia.reboot import REBOOTED, REBOOTING, loaded
from deploys.nvidia.settings import NvidiaSettings, repository_uri
from deploys.ops import services, units
from deploys.ops.debian import packages, sources
from deploys.ops.paths import files
from deploys.ops.removal import removal
from deploys.ops.services import Service
from deploys.settings import settings_of
from inventory.errors import ArtifactError, HostError

SKIPPED = "/var/lib/clawd/state/nvidia.skipped"
DRIVER, TOOLKIT = "nvidia", "nvidia-container-toolkit"
FURTHER = {"debian": ("nvidia-modprobe", "nvidia-persistenced"), "ubuntu": ("nvidia-modprobe",)}
"""Further packages, by distribution. Ubuntu's driver includes the persistence daemon (not tested)."""
FOLDERS: dict[str, tuple[str, ...]] = {"/etc/nvidia": (), "/etc/nvidia-container-runtime": ()}
"""Folders of its packages in /etc, to which users may have added files."""
DEVICES = "/etc/systemd/system/clawd-gpu.service"
TOOLKIT_PACKAGES = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)


@deploy("NVIDIA")
def apply() -> None:
    """Install the driver of the declared branch, its persistence daemon, and the container toolkit.

    Without a GPU nothing is installed, and the reason is noted on the host.

    Raises `HostError` when a required GPU is missing, no driver fits, the driver cannot be built for the
    running kernel, or Secure Boot would refuse its modules.
    """
    settings = settings_of("nvidia", NvidiaSettings)
    machine: GpuMachine = host.get_fact(GpuMachineFact, root=settings.root)
    if not machine.gpus:
        _skip(settings)
        return
    chosen = choose(host.name, machine, settings)
    modules, cuda = chosen.modules, chosen.cuda
    files.absent(SKIPPED, name="A GPU is there")
    if machine.installed and machine.installed.split(".")[0] != str(settings.branch):
        # The package that pins the branch would keep the old one.
        packages.removed("nvidia", folders=FOLDERS)
    sources.apt(
        DRIVER, uri=repository_uri(settings, machine), suite="/", key=_key(settings.key, "nvidia.key")
    )
    if needed := headers(machine):
        packages.installed(*needed, component="nvidia")
    packages.installed(f"nvidia-driver-pinning-{settings.branch}", component="nvidia")
    further = FURTHER.get(machine.system.rstrip("0123456789"), ())
    packages.installed(PACKAGES[modules], *further, component="nvidia")
    if cuda is not None:
        packages.installed(*cuda.libraries, component="nvidia")
    loaded(settings.reboot, settings.root)
    stuck = machine.nouveau or machine.loaded not in ("", machine.installed)
    if not (stuck and settings.reboot == "never"):
        # It does not start without the driver.
        services.converge(Service("nvidia-persistenced", inputs=f"{modules} {settings.branch}"))
        if cuda is not None:
            files.template("nvidia/clawd-gpu.service", DEVICES, {}, check="systemd-analyze verify {}")
            services.converge(Service("clawd-gpu", watch=(DEVICES,)))
    if cuda is None:
        units.absent("clawd-gpu.service")
    if settings.toolkit:
        _toolkit(settings, machine)


@removal("NVIDIA")
def remove() -> None:
    """Remove driver, toolkit and our repository. Loaded kernel modules stay until the next boot."""
    units.absent("clawd-gpu.service")
    units.absent("nvidia-persistenced.service", file=False)
    packages.removed("nvidia", folders=FOLDERS)
    sources.absent(TOOLKIT)
    sources.absent(DRIVER)
    services.forgotten("nvidia-persistenced.service")
    files.absent(SKIPPED)
    files.absent(REBOOTING)
    files.absent(REBOOTED)


def _skip(settings: NvidiaSettings) -> None:
    """Show in the plan why there is nothing to do, and note it on the host for `verify`."""
    why = "no PCI device of NVIDIA (vendor 0x10de) is a display or 3D controller"
    if settings.gpu == "required":
        raise HostError(
            f"{host.name}: `gpu: required`, but {why}",
            advice="write `gpu: auto` or `gpu: none` for this host, or pass the GPU through to it",
        )
    units.absent("clawd-gpu.service")
    packages.removed("nvidia", folders=FOLDERS)
    files.directory(services.STAMPS, mode="0700")
    files.put(SKIPPED, f"driver skipped: {why}\n", name="No NVIDIA GPU: driver skipped")


def _toolkit(settings: NvidiaSettings, machine: GpuMachine) -> None:
    """Install all four packages in one version: different ones do not work together."""
    sources.apt(
        TOOLKIT,
        uri=f"{settings.toolkit_repository}/{machine.architecture}",
        suite="/",
        key=_key(settings.toolkit_key, "nvidia.toolkit_key"),
    )
    versions = tuple(f"{name}={settings.toolkit_version}" for name in TOOLKIT_PACKAGES)
    packages.installed(*versions, component="nvidia")


def _key(path: Path | None, declared: str) -> bytes:
    advice = f"save the repository's public key, and write its path as `{declared}`"
    if path is None:
        raise ArtifactError(
            f"{host.name}: packages cannot be verified: `{declared}` is missing", advice=advice
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read `{declared}`: {error}", advice=advice) from error

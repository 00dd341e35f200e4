"""GPUs of a host from sysfs, and the driver that fits them. The choice is pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from deploys.ops.facts import Fact
from deploys.ops.programs import program
from deploys.ops.shell import assignments
from inventory.errors import ClawdError

Modules = Literal["open", "proprietary"]
Headers = Literal["package", "folder", "missing", "unknown"]


@dataclass(frozen=True, slots=True)
class Generation:
    """GPUs whose PCI device id is `first` or more, up to the next generation's; `modules` that drive them.

    `branches` are the first and last driver branch that supports them, 0 for no end; `cuda` the first and
    last CUDA, empty for no end. `architectures` are those to compile for so that the code runs on all of
    them; code for one also runs on later ones that have the same number before the last digit.
    """

    first: int
    name: str
    modules: tuple[Modules, ...]
    branches: tuple[int, int] = (0, 0)
    cuda: tuple[str, str] = ("", "")
    architectures: tuple[str, ...] = ()


# Ranges of device ids: https://github.com/NVIDIA/open-gpu-kernel-modules (supported GPUs) and the driver's
# README, appendix A. The last branch for Maxwell to Volta is 580, the last CUDA 12.9. Compute capabilities:
# developer.nvidia.com/cuda-gpus; `a` as llama.cpp wants it for Blackwell.
GENERATIONS = (
    Generation(0x0000, "Kepler or older", ()),
    Generation(
        0x1340, "Maxwell, Pascal or Volta", ("proprietary",), (0, 580), ("", "12.9"), ("50", "60", "61", "70")
    ),
    Generation(0x1E00, "Turing", ("open", "proprietary"), architectures=("75",)),
    Generation(
        0x2080, "Ampere, Hopper or Ada", ("open", "proprietary"), architectures=("80", "86", "89", "90")
    ),
    Generation(0x2900, "Blackwell or later", ("open",), (570, 0), ("12.9", ""), ("100", "120a", "121a")),
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU: PCI address, device id, and the driver that is bound to it."""

    address: str
    device: int
    driver: str = ""

    @property
    def generation(self) -> Generation:
        """Return the generation of the GPU."""
        return [known for known in GENERATIONS if known.first <= self.device][-1]

    def __str__(self) -> str:
        return f"{self.address} (10de:{self.device:04x}, {self.generation.name})"


@dataclass(frozen=True, slots=True)
class GpuMachine:
    """The properties of a host that determine its driver.

    `loaded` is the version of the loaded kernel module, `installed` that of the driver's package, `package`
    its name; `reboot_asked` names the packages for which the system requests a reboot. `system` is named as
    in NVIDIA's repository (`debian12`), `architecture` as in dpkg, `kernel` is the running one, `kernels` are
    the packages that keep the host's kernels current (`linux-image-amd64`). `headers` is the source of those
    of the running kernel, read only where there are GPUs: `package`, a package with its name, installed or
    available; `folder`, the one in which modules look for them; `missing`, neither; `unknown`, the index of
    available packages is older than a day.
    """

    gpus: tuple[Gpu, ...] = ()
    secure_boot: bool = False
    nouveau: bool = False
    loaded: str = ""
    installed: str = ""
    package: str = ""
    reboot_asked: str = ""
    system: str = ""
    architecture: str = ""
    kernel: str = ""
    kernels: tuple[str, ...] = ()
    headers: Headers = "unknown"


class GpuMachineFact(Fact):
    """GPUs, system and kernel of a host."""

    def command(self, root: str = "") -> str:
        """Return a script that prints lines `key value`."""
        return assignments(root=root) + _MACHINE

    @staticmethod
    def default() -> GpuMachine:
        """Return a machine without GPUs."""
        return GpuMachine()

    def process(self, output: list[str]) -> GpuMachine:
        """Turn the lines into a `GpuMachine`."""
        return parse(output)


REBOOT_ASKED = program("deploys/nvidia/scripts/reboot_asked.sh")

GPUS = program("deploys/nvidia/scripts/gpus.sh")

_KERNEL = program("deploys/nvidia/scripts/kernel.sh")

_MACHINE = program("deploys/nvidia/scripts/machine.sh")


def parse(lines: Sequence[str]) -> GpuMachine:
    """Parse the output of `GpuMachineFact`."""
    gpus = tuple(
        Gpu(words[1], int(words[2], 16), words[3] if len(words) > 3 else "")
        for words in (line.split() for line in lines if line.startswith("gpu "))
    )
    said = dict(line.split(" ", 1) for line in lines if " " in line and not line.startswith("gpu "))
    return GpuMachine(
        gpus,
        secure_boot="secure_boot" in said,
        nouveau="nouveau" in said,
        loaded=said.get("loaded", ""),
        installed=said.get("installed", ""),
        package=said.get("package", ""),
        reboot_asked=said.get("reboot_asked", ""),
        system=said.get("system", ""),
        architecture=said.get("architecture", ""),
        kernel=said.get("kernel", ""),
        kernels=tuple(said.get("kernels", "").split()),
        headers=cast(Headers, said.get("headers", "unknown")),
    )


def machine_of(host: Any, root: str) -> GpuMachine:
    """Return GPUs and driver of the testinfra `host`."""
    fact = GpuMachineFact()
    return fact.process(host.check_output(fact.command(root)).splitlines())


def modules_for(gpus: Sequence[Gpu], branch: int, wanted: Literal["auto", "open", "proprietary"]) -> Modules:
    """Return the kernel modules that drive all of `gpus`; open ones where both do.

    Raises `ClawdError` when none do, or not with this driver branch.
    """
    for gpu in gpus:
        first, last = gpu.generation.branches
        if not gpu.generation.modules:
            raise ClawdError(
                f"{gpu} has no driver any more", advice="take the GPU out, or write `gpu: none` for this host"
            )
        if branch < first or (last and branch > last):
            known = f"{last} and earlier" if last else f"{first} and later"
            raise ClawdError(
                f"{gpu} works with driver branch {known} only, and {branch} is declared",
                advice=f"write `nvidia.branch: {last or max(first, 580)}`",
            )
    fitting = [
        kind for kind in ("open", "proprietary") if all(kind in gpu.generation.modules for gpu in gpus)
    ]
    if wanted == "auto" and fitting:
        return "open" if "open" in fitting else "proprietary"
    for kind in fitting:
        if kind == wanted:
            return wanted  # type: ignore[return-value]
    listed = ", ".join(map(str, gpus))
    if not fitting:
        raise ClawdError(
            f"no kind of kernel modules drives all of {listed}",
            advice="take out the GPUs of one generation, or write `gpu: none` for this host",
        )
    raise ClawdError(
        f"the {wanted} kernel modules do not drive {listed}", advice=f"write `nvidia.modules: {fitting[0]}`"
    )


def reboot_reason(machine: GpuMachine, installed: str) -> str | None:
    """Return why the driver `installed` needs a reboot to be complete; `None` when it does not."""
    if machine.loaded == installed:
        asked = machine.reboot_asked
        return f"the system asks for a reboot (/run/reboot-required: {asked})" if asked else None
    if machine.loaded:
        return f"the kernel has driver {machine.loaded}, installed is {installed}"
    if machine.nouveau:
        return "the kernel has nouveau, which holds the GPU"
    return "the kernel has no NVIDIA driver yet"

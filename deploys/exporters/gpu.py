"""GPUs in the node exporter's text files: a timer that asks nvidia-smi, where there is a GPU."""

from __future__ import annotations

from pyinfra import host

from deploys.exporters.exporter import TEXTFILES
from deploys.ops import files, services, units
from deploys.ops.facts import Fact
from deploys.ops.shell import assignments

PROGRAM = "/usr/local/lib/clawd-gpu-metrics"
OUTPUT = f"{TEXTFILES}/clawd_gpu.prom"
TIMER, SERVICE = "clawd-gpu-metrics.timer", "clawd-gpu-metrics.service"
UNITS = "/etc/systemd/system"
FILES = (PROGRAM, f"{UNITS}/{SERVICE}", f"{UNITS}/{TIMER}")

COMPILES = "python3 -I -c 'import sys; compile(open(sys.argv[1]).read(), sys.argv[1], \"exec\")' {}"


class GpuFact(Fact):
    """Whether a host has an NVIDIA GPU, as the kernel shows the devices of its PCI bus."""

    def command(self, sysfs: str) -> str:
        """A script that prints the paths of GPUs."""
        return assignments(sysfs=sysfs) + _GPUS

    @staticmethod
    def default() -> bool:
        """None."""
        return False

    def process(self, output: list[str]) -> bool:
        """Whether a path was printed."""
        return any(output)


# 0x10de is NVIDIA; 0x0300 a VGA controller, 0x0302 a 3D controller (PCI ID list).
_GPUS = r"""
for device in "$sysfs"/bus/pci/devices/*; do
    case "$(cat "$device/vendor" 2>/dev/null) $(cat "$device/class" 2>/dev/null)" in
        0x10de\ 0x0300*|0x10de\ 0x0302*) echo "$device" ;;
    esac
done
"""


def measured(sysfs: str) -> bool:
    """The GPUs of this host are measured every 15 seconds; where there are none, nothing of this is there.

    Returns whether there are.
    """
    if not host.get_fact(GpuFact, sysfs=sysfs):
        absent()
        return False
    files.template("exporters/gpu-metrics", PROGRAM, {}, check=COMPILES)
    files.template(f"exporters/{SERVICE}", f"{UNITS}/{SERVICE}", {"output": OUTPUT, "folder": TEXTFILES})
    files.template(f"exporters/{TIMER}", f"{UNITS}/{TIMER}", {})
    services.converge(TIMER, inputs="", watch=FILES, ready=f"test -s {OUTPUT}")
    return True


def absent() -> None:
    """Neither timer nor program nor what it wrote."""
    units.absent(TIMER)
    units.absent(SERVICE)
    files.absent(PROGRAM)
    files.absent(OUTPUT)

"""GPUs in the node exporter's text files: a timer that runs nvidia-smi, where there is a GPU."""

from __future__ import annotations

from deploys.metrics import TEXTFILES
from deploys.nvidia.detect import has_gpu
from deploys.ops import services, units
from deploys.ops.paths import files
from deploys.ops.services import Service

PROGRAM = "/usr/local/lib/clawd-gpu-metrics"
OUTPUT = f"{TEXTFILES}/clawd_gpu.prom"
TIMER, SERVICE = "clawd-gpu-metrics.timer", "clawd-gpu-metrics.service"
UNITS = "/etc/systemd/system"
FILES = (PROGRAM, f"{UNITS}/{SERVICE}", f"{UNITS}/{TIMER}")

COMPILES = "python3 -I -c 'import sys; compile(open(sys.argv[1]).read(), sys.argv[1], \"exec\")' {}"


def measured(root: str) -> bool:
    """Measure the GPUs of this host every 15 seconds, or remove the timer where there are none.

    Return whether there are GPUs.
    """
    if not has_gpu(root):
        absent()
        return False
    files.template("exporters/gpu-metrics", PROGRAM, {}, check=COMPILES)
    files.template(f"exporters/{SERVICE}", f"{UNITS}/{SERVICE}", {"output": OUTPUT, "folder": TEXTFILES})
    files.template(f"exporters/{TIMER}", f"{UNITS}/{TIMER}", {})
    services.converge(Service(TIMER, watch=FILES, ready=f"test -s {OUTPUT}"))
    return True


def absent() -> None:
    """Remove timer, program and what it wrote."""
    units.absent(TIMER)
    units.absent(SERVICE)
    files.absent(PROGRAM)
    files.absent(OUTPUT)

"""Load a new driver, or reboot a host within a run where that is needed and allowed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Literal

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta
from pyinfra.connectors.util import CommandOutput, OutputLine

from deploys.nvidia.gpus import REBOOT_ASKED, GpuMachine, GpuMachineFact, reboot_reason
from deploys.ops.diff import operation, record
from deploys.ops.run_state import Change, forget_sudo_password, run_state
from deploys.ops.shell import script
from inventory.errors import ClawdError

PATIENCE = 600
"""Seconds until a rebooted host must answer: servers test their memory first."""
REBOOTING = "/var/lib/clawd/state/nvidia.rebooting"
"""Record of the boot that was ended, and the driver for which."""
REBOOTED = "/run/clawd-nvidia.rebooted"
"""Record of the driver for which the host was rebooted, and which is still not loaded."""


def loaded(reboot: Literal["ask", "auto", "never"], root: str) -> OperationMeta:
    """Have the kernel run the installed driver: load it now if nothing prevents that, else reboot.

    A reboot that the system requests for a kernel or the driver's own packages is treated the same way.

    With `ask` the operation fails where only a reboot helps, and reports that; the run after the reboot
    continues. With `never` it changes nothing then. With `auto` it fails where the reboot did not help, and
    does not reboot a second time for the same driver.
    """
    return _loaded(reboot, root, name="Driver in the kernel")


@operation
def _loaded(reboot: str, root: str) -> Iterator[StringCommand]:
    machine: GpuMachine = host.get_fact(GpuMachineFact, root=root)
    why = reboot_reason(machine, machine.installed) if machine.installed else "the driver is installed first"
    if why is None or (reboot == "never" and (machine.loaded or machine.nouveau)):
        return
    then = {
        "ask": "load it, or ask for a reboot",
        "auto": "load it, or reboot",
        "never": "load it if possible",
    }
    record(Change("NVIDIA driver", (f"{then[reboot]} ({why})",)))
    yield _script(_LOAD, root, reboot)
    if reboot == "auto":
        yield RebootCommand(root)


# Loaded modules are not unloaded: they may be in use. Without nouveau a first driver needs no reboot.
_LOADED = (
    REBOOT_ASKED
    + r"""
wanted=$(dpkg-query -W -f='${db:Status-Status} ${Version}\n' nvidia-open cuda-drivers 2>/dev/null |
    sed -n 's/^installed \([0-9.]*\).*/\1/p')
is_loaded() {
    running=$(sed -n 's/^NVRM version:.* \([0-9][0-9]*\.[0-9.]*\) .*/\1/p' \
        "$root/proc/driver/nvidia/version" 2>/dev/null)
    [ "$running" = "$wanted" ]
}
asked=$(reboot_asked "$root")
boot=$(cat /proc/sys/kernel/random/boot_id)
"""
)
_LOAD_OR_SAY = r"""
if read -r before driver 2>/dev/null <"$rebooting" && [ "$before" != "$boot" ]; then
    echo "$driver" > "$rebooted"
    rm "$rebooting"
fi
is_loaded && rm -f "$rebooted"
is_loaded && [ ! "$asked" ] && exit
refused=
if [ ! "$running" ] && [ ! -d "$root/sys/module/nouveau" ]; then
    modprobe nvidia || refused=yes
    is_loaded && [ ! "$asked" ] && exit
fi
again='reboot the host and run again, or write `nvidia.reboot: auto`, or `never` to continue without'
if [ "$reboot" = never ]; then
    exit
elif [ "$reboot" = auto ]; then
    ! is_loaded && [ "$(cat "$rebooted" 2>/dev/null)" = "$wanted" ] || exit 0
    again='it is not rebooted again: fix that, reboot it, run again; or write `nvidia.reboot: never`'
fi
if is_loaded; then
    echo "the system asks for a reboot ($root/run/reboot-required: $asked)" >&2
elif [ "$refused" ]; then
    echo "driver $wanted is installed, and kernel $(uname -r) does not load it: modprobe says why, and" \
        "\`dkms status\` for which kernels it was built" >&2
elif [ "$reboot" = auto ]; then
    echo "driver $wanted is installed, and a reboot did not bring it (now: ${running:-nouveau}):" \
        "\`dkms status\` says for which kernels it was built, \`lsinitramfs\` what is loaded before it" >&2
else
    echo "driver $wanted is installed and starts with the next boot (now: ${running:-none loaded})" >&2
fi
echo "$again" >&2
exit 1
"""
_LOAD = _LOADED + _LOAD_OR_SAY
_REBOOT_IF_NEEDED = (
    _LOADED
    + r"""
is_loaded && [ ! "$asked" ] && { echo loaded; exit; }
systemd-run --quiet --on-active=2 --timer-property=AccuracySec=100ms systemctl reboot >&2 || exit 1
mkdir -p "${rebooting%/*}"
echo "$boot $wanted" > "$rebooting"
echo "$boot"
"""
)
# When sshd answers, modules may still be loading.
_REBOOTED = (
    _LOADED
    + r"""
for _ in $(seq 60); do
    is_loaded && break
    case $(systemctl is-system-running 2>/dev/null) in running | degraded | maintenance) break ;; esac
    sleep 2
done
"""
    + _LOAD_OR_SAY
)


def _script(body: str, root: str, reboot: str = "auto") -> StringCommand:
    return script(body, root=root, reboot=reboot, rebooting=REBOOTING, rebooted=REBOOTED)


class RebootCommand(StringCommand):  # type: ignore[misc]
    """Reboot the host unless the driver runs, and reconnect to it.

    systemd schedules the reboot and the connection is closed from here, so that nothing depends on how a
    broken connection ends. pyinfra's own operation fails with sudo: it reads a file that the reboot removed.
    """

    def __init__(self, root: str) -> None:
        super().__init__("reboot, where the driver needs it")
        self.root = root

    def execute(self, state: Any, host: Any, connector_arguments: Any) -> tuple[bool, CommandOutput]:
        """Return when the host has another boot id and the driver.

        Errors are lines of the output.
        """
        asked = _script(_REBOOT_IF_NEEDED, self.root)
        succeeded, output = host.run_shell_command(asked, **connector_arguments)
        boot = output.stdout.strip()
        if not succeeded or boot == "loaded":
            return succeeded, output
        deadline = time.monotonic() + PATIENCE
        time.sleep(3)
        host.disconnect()
        while time.monotonic() < deadline:
            if self._is_back(host, boot):
                succeeded, output = self._taken_up(host)
                if not succeeded:
                    return succeeded, output
                loads = _script(_REBOOTED, self.root)
                succeeded, output = host.run_shell_command(loads, **connector_arguments)
                return succeeded, output
            time.sleep(2)
        text = f"the host does not answer {PATIENCE} s after its reboot: check its console"
        return False, CommandOutput([OutputLine("stderr", text)])

    @staticmethod
    def _taken_up(host: Any) -> tuple[bool, CommandOutput]:
        """Restore what depended on the old connection, such as the run's lock, or end the run."""
        try:
            for again in run_state(host).after_reconnect:
                again()
        except ClawdError as error:
            return False, CommandOutput([OutputLine("stderr", line) for line in str(error).splitlines()])
        return True, CommandOutput([])

    @staticmethod
    def _is_back(host: Any, boot: str) -> bool:
        """Return whether the host answers and has rebooted."""
        forget_sudo_password(host)
        try:
            host.connected = False
            host.connect(raise_exceptions=True)
            succeeded, output = host.run_shell_command("cat /proc/sys/kernel/random/boot_id")
        except Exception:  # any error: it is tried again until the deadline
            return False
        return bool(succeeded and output.stdout.strip() not in ("", boot))

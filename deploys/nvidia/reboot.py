"""Loading a new driver, and rebooting a host within a run where that is needed and allowed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Literal

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta
from pyinfra.connectors.util import CommandOutput, OutputLine

from deploys.nvidia.gpus import REBOOT_ASKED, Machine, MachineFact, reboot_reason
from deploys.ops.changes import Change, operation, record
from deploys.ops.shell import script
from inventory.errors import ClawdError

PATIENCE = 600
"""Seconds that a host gets to come back: servers test their memory first."""
REBOOTING = "/var/lib/clawd/state/nvidia.rebooting"
"""Which boot was ended, and for which driver."""
REBOOTED = "/run/clawd-nvidia.rebooted"
"""The driver for whose sake the host was booted, and which it does not have all the same."""
RECONNECTED = "clawd_reconnected"
"""Key of `host.connector_data` under which functions may stand that take up what the old connection held."""


def loaded(reboot: Literal["ask", "auto", "never"], root: str) -> OperationMeta:
    """The kernel runs the driver that is installed: loaded now if nothing is in the way, else by a reboot.

    So does one that the system waits for on account of a kernel or of the driver's own packages.

    With `ask` the operation fails where only a reboot helps, and says so; the run after the reboot goes on.
    With `never` it changes nothing then. With `auto` it fails where the reboot did not help, and reboots no
    second time for the same driver.
    """
    return _loaded(reboot, root, name="Driver in the kernel")


@operation
def _loaded(reboot: str, root: str) -> Iterator[StringCommand]:
    machine: Machine = host.get_fact(MachineFact, root=root)
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


# What has been loaded is not unloaded: something may use it. Without nouveau a first driver needs no reboot.
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
again='reboot the host and run again, or write `nvidia.reboot: auto`, or `never` to go on without'
if [ "$reboot" = never ]; then
    exit
elif [ "$reboot" = auto ]; then
    ! is_loaded && [ "$(cat "$rebooted" 2>/dev/null)" = "$wanted" ] || exit 0
    again='it is not rebooted again: mend that, reboot it, run again; or write `nvidia.reboot: never`'
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
# Modules are still being loaded when sshd answers.
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
    """Reboots the host unless the driver runs, and connects to it again.

    The reboot is scheduled by systemd and the connection closed from here, so that nothing depends on how a
    dying connection ends. pyinfra's own operation fails with sudo: it reads a file that the reboot removed.
    """

    def __init__(self, root: str) -> None:
        super().__init__("reboot, where the driver needs it")
        self.root = root

    def execute(self, state: Any, host: Any, connector_arguments: Any) -> tuple[bool, CommandOutput]:
        """Returns when the host is back with another boot id, and has the driver.

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
        text = f"the host did not come back within {PATIENCE} s after its reboot: look at its console"
        return False, CommandOutput([OutputLine("stderr", text)])

    @staticmethod
    def _taken_up(host: Any) -> tuple[bool, CommandOutput]:
        """What lived with the old connection, as the run's lock did, is there again, or the run ends here."""
        try:
            for again in host.connector_data.get(RECONNECTED, ()):
                again()
        except ClawdError as error:
            return False, CommandOutput([OutputLine("stderr", line) for line in str(error).splitlines()])
        return True, CommandOutput([])

    @staticmethod
    def _is_back(host: Any, boot: str) -> bool:
        """Whether the host answers, and has booted since."""
        # What was kept about sudo lay in a file of the old boot.
        host.connector_data.pop("sudo_askpass_path", None)
        try:
            host.connected = False
            host.connect(raise_exceptions=True)
            succeeded, output = host.run_shell_command("cat /proc/sys/kernel/random/boot_id")
        except Exception:  # whatever it is, it is tried again until the deadline
            return False
        return bool(succeeded and output.stdout.strip() not in ("", boot))

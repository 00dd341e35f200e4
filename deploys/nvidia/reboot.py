"""Load a new driver, or reboot a host within a run where that is needed and allowed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Literal

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta
from pyinfra.connectors.util import CommandOutput, OutputLine

from deploys.nvidia.gpus import GpuMachine, GpuMachineFact, reboot_reason
from deploys.ops.diff import operation, record
from deploys.ops.programs import program
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


_LOADED = program("deploys/nvidia/scripts/loaded.sh")
_LOAD = program("deploys/nvidia/scripts/load.sh")
_REBOOT_IF_NEEDED = program("deploys/nvidia/scripts/reboot_if_needed.sh")
_REBOOTED = program("deploys/nvidia/scripts/rebooted.sh")


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

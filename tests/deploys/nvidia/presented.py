"""A GPU that a host is shown: a tree in place of the files of its kernel, and a driver to load."""

from __future__ import annotations

import shlex

TREE = "/presented"
MODPROBE = "/usr/local/sbin/modprobe"
VERSION = f"{TREE}/proc/driver/nvidia/version"
LINE = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (root@host)"
# Stand for the kernel, which loads the module that is installed when asked to, and at boot.
LOAD = f"""#!/bin/sh
installed=$(dpkg-query -W -f '${{db:Status-Status}} ${{Version}}\\n' nvidia-open |
    sed -n 's/^installed \\([0-9.]*\\).*/\\1/p')
[ "$installed" ] || exit 1
mkdir -p {TREE}/proc/driver/nvidia
echo "{LINE.format("$installed")}" > {VERSION}
"""
PRESENT = f"""
mkdir -p {TREE}/sys/bus/pci/devices/0000:01:00.0; cd {TREE}/sys/bus/pci/devices/0000:01:00.0
echo 0x10de > vendor; echo 0x1eb8 > device; echo 0x030200 > class
printf %s {shlex.quote(LOAD)} > {MODPROBE}; chmod +x {MODPROBE}
"""
# For programs without a setting for the tree; and headers of the running kernel, which no repository has.
IN_PLACE = f"""
mkdir -p {TREE}/proc/driver "/lib/modules/$(uname -r)/build"
touch "/lib/modules/$(uname -r)/build/Makefile"
mount --bind {TREE}/sys/bus/pci/devices /sys/bus/pci/devices
mount --bind {TREE}/proc/driver /proc/driver
"""

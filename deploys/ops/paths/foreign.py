"""Shell functions by which root writes into folders of other users: with the rights of that user.

The owner of a folder can replace anything in it by a symbolic link at any moment, so a path below it can lead
root anywhere. The functions here detect such folders and access them as their owner.
"""

from __future__ import annotations

from deploys.ops.programs import program

KEEPER = program("deploys/ops/paths/scripts/keeper.sh")

PLACE = program("deploys/ops/paths/scripts/place.sh")
"""A shell program with the arguments PATH, GROUP and MODE, which writes its standard input to PATH."""

SETTLE = r"""
import os, pwd, stat, sys
path, owner, mode = sys.argv[1:4]
folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
try:
    held = os.open(os.path.basename(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
except OSError as error:
    sys.exit("%s: %s" % (path, error.strerror))
found = os.fstat(held)
if not stat.S_ISDIR(found.st_mode) and not (stat.S_ISREG(found.st_mode) and found.st_nlink == 1):
    sys.exit("%s is neither a folder nor a file with one name" % path)
os.fchown(held, pwd.getpwnam(owner).pw_uid, -1)
os.fchmod(held, int(mode, 8))
"""
"""A Python program with the arguments PATH, OWNER, MODE: sets both, follows no link, refuses hard links."""

REMOVE = r"""
import os, stat, sys
*folders, name = sys.argv[1].strip("/").split("/")
held = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
for folder in folders:
    # In a folder of root's a link is the administrator's own.
    found = os.fstat(held)
    trusted = found.st_uid == 0 and not found.st_mode & stat.S_IWOTH
    flags = os.O_RDONLY | os.O_DIRECTORY | (0 if trusted else os.O_NOFOLLOW)
    try:
        held = os.open(folder, flags, dir_fd=held)
    except FileNotFoundError:
        sys.exit()
    except OSError:
        sys.exit("%s: %s is a link, which is not followed" % (sys.argv[1], folder))
os.fchdir(held)
os.execvp("rm", ["rm", "-rf", "--", "./" + name])
"""
"""A Python program with the argument PATH: removes it, and follows no link of other users than root."""

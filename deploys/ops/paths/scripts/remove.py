# Remove the path in the first argument; follow no link of other users than root.

import os
import stat
import sys

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

# Set owner and mode of a path (arguments PATH, OWNER, MODE); follow no link, refuse hard links.

import os
import pwd
import stat
import sys

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

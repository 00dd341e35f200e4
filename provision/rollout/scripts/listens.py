# Succeed as soon as one of the servers in the arguments accepts a connection.

import socket
import sys

for name in sys.argv[1:]:
    address, _, port = name.rpartition(":")
    try:
        socket.create_connection((address.strip("[]"), int(port)), timeout=5).close()
        sys.exit(0)
    except OSError:
        pass
sys.exit(1)

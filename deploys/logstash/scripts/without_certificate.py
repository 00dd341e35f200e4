# Fail if the server at a port accepts a client without a certificate (arguments PORT, AUTHORITY).
# TLS 1.3 requests the certificate of the client after the handshake: only reading shows the refusal.

import socket
import ssl
import sys

context = ssl.create_default_context(cafile=sys.argv[2])
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10) as plain:
    try:
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as line:
            if line.recv(1):
                sys.exit("it answers a client without a certificate")
    except (ssl.SSLError, ConnectionError) as error:
        broken = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER")
        sys.exit(str(error) if getattr(error, "reason", "") in broken else 0)
sys.exit("it accepts a client without a certificate")

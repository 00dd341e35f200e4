# Print the versions of TLS that the server at the port in the first argument offers, as JSON.
# Level 0 makes the client accept everything, so that only nginx refuses.

import json
import socket
import ssl
import sys
import warnings

warnings.simplefilter("ignore")
offered = {}
for name in ("TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[name]
    try:
        plain = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
    except OSError as error:
        print(json.dumps([{}, str(error)]))
        break
    with plain:
        try:
            with context.wrap_socket(plain):
                offered[name] = True
        except (ssl.SSLError, ConnectionError):
            offered[name] = False
else:
    print(json.dumps([offered, ""]))

# Print status and `Location` of an answer (arguments SCHEME, PORT, METHOD, PATH, NAME) as JSON.
# A handshake contains the name of the server only if it is not an address.

import http.client
import json
import ssl
import sys

scheme, port, method, path, name = sys.argv[1:]


class ByServerName(http.client.HTTPSConnection):
    def connect(self):
        http.client.HTTPConnection.connect(self)
        self.sock = ssl._create_unverified_context().wrap_socket(self.sock, server_hostname=name.strip("[]"))


kind = ByServerName if scheme == "https" else http.client.HTTPConnection
connection = kind("127.0.0.1", int(port), timeout=10)
try:
    connection.request(method, path, headers={"Host": name})
    answer = connection.getresponse()
    found: tuple[int | None, str | None] = answer.status, answer.getheader("Location")
except ConnectionResetError:  # also a connection that is closed without an answer
    found = 0, None
except (OSError, http.client.HTTPException) as error:
    unknown = "UNRECOGNIZED_NAME" in (getattr(error, "reason", None) or "")
    found = (0, None) if unknown else (None, str(error) or type(error).__name__)
print(json.dumps(found))

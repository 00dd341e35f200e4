# Print what a URL of Grafana returns (arguments URL and optionally the file of the password).
# Its certificate is the project's; on its own loopback, a host need not check it.

import base64
import ssl
import sys
import urllib.error
import urllib.request as u

headers = {}
if sys.argv[2:]:
    password = open(sys.argv[2], encoding="utf-8").read()
    headers["Authorization"] = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()
try:
    request = u.Request(sys.argv[1], headers=headers)
    print(u.urlopen(request, timeout=10, context=ssl._create_unverified_context()).read().decode())
except urllib.error.HTTPError as refusal:
    sys.exit(f"HTTP {refusal.code}") if refusal.code not in (401, 403) else print("refused")

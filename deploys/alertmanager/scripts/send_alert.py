# Print the status of a POST (arguments CHAIN, KEY, TRUSTED, URL and optionally the file of a token).

import ssl
import sys
import urllib.error
import urllib.request as u

chain, key, trusted = sys.argv[1:4]
token = open(sys.argv[5]).read() if sys.argv[5:] else ""
headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
try:
    context = None
    if sys.argv[4].startswith("https:"):
        context = ssl.create_default_context(cafile=trusted)
        context.load_cert_chain(chain, key)
    request = u.Request(sys.argv[4], b"{}", headers)
    answer = u.urlopen(request, timeout=10, context=context).status
except urllib.error.HTTPError as refusal:
    answer = refusal.code
except OSError as error:
    answer = error
print(answer)

# Download the URL on standard input into the file in the first argument; continue a partial file.

import http.client
import os
import sys
import time
import urllib.error
import urllib.request

url, part = sys.stdin.readline().strip(), sys.argv[1]
problem = "nothing came"
for attempt in range(5):
    time.sleep(attempt)
    have = os.path.getsize(part) if os.path.exists(part) else 0
    try:
        request = urllib.request.Request(url, headers={"Range": "bytes=%d-" % have} if have else {})
        with urllib.request.urlopen(request, timeout=60) as answer:
            expected = int(answer.headers.get("Content-Length") or -1)
            came = 0
            with open(part, "ab" if answer.status == 206 else "wb") as file:
                while piece := answer.read(262144):
                    file.write(piece)
                    came += len(piece)
        if expected in (-1, came):
            sys.exit(0)
        problem = "the connection broke off"
    except urllib.error.HTTPError as error:
        if error.code == 416:
            sys.exit(0)
        problem = "the server answers %d %s" % (error.code, error.reason)
        if error.code < 500 and error.code not in (408, 429):
            break
    except (OSError, http.client.HTTPException) as error:
        problem = str(getattr(error, "reason", error))
sys.exit("cannot be fetched: %s; the next run continues" % problem)

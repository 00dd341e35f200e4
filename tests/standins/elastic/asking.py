"""Asking Elasticsearch on its own host, as `elastic`."""

from __future__ import annotations

import json
import shlex
from typing import Any

_PROGRAM = (
    "import base64,json,ssl,sys,urllib.request as u;"
    "login=base64.b64encode(open('/etc/clawd/elasticsearch/elastic','rb').read().strip()).decode();"
    "c=ssl.create_default_context(cafile='/etc/elasticsearch/clawd-tls/ca.pem');"
    "m,p,b=sys.argv[1:];"
    "r=u.Request('https://127.0.0.1:9200'+p,data=b.encode() or None,method=m,"
    "headers={'Authorization':'Basic '+login,'Content-Type':'application/json'});"
    "print(u.urlopen(r,context=c,timeout=10).read().decode())"
)


def asking(method: str, path: str, body: Any = None) -> str:
    """Return the shell command that prints the answer; run it as root."""
    words = [_PROGRAM, method, path, json.dumps(body) if body is not None else ""]
    return "python3 -c " + " ".join(map(shlex.quote, words))

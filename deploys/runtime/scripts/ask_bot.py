# Ask the bot a question through its console; settings on standard input and result are JSON objects.
# Only the standard library is available on hosts.

import http.client
import json
import ssl
import sys
import time
import uuid

given = json.load(sys.stdin)
result = {"problem": "", "status": 0, "ending": 0, "body": "", "error": "", "text": "", "ended": False}
deadline = time.monotonic() + given["seconds"]


class VerifiedByName(http.client.HTTPSConnection):
    def connect(self):
        http.client.HTTPConnection.connect(self)
        context = ssl.create_default_context()
        try:
            context.load_verify_locations(cafile=given["chain"])
        except (OSError, ssl.SSLError):
            pass
        # The chain on the disk may end below its root.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self.sock = context.wrap_socket(self.sock, server_hostname=given["name"])


def ask(text, token):
    kind = VerifiedByName if given["name"] else http.client.HTTPConnection
    connection = kind("127.0.0.1", given["port"], timeout=30)
    body = json.dumps({"text": text, "conversation": "verify", "id": uuid.uuid4().hex})
    headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
    name = given["name"] or "localhost"
    headers["Host"] = "[" + name + "]" if ":" in name else name
    connection.request("POST", "/console/v1/messages", body, headers)
    return connection.getresponse()


def listen(answer):
    event = ""
    for raw in answer:
        line = raw.decode("utf-8", "replace").rstrip("\n")
        if line.startswith("event:"):
            event = line[6:].strip()
        elif line.startswith("data:"):
            data = json.loads(line[5:])
            if event == "error":
                result["error"] = data["message"]
                return
            if event == "done":
                result["text"], result["ended"] = data["text"], bool(data["text"].strip())
                return
        if time.monotonic() > deadline:
            return


try:
    answer = ask(given["text"], given["tokens"][0])
    result["status"] = answer.status
    if answer.status == 200:
        listen(answer)
        # End the conversation, so that its words are deleted like those of any ended conversation.
        if result["ended"]:
            answer = ask("/new", given["tokens"][1])
            result["ending"] = answer.status
            body = answer.read()
            if answer.status != 200:
                result["body"] = body[:300].decode("utf-8", "replace").strip()
    else:
        result["body"] = answer.read(300).decode("utf-8", "replace").strip()
except (OSError, http.client.HTTPException, ValueError) as error:
    if not result["status"]:
        result["problem"] = str(error)
    elif result["ended"] and not result["ending"]:
        result["body"] = str(error)
print(json.dumps(result))
